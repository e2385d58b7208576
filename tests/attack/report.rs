//! What was seen, as Markdown and as JSON, beside the goals. Pure.

use crate::arena::{After, Outcome};
use crate::memory_group::LIMIT_BYTES;
use crate::parser::Parsed;
use crate::probe::Observed;
use crate::strikes::{P99_FLOOR, Strike};
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
    /// Why there was no memory limit, if so.
    pub(crate) groupless: Option<String>,
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

    /// What the client saw beside the attack, in multiples of what it saw alone, on the same target
    /// where that is one of its own.
    fn factor(&self, outcome: &Outcome) -> f64 {
        let alone = outcome
            .alone
            .map_or_else(|| self.alone(), |alone| alone.p99);
        outcome.beside.p99.as_secs_f64() / alone.as_secs_f64().max(1e-6)
    }

    /// Whether the client beside it was served well enough.
    fn is_fair(&self, outcome: &Outcome) -> bool {
        self.factor(outcome) <= P99_FACTOR_MAX || outcome.beside.p99 <= outcome.p99_floor
    }

    fn outcomes(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        let rows = self.rows.iter();
        rows.filter_map(|row| Some((row.strike.title, row.service.as_ref().ok()?)))
    }

    /// Whether the goals that a slow machine cannot spoil were met.
    pub(crate) fn is_good(&self) -> bool {
        let stood =
            |(_, outcome): (_, &Outcome)| outcome.is_good() && outcome.rss_kib <= RSS_MAX_KIB;
        self.outcomes().all(stood) && self.parsed.iter().all(|parsed| parsed.service.is_right)
    }

    /// The tables.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            self.strikes(&mut out);
            self.goals(&mut out);
            self.comparison(&mut out);
        }
        if !self.parsed.is_empty() {
            self.parser(&mut out);
        }
        out
    }

    /// One row an attack; threads, files and probes are in the JSON.
    fn strikes(&self, out: &mut String) {
        let alone = ms(self.alone());
        let _ = writeln!(
            out,
            "| attack | what it saw | peak RSS | p99 beside it (alone: {alone}) |\n|---|---|---|---|"
        );
        for row in &self.rows {
            let title = row.strike.title;
            let _ = match &row.service {
                Err(why) => writeln!(out, "| {title} | not tried: {why} | | |"),
                Ok(o) => writeln!(
                    out,
                    "| {title} | {}{} | {} | {} |",
                    note(o),
                    ending(&o.after),
                    // That of the group counts where the service was never ready.
                    mib(if o.rss_kib > 0 {
                        o.rss_kib
                    } else {
                        o.group_kib
                    }),
                    self.beside(o),
                ),
            };
        }
    }

    /// What the same attacks did to the other program.
    fn comparison(&self, out: &mut String) {
        let tried = || self.rows.iter().filter(|row| row.tiny.is_some());
        if tried().next().is_none() {
            return;
        }
        let _ = writeln!(out, "\n| attack | tiny_http 0.12, 8 workers |\n|---|---|");
        for row in tried() {
            let cell = match &row.tiny {
                Some(Ok(outcome)) => tiny(outcome),
                Some(Err(why)) => format!("not tried: {why}"),
                None => continue,
            };
            let _ = writeln!(out, "| {} | {cell} |", row.strike.title);
        }
    }

    /// The cell of the client beside it.
    fn beside(&self, o: &Outcome) -> String {
        let (p99, factor, failed) = (ms(o.beside.p99), self.factor(o), failed(o));
        match self.is_fair(o) || o.unjudged.is_some() {
            true => format!("{p99} ({factor:.1}×){failed}"),
            false => format!("**{p99} ({factor:.1}×)**{failed}"),
        }
    }

    fn goals(&self, out: &mut String) {
        let judged = || self.outcomes().filter(|(_, o)| o.unjudged.is_none());
        let rss = self.outcomes().max_by_key(|(_, o)| o.rss_kib);
        let (rss, rss_at) = rss.map_or((0, ""), |(title, o)| (o.rss_kib, title));
        let used = self.outcomes().max_by_key(|(_, o)| o.used_kib);
        let (used, used_at) = used.map_or((0, ""), |(title, o)| (o.used_kib, title));
        let failures = judged().max_by_key(|(_, o)| o.beside.failed);
        let (failures, failures_at) =
            failures.map_or((0, ""), |(title, o)| (o.beside.failed, title));
        let live = self
            .outcomes()
            .filter(|(_, o)| o.is_live)
            .max_by_key(|(_, o)| o.beside.live);
        let (live, live_at) =
            live.map_or((Duration::ZERO, ""), |(title, o)| (o.beside.live, title));
        let all = self.outcomes().count();
        let well = self.outcomes().filter(|(_, o)| o.after == After::Healthy);
        let right = self.outcomes().filter(|(_, o)| o.wrong.is_empty());
        let (well, right) = (well.count(), right.count());
        let unfair: Vec<&str> = judged()
            .filter(|(_, o)| !self.is_fair(o))
            .map(|(title, _)| title)
            .collect();
        let limit = match &self.groupless {
            None => format!("within {} MiB", LIMIT_BYTES >> 20),
            Some(why) => format!("without a memory limit: {why}"),
        };
        let _ = writeln!(
            out,
            "\n| goal | seen | |\n|---|---|---|\n\
             | alive and well after every attack ({limit}) | {well} of {all} | {} |\n\
             | each response whole, each refusal with its code, others served | {right} of {all} | {} |\n\
             | at most {} MiB | {} ({rss_at}) | {} |\n\
             | at most {} MiB with what the kernel keeps, also for sockets | {} ({used_at}) | {} |\n\
             | p99 beside an attack at most 10 × alone, or {} | {} | {} |\n\
             | no failed request beside an attack | {failures} ({failures_at}) | {} |\n\
             | `/livez` within a second | {} ({live_at}) | {} |",
            met(well == all),
            met(right == all),
            RSS_MAX_KIB >> 10,
            mib(rss),
            match rss > 0 {
                true => met(rss <= RSS_MAX_KIB),
                false => "not judged",
            },
            LIMIT_BYTES >> 20,
            mib(used),
            match used > 0 {
                true => met(used <= LIMIT_BYTES >> 10),
                false => "not judged",
            },
            ms(P99_FLOOR),
            match unfair.is_empty() {
                true => "always".to_owned(),
                false => format!("not beside: {}", unfair.join("; ")),
            },
            met(unfair.is_empty()),
            met(failures == 0),
            ms(live),
            met(live <= Duration::from_secs(1)),
        );
    }

    /// Inputs with the same outcome share a row; bold are those that the other program takes alike.
    fn parser(&self, out: &mut String) {
        let both = self.parsed.iter().any(|parsed| parsed.tiny.is_some());
        let title = match both {
            true => "inputs (**bold**: tiny_http 0.12 does the same)",
            false => "inputs",
        };
        let mut rows: Vec<((&str, String), Vec<String>)> = Vec::new();
        for parsed in &self.parsed {
            let outcome = (parsed.expected.as_str(), parsed.service.to_string());
            let name = match parsed.tiny.as_ref().is_some_and(|tiny| tiny.is_right) {
                true => format!("**{}**", parsed.name),
                false => parsed.name.to_owned(),
            };
            match rows.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, names)) => names.push(name),
                None => rows.push((outcome, vec![name])),
            }
        }
        let _ = writeln!(out, "\n| must be | service | {title} |\n|---|---|---|");
        for ((expected, service), names) in rows {
            let _ = writeln!(out, "| {expected} | {service} | {} |", names.join("; "));
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
                "p50_beside_us": o.beside.p50.as_micros() as u64,
                "p99_beside_us": o.beside.p99.as_micros() as u64,
                "p99_alone_us": o.alone.map(|alone| alone.p99.as_micros() as u64),
                "longest_livez_us": o.beside.live.as_micros() as u64,
                "wrong": o.wrong,
                "peak_of_group_kib": o.group_kib,
                "peak_with_sockets_kib": o.used_kib,
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

/// What the attack saw, and what is wrong with it.
fn note(o: &Outcome) -> String {
    let others = o.wrong.iter().filter(|wrong| **wrong != o.note);
    let wrong: Vec<String> = others.map(|wrong| format!("; **{wrong}**")).collect();
    match o.wrong.contains(&o.note) {
        true => format!("**{}**{}", o.note, wrong.concat()),
        false => format!("{}{}", o.note, wrong.concat()),
    }
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
        After::NotReady(why) => format!("**not ready: {why}**"),
        After::OutOfMemory => "**killed: out of memory**".to_owned(),
    }
}

/// What an attack has left, where that is worth a word.
fn ending(is: &After) -> String {
    match is {
        After::Healthy => String::new(),
        other => format!("; afterwards {}", after(other)),
    }
}

/// What became of another program, in one cell.
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
