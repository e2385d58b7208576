//! The program: parses arguments and environment, runs the command, and returns an exit code, one of
//! `config::EXIT_CODES`. Everything else is in the library, where tests can reach it.

use config_controller::clock::{Clock, SystemClock};
use config_controller::config::Config;
use config_controller::config::{self, Command};
use config_controller::{check, logging, service};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    match config::parse_os(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Command::Help) => {
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("config-controller {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Check(config, files)) => checked(&config, &files),
        Ok(Command::Serve(config)) => {
            logging::init(&config.log_filter, config.log_format);
            match service::run(&config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::from(error.exit_code())
                }
            }
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("config-controller: {problem}");
            }
            ExitCode::from(2)
        }
    }
}

/// Prints the table of `check`; the exit code is 1 if something must be fixed.
fn checked(config: &Config, files: &[String]) -> ExitCode {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let report = if files.is_empty() {
        check::cluster(config, &clock)
    } else {
        Ok(check::files(config, files))
    };
    match report {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.is_good()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
