//! Every metric that is published: name, labels, meaning, and the counters behind it.
//!
//! A leaf: it knows nothing of the service, and any module that counts may import it. [`ALL`] is
//! the table that `manifests/README.md` shows. Rare events are counted in the typed fields of [`Metrics`];
//! requests are counted in [`Tally`], which costs three additions each. Counters that other modules
//! keep (the front, the stores) are read by [`crate::scrape`] and added to the same [`Registry`] when
//! `/metrics` is scraped. There are no globals.
//!
//! The only file that names the Prometheus crate.

mod families;
mod tally;

pub use families::*;
pub use tally::{METHODS, STATUS_CODES, Tally};

use crate::sorting;
use prometheus::core::Collector;
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, TextEncoder};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The media type of [`Registry::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label value for everything without a value of its own.
pub const OTHER: &str = "_other";

/// The results of starts that each type has from the beginning.
const START_RESULTS: [&str; 3] = ["ready", "failed", "denied"];

/// The causes of stops, as in [`STOPS`].
const STOP_CAUSES: [&str; 5] = ["asked", "replaced", "disrupted", "idle", "forced"];

/// The results of [`Metrics::use_report`].
const REPORT_RESULTS: [&str; 3] = ["sent", "failed", "received"];

/// The scopes of [`Metrics::start_refused`].
const REFUSED_SCOPES: [&str; 6] = [
    "type",
    "owner",
    "all",
    "behind",
    "undecided",
    "not_permitted",
];

/// The causes of [`Metrics::rejected`].
const REJECTED_CAUSES: [&str; 13] = [
    "auth_missing",
    "auth_malformed",
    "auth_unknown",
    "auth_forbidden",
    "auth_slowed",
    "parked_max",
    "caller_share_max",
    "parked_per_key_max",
    "inbox",
    "token_reviews",
    "log_streams",
    "held_bytes_max",
    "instance_bytes_max",
];

/// Distinct reasons that are counted apart; Kubernetes, its nodes and its webhooks invent them.
const REASONS_MAX: usize = 64;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Observations by size; holds the upper bounds of the buckets, in seconds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word of the Prometheus text format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric, as the documentation shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
}

/// The counters of a service.
#[derive(Debug)]
pub struct Metrics {
    /// HTTP requests.
    pub http: Tally,
    starts: IntCounterVec,
    start_reasons: IntCounterVec,
    start_duration: HistogramVec,
    phase_duration: HistogramVec,
    time_to_verdict: HistogramVec,
    stops: IntCounterVec,
    use_reports: IntCounterVec,
    starts_refused: IntCounterVec,
    rejected: IntCounterVec,
    kube_requests: IntCounterVec,
    kube_duration: HistogramVec,
    reasons: Mutex<BTreeSet<Box<str>>>,
    /// How many ended instances of each type were reported, and for how many seconds they were ready.
    usage: Mutex<BTreeMap<Box<str>, (u64, f64)>>,
}

impl Metrics {
    /// Counters at zero, for so many I/O threads and these routes.
    #[must_use]
    pub fn new(io_threads: usize, routes: &[&'static str]) -> Self {
        let rejected = counters(&REJECTED);
        for cause in REJECTED_CAUSES {
            // Begins at 0.
            rejected.with_label_values(&[cause]);
        }
        let use_reports = counters(&USE_REPORTS);
        for result in REPORT_RESULTS {
            use_reports.with_label_values(&[result]);
        }
        let starts_refused = counters(&STARTS_REFUSED);
        for scope in REFUSED_SCOPES {
            starts_refused.with_label_values(&[scope]);
        }
        Self {
            http: Tally::new(io_threads, routes, bounds(&HTTP_REQUEST_DURATION)),
            starts: counters(&STARTS),
            start_reasons: counters(&START_REASONS),
            start_duration: histograms(&START_DURATION),
            phase_duration: histograms(&START_PHASE_DURATION),
            time_to_verdict: histograms(&TIME_TO_VERDICT),
            stops: counters(&STOPS),
            use_reports,
            starts_refused,
            rejected,
            kube_requests: counters(&KUBE_REQUESTS),
            kube_duration: histograms(&KUBE_REQUEST_DURATION),
            reasons: Mutex::default(),
            usage: Mutex::default(),
        }
    }

    /// A start of this replica has ended; `app_type` is one on offer, or [`OTHER`].
    pub fn start_ended(&self, app_type: &str, result: &str, reason: &str) {
        self.starts.with_label_values(&[app_type, result]).inc();
        if !reason.is_empty() {
            let reason = self.bounded(reason);
            let labels = [app_type, result, reason.as_str()];
            self.start_reasons.with_label_values(&labels).inc();
        }
    }

    /// So many seconds after we made its Job an instance was ready.
    pub fn start_took(&self, app_type: &str, secs: f64) {
        observe(&self.start_duration, &[app_type], secs);
    }

    /// Seconds that a start of this replica spent in this phase.
    pub fn phase_took(&self, phase: &'static str, secs: f64) {
        observe(&self.phase_duration, &[phase], secs);
    }

    /// So many seconds after we made its Job it was known that a start has failed, or probably has.
    pub fn observe_time_to_failure_report(&self, secs: f64) {
        observe(&self.time_to_verdict, &[], secs);
    }

    /// We have stopped an instance.
    pub fn stopped(&self, app_type: &str, cause: &str) {
        self.stops.with_label_values(&[app_type, cause]).inc();
    }

    /// A report of uses was `sent`, or `failed` to be, or was `received` from another replica.
    pub fn use_report(&self, result: &str) {
        debug_assert!(REPORT_RESULTS.contains(&result), "{result} is in the table");
        self.use_reports.with_label_values(&[result]).inc();
    }

    /// An ended instance was reported, which was ready for so many seconds.
    pub fn used(&self, app_type: &str, secs: f64) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if !usage.contains_key(app_type) {
            usage.insert(app_type.into(), (0, 0.0));
        }
        if let Some((count, ready)) = usage.get_mut(app_type) {
            *count += 1;
            *ready += secs;
        }
    }

    /// A start was refused since there is no place for it, for that reason.
    pub fn start_refused(&self, scope: &str) {
        debug_assert!(REFUSED_SCOPES.contains(&scope), "{scope} is in the table");
        self.starts_refused.with_label_values(&[scope]).inc();
    }

    /// A request was refused behind the front: at a bound, or by authentication.
    pub fn rejected(&self, cause: &str) {
        debug_assert!(REJECTED_CAUSES.contains(&cause), "{cause} is in the table");
        self.rejected.with_label_values(&[cause]).inc();
    }

    /// An API call has ended after so many seconds.
    pub fn called(&self, verb: &str, resource: &str, code: &str, secs: f64) {
        self.kube_requests
            .with_label_values(&[verb, resource, code])
            .inc();
        observe(&self.kube_duration, &[verb, resource], secs);
    }

    /// Adds all that is counted here to a registry.
    pub fn encode(&self, registry: &mut Registry) {
        self.http.encode(registry);
        registry.collect(&STARTS, &self.starts);
        registry.collect(&START_REASONS, &self.start_reasons);
        registry.collect(&START_DURATION, &self.start_duration);
        registry.collect(&START_PHASE_DURATION, &self.phase_duration);
        registry.collect(&TIME_TO_VERDICT, &self.time_to_verdict);
        registry.collect(&STOPS, &self.stops);
        registry.collect(&USE_REPORTS, &self.use_reports);
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        for (app_type, (count, secs)) in &*usage {
            registry.count(&USAGE_INSTANCES, &[app_type], *count);
            registry.value(&USAGE_READY, &[app_type], *secs);
        }
        registry.collect(&STARTS_REFUSED, &self.starts_refused);
        registry.collect(&REJECTED, &self.rejected);
        registry.collect(&KUBE_REQUESTS, &self.kube_requests);
        registry.collect(&KUBE_REQUEST_DURATION, &self.kube_duration);
    }

    /// The reason, or [`OTHER`] where there are too many different ones already.
    fn bounded(&self, reason: &str) -> String {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if !reasons.contains(reason) {
            if reasons.len() >= REASONS_MAX {
                return OTHER.to_owned();
            }
            reasons.insert(reason.into());
        }
        reason.to_owned()
    }
}

fn observe(histograms: &HistogramVec, labels: &[&str], secs: f64) {
    histograms.with_label_values(labels).observe(secs);
}

fn bounds(family: &Family) -> &'static [f64] {
    match family.kind {
        Kind::Histogram(bounds) => bounds,
        Kind::Counter | Kind::Gauge => &[],
    }
}

fn counters(family: &'static Family) -> IntCounterVec {
    IntCounterVec::new(Opts::new(family.name, family.help), family.labels)
        .expect("the table of metrics has good names, as a test shows")
}

fn histograms(family: &'static Family) -> HistogramVec {
    let options = HistogramOpts::new(family.name, family.help).buckets(bounds(family).to_vec());
    let histograms = HistogramVec::new(options, family.labels)
        .expect("the table of metrics has good names, as a test shows");
    if family.labels.is_empty() {
        // Without labels there is one histogram, which is published before its first value.
        histograms.with_label_values::<&str>(&[]);
    }
    histograms
}

/// The values of all metrics at one scrape.
#[derive(Debug, Default)]
pub struct Registry {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Registry {
    /// Adds one value; `labels` in the order of [`Family::labels`].
    pub fn value(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut metric = metric(family, labels);
        if family.kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.add(family, vec![metric]);
    }

    /// Adds a count.
    #[allow(clippy::cast_precision_loss)] // The format has no other numbers than these.
    pub fn count(&mut self, family: &'static Family, labels: &[&str], count: u64) {
        self.value(family, labels, count as f64);
    }

    /// Adds a histogram: ascending upper bounds, each with the count of values up to it; the count
    /// of all values, and their sum.
    fn histogram(
        &mut self,
        family: &'static Family,
        labels: &[&str],
        buckets: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let buckets = buckets.map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        let mut metric = metric(family, labels);
        metric.set_histogram(histogram);
        self.add(family, vec![metric]);
    }

    fn collect(&mut self, family: &'static Family, collector: &impl Collector) {
        for mut collected in collector.collect() {
            self.add(family, collected.take_metric());
        }
    }

    /// Adds starts and stops of these types at 0 where none were counted: Prometheus sees no increase in the
    /// first value of a series.
    pub fn begin_types<'a>(&mut self, types: impl Iterator<Item = &'a str> + Clone) {
        self.fill(&STARTS, types.clone(), &START_RESULTS);
        self.fill(&STOPS, types.clone(), &STOP_CAUSES);
        self.fill(&USAGE_INSTANCES, types.clone(), &[]);
        self.fill(&USAGE_READY, types, &[]);
    }

    /// Adds 0 for each of these types and values, the labels of this family, that it does not have.
    fn fill<'a>(
        &mut self,
        family: &'static Family,
        types: impl Iterator<Item = &'a str>,
        values: &[&str],
    ) {
        let known = self.families.get(family.name).into_iter();
        let known = known.flat_map(MetricFamily::get_metric);
        let key = |metric: &proto::Metric| -> Vec<String> {
            let labels = metric.get_label().iter();
            labels.map(|label| label.value().to_owned()).collect()
        };
        let known: HashSet<_> = known.map(key).collect();
        let of_type = |app_type| -> Vec<Vec<&str>> {
            let pairs = values.iter().map(|value| vec![app_type, *value]);
            if family.labels.len() == 1 {
                vec![vec![app_type]]
            } else {
                pairs.collect()
            }
        };
        let zeros = types.flat_map(of_type).map(|labels| {
            let mut zero = metric(family, &labels);
            // As the collectors of the crate sort them.
            let mut labels = zero.take_label();
            sorting::sort_by(&mut labels, |a, b| a.name().cmp(b.name()));
            zero.set_label(labels);
            zero.set_counter(proto::Counter::default());
            zero
        });
        let new = zeros.filter(|zero| !known.contains(&key(zero)));
        let new = new.collect();
        self.add(family, new);
    }

    fn add(&mut self, family: &'static Family, metrics: Vec<proto::Metric>) {
        if metrics.is_empty() {
            return;
        }
        let known = self.families.entry(family.name).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(family.name.to_owned());
            new.set_help(family.help.to_owned());
            new.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram(_) => MetricType::HISTOGRAM,
            });
            new
        });
        known.mut_metric().extend(metrics);
    }

    /// All metrics in the Prometheus text format, sorted by name; then those that have no value yet, so that
    /// readers know them from the beginning.
    #[must_use]
    pub fn text(self) -> String {
        let without = ALL
            .iter()
            .filter(|family| !self.families.contains_key(family.name));
        let mut known = String::new();
        for Family {
            name, kind, help, ..
        } in without
        {
            let kind = kind.word();
            known.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        let families: Vec<MetricFamily> = self.families.into_values().collect();
        let text = TextEncoder::new().encode_to_string(&families);
        text.expect("families without values are not added") + &known
    }
}

fn metric(family: &Family, labels: &[&str]) -> proto::Metric {
    debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
    let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

/// The source of what `/metrics` returns.
pub trait Scrape: fmt::Debug + Send + Sync {
    /// The metrics in the Prometheus text format: of now, unless very many are asked for.
    fn text(&self) -> Arc<str>;
}

#[cfg(test)]
mod tests;
