//! [`Tally`]: counts HTTP requests on the hot path.
//!
//! Each I/O thread has cells of its own, indexed by route, method and code. Counting is an addition
//! to memory that no other thread writes; a scrape adds the threads up. It needs no lock, no text
//! and no hash.

use super::{HTTP_REQUEST_DURATION, HTTP_REQUESTS, OTHER, Registry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The values of the label `method`; the last stands for all other methods.
pub const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER,
];

/// The status codes of all endpoints, each a value of the label `code`; any other is [`OTHER`]. A
/// test holds them to the OpenAPI document.
pub const STATUS_CODES: [u16; 19] = [
    200, 202, 204, 304, 307, 400, 401, 403, 404, 405, 408, 409, 412, 422, 429, 500, 501, 502, 503,
];

/// How many values `code` has: the last stands for all other codes.
const CODES: usize = STATUS_CODES.len() + 1;

/// The counters of one thread, aligned so that two threads never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Cells {
    /// By route, method and code.
    requests: Box<[AtomicU64]>,
    /// By route and bucket; the last bucket of a route has no upper bound.
    times: Box<[AtomicU64]>,
    /// By route.
    nanos: Box<[AtomicU64]>,
}

/// Requests by route, method and code, and their durations by route.
#[derive(Debug)]
pub struct Tally {
    routes: Box<[&'static str]>,
    bounds: &'static [f64],
    bounds_nanos: Box<[u64]>,
    threads: Box<[Cells]>,
}

impl Tally {
    /// Counters at zero, for at least one thread and these routes.
    pub(super) fn new(threads: usize, routes: &[&'static str], bounds: &'static [f64]) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let cells = || Cells {
            requests: zeros(routes.len() * METHODS.len() * CODES),
            times: zeros(routes.len() * (bounds.len() + 1)),
            nanos: zeros(routes.len()),
        };
        let nanos = |secs: &f64| nanos_of(Duration::from_secs_f64(*secs));
        Self {
            routes: routes.into(),
            bounds,
            bounds_nanos: bounds.iter().map(nanos).collect(),
            threads: (0..threads.max(1)).map(|_| cells()).collect(),
        }
    }

    /// Counts a response; `route` is an index into the list of routes, and one beyond it counts
    /// nowhere.
    pub fn answered(&self, thread: usize, route: usize, method: &str, code: u16) {
        let method = METHODS.iter().position(|known| *known == method);
        let method = method.unwrap_or(METHODS.len() - 1);
        let code = STATUS_CODES.iter().position(|known| *known == code);
        let code = code.unwrap_or(STATUS_CODES.len());
        let place = (route * METHODS.len() + method) * CODES + code;
        let cells = &self.threads[thread % self.threads.len()];
        if let Some(cell) = cells.requests.get(place) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the duration of a request that did not wait.
    pub fn took(&self, thread: usize, route: usize, time: Duration) {
        let nanos = nanos_of(time);
        let above = |bound: &&u64| **bound < nanos;
        let bucket = self.bounds_nanos.iter().take_while(above).count();
        let cells = &self.threads[thread % self.threads.len()];
        let place = route * (self.bounds.len() + 1) + bucket;
        if let (Some(time), Some(sum)) = (cells.times.get(place), cells.nanos.get(route)) {
            time.fetch_add(1, Ordering::Relaxed);
            sum.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    pub(super) fn encode(&self, registry: &mut Registry) {
        for (place, count) in self.sums(|cells| &cells.requests) {
            let (rest, code) = (place / CODES, STATUS_CODES.get(place % CODES));
            let (route, method) = (rest / METHODS.len(), METHODS[rest % METHODS.len()]);
            let code = code.map_or_else(|| OTHER.to_owned(), u16::to_string);
            registry.count(&HTTP_REQUESTS, &[self.routes[route], method, &code], count);
        }
        let mut times = vec![0; self.routes.len() * (self.bounds.len() + 1)];
        for (place, count) in self.sums(|cells| &cells.times) {
            times[place] = count;
        }
        for (route, nanos) in self.sums(|cells| &cells.nanos) {
            let from = route * (self.bounds.len() + 1);
            let times = &times[from..=from + self.bounds.len()];
            let mut count = 0;
            let buckets = self.bounds.iter().zip(times).map(|(bound, times)| {
                count += times;
                (*bound, count)
            });
            let (all, secs) = (
                times.iter().sum(),
                Duration::from_nanos(nanos).as_secs_f64(),
            );
            let labels = [self.routes[route]];
            registry.histogram(&HTTP_REQUEST_DURATION, &labels, buckets, all, secs);
        }
    }

    /// The non-zero counters, added up over all threads.
    fn sums(&self, of: impl Fn(&Cells) -> &[AtomicU64]) -> Vec<(usize, u64)> {
        let sum = |place: usize| {
            let cells = self.threads.iter().map(|cells| &of(cells)[place]);
            let counts = cells.map(|cell| cell.load(Ordering::Relaxed));
            (place, counts.fold(0, u64::wrapping_add))
        };
        let sums = (0..of(&self.threads[0]).len()).map(sum);
        sums.filter(|(_, count)| *count > 0).collect()
    }
}

fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn text(tally: &Metrics) -> String {
        let mut registry = Registry::default();
        tally.encode(&mut registry);
        registry.text()
    }

    #[test]
    fn responses_are_counted_over_all_threads() {
        let metrics = Metrics::new(2, &["/a", "/b"]);
        for thread in [0, 1, 1] {
            metrics.http.answered(thread, 1, "GET", 200);
        }
        metrics.http.answered(0, 0, "BREW", 418);
        metrics.http.answered(0, 2, "GET", 200);
        let text = text(&metrics);
        let name = HTTP_REQUESTS.name;
        for line in [
            format!("{name}{{route=\"/b\",method=\"GET\",code=\"200\"}} 3\n"),
            format!("{name}{{route=\"/a\",method=\"_other\",code=\"_other\"}} 1\n"),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert_eq!(text.matches(&format!("{name}{{")).count(), 2);
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_not_below_it() {
        let metrics = Metrics::new(1, &["/a"]);
        for micros in [10, 11, 2_000_000] {
            metrics.http.took(0, 0, Duration::from_micros(micros));
        }
        let text = text(&metrics);
        let name = HTTP_REQUEST_DURATION.name;
        for line in [
            format!("{name}_bucket{{route=\"/a\",le=\"0.00001\"}} 1\n"),
            format!("{name}_bucket{{route=\"/a\",le=\"0.000025\"}} 2\n"),
            format!("{name}_bucket{{route=\"/a\",le=\"1\"}} 2\n"),
            format!("{name}_bucket{{route=\"/a\",le=\"+Inf\"}} 3\n"),
            format!("{name}_sum{{route=\"/a\"}} 2.000021\n"),
            format!("{name}_count{{route=\"/a\"}} 3\n"),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
