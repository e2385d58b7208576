//! The fake API server by itself, for manual trials:
//! `cargo run --example fake-kube`, then use the kubeconfig whose path it prints.

#[path = "mod.rs"]
mod fake_kube;

use std::io::Read as _;
use std::process::ExitCode;

use fake_kube::FakeKube;

fn main() -> ExitCode {
    let fake = match FakeKube::builder().tls().start() {
        Ok(fake) => fake,
        Err(e) => {
            eprintln!("cannot listen: {e}");
            return ExitCode::FAILURE;
        }
    };
    let path = std::env::temp_dir().join(format!("fake-kube-{}.yaml", fake.address().port()));
    if let Err(e) = std::fs::write(&path, fake.kubeconfig("default")) {
        eprintln!("cannot write {}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    println!("A fake Kubernetes API server listens at {}.", fake.url());
    println!("Its kubeconfig is");
    println!("{}", path.display());
    println!("End of input (Ctrl-D) or Ctrl-C stops it.");
    // Input is ignored until its end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
