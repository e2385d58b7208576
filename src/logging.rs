//! The log: one line per event on standard error, as text or as JSON.
//!
//! env_logger filters and writes, [`limit`] bounds the lines of each cause, and this file formats a
//! line. Control characters are escaped, so that untrusted text cannot forge a line, and the token after
//! `Bearer ` is hidden. The trace level is compiled out, because the HTTP client logs tokens at that
//! level.
//!
//! No line is essential that is bounded here: what ends the program is printed by `main`, and a
//! program logs its start and its end once.

pub mod limit;

use crate::clock::{Clock, SystemClock};
use crate::config::LogFormat;
use crate::threads;
use limit::{Cause, Decision, EVENT_LINES_MAX, LINES_MAX, Limiter, Summary};
use log::{Level, Log};
use std::borrow::Cow;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

/// The modules whose lines are events of instances, a few for each start and stop.
pub(crate) const INSTANCE_EVENTS: [&str; 2] = [
    "config_controller::app::reporter",
    "config_controller::app::usage",
];

/// The levels at which a line can be left out, as metrics name them.
pub const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];

/// How many lines of each of [`LEVELS`] this process has left out. As the log itself, there is one.
static LEFT_OUT: [AtomicU64; LEVELS.len()] = [const { AtomicU64::new(0) }; LEVELS.len()];

/// Starts the logger of this process; a second call changes nothing.
pub fn init(filter: &str, format: LogFormat) {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    let (due, ended) = sync_channel(limit::CAUSES_MAX);
    let logger = Logger::new(builder, format, Arc::new(SystemClock), due);
    // Only tests call this twice in a process; they can use the first logger.
    if LOGGER.set(logger).is_err() {
        return;
    }
    let logger = LOGGER.get().expect("it was just set");
    if log::set_logger(logger).is_err() {
        return;
    }
    log::set_max_level(logger.inner.filter());
    // Without this thread, what was left out is reported with the next line of its cause.
    let ignored = Arc::new(|_: &str| ());
    let _ = threads::spawn("log".into(), ignored, move || logger.report_ended(&ended));
}

/// How many lines of each level this process has left out, for
/// `config_controller_log_lines_left_out_total`.
pub fn left_out() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = LEFT_OUT.iter().map(|count| count.load(Ordering::Relaxed));
    LEVELS.into_iter().zip(counts)
}

/// Writes the lines that pass the filter and the limiter.
struct Logger {
    inner: env_logger::Logger,
    limiter: Mutex<Limiter>,
    clock: Arc<dyn Clock>,
    /// When summaries of lines that were left out are due.
    due: SyncSender<Instant>,
}

impl Logger {
    fn new(
        mut builder: env_logger::Builder,
        format: LogFormat,
        clock: Arc<dyn Clock>,
        due: SyncSender<Instant>,
    ) -> Self {
        builder.format(move |out, record| {
            out.write_all(line(SystemTime::now(), record, format).as_bytes())
        });
        Self {
            inner: builder.build(),
            limiter: Mutex::default(),
            clock,
            due,
        }
    }

    /// Reports what was left out at the end of each minute.
    fn report_ended(&self, due: &Receiver<Instant>) {
        for at in due {
            thread::sleep(at.saturating_duration_since(self.clock.now()));
            let ended = threads::lock(&self.limiter).ended(self.clock.now());
            self.write(ended);
        }
    }

    fn write(&self, summaries: impl IntoIterator<Item = Summary>) {
        for summary in summaries {
            let mut record = log::Record::builder();
            let record = record.level(summary.level).target(&summary.target);
            self.inner
                .log(&record.args(format_args!("{}", summary.text)).build());
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        let cause = Cause {
            level: record.level(),
            place: record.file_static().zip(record.line()),
        };
        let text = || (record.target().to_owned(), record.args().to_string());
        let (decision, summary) =
            threads::lock(&self.limiter).admit(cause, most(record), self.clock.now(), text);
        self.write(summary);
        match decision {
            Decision::Write => return self.inner.log(record),
            // If the queue is full, an entry before reports this one too.
            Decision::LeaveOutFirst(at) => drop(self.due.try_send(at)),
            Decision::LeaveOut => {}
        }
        // Levels count from 1.
        if let Some(count) = LEFT_OUT.get(record.level() as usize - 1) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports all that was left out, before the program ends.
    fn flush(&self) {
        let closed = threads::lock(&self.limiter).close(self.clock.now());
        self.write(closed);
        self.inner.flush();
    }
}

/// How many lines like this may be written in a minute.
fn most(record: &log::Record<'_>) -> u32 {
    let module = record.module_path();
    let is_event = module.is_some_and(|module| INSTANCE_EVENTS.contains(&module));
    if record.level() >= Level::Debug || is_event {
        EVENT_LINES_MAX
    } else {
        LINES_MAX
    }
}

fn line(time: SystemTime, record: &log::Record<'_>, format: LogFormat) -> String {
    let message = record.args().to_string();
    let message = redact(&message);
    let time = humantime::format_rfc3339_millis(time).to_string();
    match format {
        LogFormat::Text => {
            let message = escaped(&message, |c| c.escape_default().to_string());
            format!("{time} {:5} {message}\n", record.level())
        }
        LogFormat::Json => {
            let mut object = serde_json::json!({
                "time": time,
                "level": record.level().as_str().to_ascii_lowercase(),
                "target": record.target(),
                "msg": message,
            });
            if let Some(object) = object.as_object_mut() {
                // It visits all, since no field fails.
                let _ = record.key_values().visit(&mut Fields(object));
            }
            // As JSON does; serde_json itself escapes only characters below the space.
            let escape = |c| format!("\\u{:04x}", u32::from(c));
            escaped(&object.to_string(), escape).into_owned() + "\n"
        }
    }
}

/// Adds the fields of a record that are texts or numbers to its JSON object. What is there already stays.
struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        let key = key.as_str();
        let text = value.to_borrowed_str().map(|text| redact(text).into());
        let value = text.or_else(|| Some(value.to_f64()?.into()));
        if let Some(value) = value.filter(|_| !self.0.contains_key(key)) {
            self.0.insert(key.to_owned(), value);
        }
        Ok(())
    }
}

/// Whether a character controls a terminal or the layout of text: control characters, line and paragraph
/// separators, changes of the text direction.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces control characters with their escapes, so that one event stays on one line.
fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            escaped.push_str(&escape(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Hides the token after each `Bearer `, in upper or lower case.
fn redact(text: &str) -> Cow<'_, str> {
    const SCHEME: &str = "bearer ";
    // ASCII lower case keeps byte offsets.
    let lower = text.to_ascii_lowercase();
    if !lower.contains(SCHEME) {
        return Cow::Borrowed(text);
    }
    let mut hidden = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(SCHEME) {
        let start = at + found + SCHEME.len();
        let length = text[start..]
            .find([' ', '"', '\'', ',', '\n'])
            .unwrap_or(text.len() - start);
        hidden.push_str(&text[at..start]);
        hidden.push_str("[hidden]");
        at = start + length;
    }
    hidden.push_str(&text[at..]);
    Cow::Owned(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use std::io::{self, Write};
    use std::time::{Duration, Instant, SystemTime};

    #[track_caller]
    fn check(message: &str, format: LogFormat, expected: &str) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_629_600);
        let line = |message: fmt::Arguments<'_>| {
            let mut record = log::Record::builder();
            let record = record.level(Level::Warn).target("t").args(message);
            line(time, &record.build(), format)
        };
        assert_eq!(line(format_args!("{message}")), expected);
    }

    #[test]
    fn a_line_is_one_event_whatever_is_in_it() {
        check(
            "name 'a\n2026 ERROR forged\u{1b}[31m'",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  name 'a\\n2026 ERROR forged\\u{1b}[31m'\n",
        );
        check(
            "a\u{2028}b\u{202e}c\u{9b}d ä",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  a\\u{2028}b\\u{202e}c\\u{9b}d ä\n",
        );
        check(
            "\u{9b}\u{2028}\t",
            LogFormat::Json,
            "{\"time\":\"2026-05-01T10:00:00.000Z\",\"level\":\"warn\",\"target\":\"t\",\"msg\":\"\\u009b\\u2028\\t\"}\n",
        );
        check(
            "a\nb \"c\"",
            LogFormat::Json,
            "{\"time\":\"2026-05-01T10:00:00.000Z\",\"level\":\"warn\",\"target\":\"t\",\"msg\":\"a\\nb \\\"c\\\"\"}\n",
        );
    }

    /// What was written.
    #[derive(Clone, Debug, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Manual(Mutex<Instant>);

    impl Clock for Manual {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        fn wall_now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
    }

    struct Bench {
        logger: Logger,
        clock: Arc<Manual>,
        due: Receiver<Instant>,
        written: Written,
    }

    impl Bench {
        fn new(format: LogFormat) -> Self {
            let written = Written::default();
            let mut builder = env_logger::Builder::new();
            let pipe = env_logger::Target::Pipe(Box::new(written.clone()));
            builder.parse_filters("debug").target(pipe);
            let clock = Arc::new(Manual(Mutex::new(Instant::now())));
            let (sender, due) = sync_channel(1);
            let of_logger = Arc::clone(&clock) as Arc<dyn Clock>;
            Self {
                logger: Logger::new(builder, format, of_logger, sender),
                clock,
                due,
                written,
            }
        }

        /// Logs a line, from a module and a line of its source.
        fn log(&self, level: Level, module: &'static str, place: u32, text: &str) {
            let mut record = log::Record::builder();
            let record = record.level(level).target(module).line(Some(place));
            let record = record
                .module_path_static(Some(module))
                .file_static(Some("f.rs"));
            self.logger
                .log(&record.args(format_args!("{text}")).build());
        }

        /// What has been written since the last call, without the time.
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.written.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            let message = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(json) => format!(
                    "{} {} {}",
                    json["level"].as_str().unwrap(),
                    json["target"].as_str().unwrap(),
                    json["msg"].as_str().unwrap()
                ),
                Err(_) => line.split_once(' ').unwrap().1.to_owned(),
            };
            text.lines().map(message).collect()
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_counted_in_both_formats() {
        for (format, prefix) in [(LogFormat::Text, "INFO  "), (LogFormat::Json, "info m ")] {
            let bench = Bench::new(format);
            for number in 0..LINES_MAX + 5 {
                bench.log(Level::Info, "m", 1, &format!("line {number}\nx"));
            }
            assert_eq!(bench.lines().len(), LINES_MAX as usize);
            let due = bench.due.try_recv().unwrap();
            assert!(bench.due.try_recv().is_err(), "once for each minute");
            *bench.clock.0.lock().unwrap() = due;
            bench.log(Level::Info, "m", 1, "next");
            let line_break = if format == LogFormat::Text {
                "\\n"
            } else {
                "\n"
            };
            let expected = [
                format!(
                    "{prefix}left out 5 lines like this in the last 60 s: line 60{line_break}x"
                ),
                format!("{prefix}next"),
            ];
            assert_eq!(bench.lines(), expected);
            // As the thread does at the end of a minute.
            for _ in 0..LINES_MAX {
                bench.log(Level::Info, "m", 1, "again");
            }
            assert_eq!(bench.lines().len(), LINES_MAX as usize - 1);
            *bench.clock.0.lock().unwrap() = due + limit::MINUTE;
            let (sender, ended) = sync_channel(1);
            sender.send(bench.due.try_recv().unwrap()).unwrap();
            drop(sender);
            bench.logger.report_ended(&ended);
            let expected = format!("{prefix}left out 1 line like this in the last 60 s: again");
            assert_eq!(bench.lines(), [expected]);
        }
    }

    #[test]
    fn events_of_instances_and_debug_lines_have_a_larger_bound() {
        let bench = Bench::new(LogFormat::Text);
        let info = |module, count: u32| {
            for _ in 0..count {
                bench.log(Level::Info, module, 1, "x");
            }
            bench.lines().len()
        };
        assert_eq!(info("other", EVENT_LINES_MAX), LINES_MAX as usize);
        bench.logger.flush();
        bench.lines();
        let most = EVENT_LINES_MAX as usize;
        assert_eq!(info(INSTANCE_EVENTS[1], EVENT_LINES_MAX + 1), most);
        for _ in 0..=EVENT_LINES_MAX {
            bench.log(Level::Debug, "other", 2, "x");
        }
        assert_eq!(bench.lines().len(), most);
        bench.logger.flush();
        let summary = |level| format!("{level} left out 1 line like this in the last 1 s: x");
        assert_eq!(bench.lines(), [summary("INFO "), summary("DEBUG")]);
    }

    #[test]
    fn lines_that_are_left_out_are_counted_by_level() {
        let bench = Bench::new(LogFormat::Text);
        let count = || left_out().find(|(level, _)| *level == "error").unwrap().1;
        let before = count();
        for _ in 0..LINES_MAX + 7 {
            bench.log(Level::Error, "m", 1, "x");
        }
        // Other tests leave out lines at other levels only.
        assert_eq!(count() - before, 7);
    }

    #[test]
    fn fields_are_in_json_and_replace_nothing() {
        let bench = Bench::new(LogFormat::Json);
        let (nobody, number) = (None::<&str>, 7);
        let fields: [(&str, log::kv::Value<'_>); 5] = [
            ("type", "hello".into()),
            ("name", "Bearer abc".into()),
            ("caller", log::kv::ToValue::to_value(&nobody)),
            ("number", number.into()),
            ("msg", "another".into()),
        ];
        let mut record = log::Record::builder();
        let record = record.level(Level::Info).target("m").key_values(&fields);
        bench
            .logger
            .log(&record.args(format_args!("created Job x")).build());
        let line = std::mem::take(&mut *bench.written.0.lock().unwrap());
        let mut line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        line["time"].take();
        let expected = serde_json::json!({
            "time": null, "level": "info", "target": "m", "msg": "created Job x",
            "type": "hello", "name": "Bearer [hidden]", "number": 7.0,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn tokens_are_hidden() {
        check(
            "authorization: BEARER abc.def, x; Bearer ghi",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  authorization: BEARER [hidden], x; Bearer [hidden]\n",
        );
    }
}
