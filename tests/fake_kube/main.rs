//! The fake API server by itself, for manual trials:
//! `cargo run --example fake-kube`, then use the kubeconfig whose path it prints.

#[path = "mod.rs"]
mod fake_kube;

use std::io::Read as _;
use std::process::ExitCode;

use fake_kube::FakeKube;

const USAGE: &str = "\
Usage: cargo run --example fake-kube

Runs a Kubernetes API server in memory, and prints the path of its kubeconfig, which is
written to the folder of temporary files. It takes no arguments but --help.
";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprint!("'{other}' is no argument of fake-kube.\n\n{USAGE}");
            return ExitCode::from(2);
        }
    }
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
