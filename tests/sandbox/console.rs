//! What the sandbox says while it runs: one line an event, on standard output.
//!
//! Also the logger behind the service's log, so that its lines stand among the
//! others in the order in which things happened. Which words are said is
//! decided by those who call; here is only how a line looks.

use std::io::Write as _;
use std::time::Instant;

/// Where lines go; clones write to the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    started: Instant,
}

impl Console {
    /// Begins now: lines tell the time since then.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Says what somebody did: `[  1.2 s] who: what`.
    pub(crate) fn say(self, who: &str, what: &str) {
        let secs = self.started.elapsed().as_secs_f64();
        print(&format!("[{secs:6.1} s] {who}: {}\n", one_line(what)));
    }

    /// Routes the log of the service to this console.
    pub(crate) fn listen_to_log(self) {
        log::set_max_level(log::LevelFilter::Info);
        // Nobody else sets a logger in this program.
        let _ = log::set_boxed_logger(Box::new(self));
    }
}

/// Prints a text of several lines as it is.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: then nobody misses it either.
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
        // What libraries say below a warning is of no use here.
        metadata.target().starts_with("config_controller") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args();
        match record.level() {
            log::Level::Error => self.say("service", &format!("error: {text}")),
            log::Level::Warn => self.say("service", &format!("warning: {text}")),
            _ => self.say("service", &text.to_string()),
        }
    }

    fn flush(&self) {}
}
