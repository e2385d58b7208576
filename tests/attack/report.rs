//! What was seen, as Markdown and as JSON, beside the goals. Pure.

use crate::arena::{After, Outcome};
use crate::parser::Parsed;
use crate::probe::Observed;
use crate::strikes::Strike;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Peak memory during every attack.
const RSS_MAX_KIB: u64 = 64 << 10;

/// The p99 of the client beside an attack, in multiples of its p99 alone.
const P99_FACTOR_MAX: f64 = 10.0;

/// One attack; an error is the reason why it was not run.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) strike: &'static Strike,
    pub(crate) service: Result<Outcome, String>,
    pub(crate) tiny: Option<Result<Outcome, String>>,
}

/// All of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The well-behaved client without an attack, several times.
    pub(crate) alone: Vec<Observed>,
    pub(crate) rows: Vec<Row>,
    pub(crate) parsed: Vec<Parsed>,
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// 0 means unknown: the process was started by another program.
fn mib(kib: u64) -> String {
    if kib == 0 {
        return "unknown".to_owned();
    }
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

impl Report {
    fn alone(&self) -> Duration {
        let mut all: Vec<Duration> = self.alone.iter().map(|seen| seen.p99).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    fn factor(&self, outcome: &Outcome) -> f64 {
        outcome.beside.p99.as_secs_f64() / self.alone().as_secs_f64().max(1e-6)
    }

    fn outcomes(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        let rows = self.rows.iter();
        rows.filter_map(|row| Some((row.strike.title, row.service.as_ref().ok()?)))
    }

    /// Whether the goals that a slow machine cannot spoil were met.
    pub(crate) fn is_good(&self) -> bool {
        let stood = |(_, outcome): (_, &Outcome)| {
            outcome.after == After::Healthy && outcome.rss_kib <= RSS_MAX_KIB
        };
        self.outcomes().all(stood) && self.parsed.iter().all(|parsed| parsed.service.is_right)
    }

    /// The tables.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            self.strikes(&mut out);
            self.goals(&mut out);
        }
        if !self.parsed.is_empty() {
            self.parser(&mut out);
        }
        out
    }

    fn strikes(&self, out: &mut String) {
        let alone = ms(self.alone());
        let _ = writeln!(
            out,
            "| attack | what it saw | threads | peak RSS | files: peak, after | p99 beside it (alone: {alone}) | afterwards | tiny_http 0.12, 8 workers |\n|---|---|---|---|---|---|---|---|"
        );
        for row in &self.rows {
            let tiny = match &row.tiny {
                None => "–".to_owned(),
                Some(Ok(outcome)) => tiny(outcome),
                Some(Err(why)) => format!("not tried: {why}"),
            };
            let title = row.strike.title;
            let _ = match &row.service {
                Err(why) => writeln!(out, "| {title} | not tried: {why} | | | | | | {tiny} |"),
                Ok(o) => writeln!(
                    out,
                    "| {title} | {} | {} | {} | {}, {} | {} ({:.1}×){} | {} | {tiny} |",
                    o.note,
                    o.threads,
                    mib(o.rss_kib),
                    o.files_peak,
                    o.files_after,
                    ms(o.beside.p99),
                    self.factor(o),
                    failed(o),
                    after(&o.after),
                ),
            };
        }
    }

    fn goals(&self, out: &mut String) {
        let worst = |unit: fn(&Self, &Outcome) -> f64| {
            let judged = self.outcomes().filter(|(_, o)| o.unjudged.is_none());
            let values = judged.map(|(title, o)| (unit(self, o), title));
            values
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap_or_default()
        };
        let (rss, rss_at) = worst(|_, o| o.rss_kib as f64);
        let (factor, factor_at) = worst(Self::factor);
        let (failures, failures_at) = worst(|_, o| o.beside.failed as f64);
        let well = self.outcomes().filter(|(_, o)| o.after == After::Healthy);
        let (well, all) = (well.count(), self.outcomes().count());
        let _ = writeln!(
            out,
            "\n| goal | seen | |\n|---|---|---|\n\
             | alive and well after every attack | {well} of {all} | {} |\n\
             | at most 64 MiB | {} ({rss_at}) | {} |\n\
             | p99 beside an attack at most 10 × alone | {factor:.1} × ({factor_at}) | {} |\n\
             | no failed request beside an attack | {failures} ({failures_at}) | {} |",
            met(well == all),
            mib(rss as u64),
            match rss > 0.0 {
                true => met(rss as u64 <= RSS_MAX_KIB),
                false => "not judged",
            },
            met(factor <= P99_FACTOR_MAX),
            met(failures == 0.0),
        );
    }

    fn parser(&self, out: &mut String) {
        let both = self.parsed.iter().any(|parsed| parsed.tiny.is_some());
        let _ = writeln!(
            out,
            "\n| input | must be | service | tiny_http 0.12 |\n|---|---|---|---|"
        );
        for parsed in &self.parsed {
            let tiny = parsed.tiny.as_ref();
            let tiny = tiny.map_or_else(|| "–".to_owned(), |reaction| reaction.to_string());
            let (name, service) = (parsed.name, &parsed.service);
            let _ = writeln!(out, "| {name} | {} | {service} | {tiny} |", parsed.expected);
        }
        let all = self.parsed.len();
        let service = self.parsed.iter().filter(|parsed| parsed.service.is_right);
        let _ = write!(
            out,
            "\nAs it must be: {} of {all} by the service",
            service.count()
        );
        if both {
            let is_right = |parsed: &&Parsed| parsed.tiny.as_ref().is_some_and(|r| r.is_right);
            let tiny = self.parsed.iter().filter(is_right).count();
            let _ = write!(out, ", {tiny} of {all} by tiny_http");
        }
        let _ = writeln!(out, ".");
    }

    /// The figures.
    pub(crate) fn json(&self) -> Value {
        let outcome = |o: &Result<Outcome, String>| match o {
            Err(why) => json!({"not_tried": why}),
            Ok(o) => json!({
                "saw": o.note,
                "threads": o.threads,
                "peak_rss_kib": o.rss_kib,
                "files_before": o.files_before,
                "files_peak": o.files_peak,
                "files_after": o.files_after,
                "asked_beside": o.beside.asked,
                "failed_beside": o.beside.failed,
                "p99_beside_us": o.beside.p99.as_micros() as u64,
                "afterwards": after(&o.after),
            }),
        };
        let rows = self.rows.iter().map(|row| {
            json!({
                "attack": row.strike.name,
                "service": outcome(&row.service),
                "tiny_http": row.tiny.as_ref().map(outcome),
            })
        });
        let parsed = self.parsed.iter().map(|parsed| {
            json!({
                "input": parsed.name,
                "must_be": parsed.expected,
                "service": parsed.service.to_string(),
                "service_is_right": parsed.service.is_right,
                "tiny_http": parsed.tiny.as_ref().map(ToString::to_string),
            })
        });
        json!({
            "p99_alone_us": self.alone().as_micros() as u64,
            "attacks": rows.collect::<Vec<Value>>(),
            "parser": parsed.collect::<Vec<Value>>(),
        })
    }
}

fn met(is: bool) -> &'static str {
    if is { "met" } else { "**not met**" }
}

fn failed(o: &Outcome) -> String {
    let failed = match o.beside.failed {
        0 => String::new(),
        failed => format!(", **{failed} of {} failed**", o.beside.asked),
    };
    let why = o.unjudged.map(|why| format!("; not judged: {why}"));
    failed + &why.unwrap_or_default()
}

fn after(after: &After) -> String {
    match after {
        After::Healthy => "well".to_owned(),
        After::Unresponsive => "**no response**".to_owned(),
        After::Exited(how) => format!("**dead: {how}**"),
        After::OutOfMemory => "**ended by us at 1 GiB**".to_owned(),
    }
}

/// Another program's pod_script, in one cell.
fn tiny(o: &Outcome) -> String {
    let mut cell = format!(
        "{} threads, {}, {} files after",
        o.threads,
        mib(o.rss_kib),
        o.files_after
    );
    let _ = write!(cell, "; {}; p99 beside {}", o.note, ms(o.beside.p99));
    let _ = write!(cell, "{}; {}", failed(o), after(&o.after));
    cell
}
