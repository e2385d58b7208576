//! The output of the sandbox while it runs: one line per event, on standard output.
//!
//! Also the logger behind the service's log, so that all lines appear in the order of the events.
//! Callers decide the text; this file only formats lines.

use std::io::Write as _;
use std::time::Instant;

/// Where lines go; clones write to the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    started: Instant,
}

impl Console {
    /// Starts now: each line has the time since then.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Prints an event of a source: `[  1.2 s] source: text`.
    pub(crate) fn log_line(self, source: &str, text: &str) {
        let secs = self.started.elapsed().as_secs_f64();
        print(&format!("[{secs:6.1} s] {source}: {}\n", one_line(text)));
    }

    /// Routes the log of the service to this console.
    pub(crate) fn listen_to_log(self) {
        log::set_max_level(log::LevelFilter::Info);
        // No other code sets a logger in this program.
        let _ = log::set_boxed_logger(Box::new(self));
    }
}

/// Prints a text of several lines as it is.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // If the output is closed, the text is not needed.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Control characters as escapes: text from outside cannot forge a line.
fn one_line(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

impl log::Log for Console {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Messages of libraries below a warning are of no use here.
        metadata.target().starts_with("config_controller") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args();
        match record.level() {
            log::Level::Error => self.log_line("service", &format!("error: {text}")),
            log::Level::Warn => self.log_line("service", &format!("warning: {text}")),
            _ => self.log_line("service", &text.to_string()),
        }
    }

    fn flush(&self) {}
}
