//! The program: reads its arguments and environment, runs the service, and says by its
//! exit code how that went. The codes are listed in `config::EXIT_CODES`.

use config_controller::config::{self, Command};
use config_controller::{logging, service};
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = std::env::vars().collect();
    match config::parse(std::env::args().skip(1), &environment) {
        Ok(Command::Help) => {
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("config-controller {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
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
