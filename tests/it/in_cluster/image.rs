//! Our image on the node of the tests' cluster: the archive that [`GIVEN`] names, else one that is
//! built as it is released.

use std::process::Command;
use std::sync::OnceLock;

use crate::cluster::{Cluster, output};
use crate::harness::repository;

/// The variable that may name an archive, for example of the Containerfile's image.
const GIVEN: &str = "IMAGE_ARCHIVE";

/// What manifests call it.
pub(crate) fn name() -> String {
    format!("config-controller:{}", env!("CARGO_PKG_VERSION"))
}

/// Brings it to the node of the shared cluster, once: two tests that did so at the same moment would
/// be in each other's way.
pub(crate) fn import(cluster: &Cluster) {
    static IMPORTED: OnceLock<()> = OnceLock::new();
    IMPORTED.get_or_init(|| {
        let folder = cluster.folder();
        let mut import = Command::new(repository().join("tests/cluster/import"));
        output(import.arg(archive()).arg(folder));
    });
}

/// Its archive; built once if none is given and it does not exist. That command checks the size,
/// not these tests.
fn archive() -> &'static str {
    static ARCHIVE: OnceLock<String> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        if let Ok(given) = std::env::var(GIVEN) {
            return given;
        }
        let mut build = Command::new(repository().join("tests/image/build"));
        let done = build
            .arg(name())
            .output()
            .expect("tests/image/build can be run");
        let output = String::from_utf8_lossy(&done.stdout);
        let archive = output
            .split_whitespace()
            .find(|word| word.ends_with(".tar"));
        let archive = archive.unwrap_or_else(|| {
            panic!(
                "there is no image: {output}{}",
                String::from_utf8_lossy(&done.stderr)
            )
        });
        repository().join(archive).display().to_string()
    })
}
