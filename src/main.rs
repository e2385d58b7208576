//! The program: parses arguments and environment, runs the command, and returns an exit code, one of
//! `config::EXIT_CODES`. Everything else is in the library, where tests can reach it.

use config_controller::clock::{Clock, SystemClock};
use config_controller::config::{self, Command};
use config_controller::{check, logging, service};
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let command = config::parse_os(
        std::env::args_os().skip(1),
        std::env::vars_os(),
        service::problems,
    );
    let ended = command.map_err(service::Error::Settings).and_then(run);
    ended.unwrap_or_else(|error| {
        // Where that cannot be written either, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "{error}");
        ExitCode::from(error.exit_code())
    })
}

fn run(command: Command) -> Result<ExitCode, service::Error> {
    match command {
        Command::Help => print(&config::help())?,
        Command::Version => {
            print(concat!(
                "config-controller ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ))?;
        }
        Command::Check(config, arguments) => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let output = check::run(&config, &arguments, &clock)?;
            print(&output.text)?;
            return Ok(ExitCode::from(u8::from(!output.is_good)));
        }
        Command::Serve(config) => {
            logging::init(&config.log_filter, config.log_format);
            let ended = service::run(&config);
            log::logger().flush();
            ended?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. A reader that has left, such as `head`, has read what it wanted.
fn print(text: &str) -> Result<(), service::Error> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let text = format!("standard output cannot be written: {error}");
            Err(service::Error::Start(text))
        }
        _ => Ok(()),
    }
}
