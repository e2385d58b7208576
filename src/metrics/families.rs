//! The table of metrics. Pure.
//!
//! Adding one touches its constant, [`ALL`], and the README, where a test looks for it.

use super::{Family, Kind};

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

macro_rules! families {
    ($($constant:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub static $constant: Family = family($name, $kind, &[$($label),*], $help);)*

        /// All metrics, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$constant),*];
    };
}

const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

/// Seconds that a request takes that need not wait.
const HTTP_SECS: Kind = Kind::Histogram(&[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.1, 1.0,
]);

/// Seconds from a Job to its ready pod: scheduling, pulling, starting.
const START_SECS: Kind = Kind::Histogram(&[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0,
]);

/// Seconds of one phase of a start: from the answer to a call up to an image that is large.
const PHASE_SECS: Kind = Kind::Histogram(&[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
]);

/// Seconds that a call to Kubernetes takes; it is given up after 10.
const KUBE_SECS: Kind = Kind::Histogram(&[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

families! {
    HTTP_REQUESTS = "config_controller_http_requests_total", COUNTER, ["route", "method", "code"],
        "Requests that were answered; `_other` is the route of paths that are none, and route and method of what was refused before it was a whole request";
    HTTP_REQUEST_DURATION = "config_controller_http_request_duration_seconds", HTTP_SECS, ["route"],
        "From the whole request to its answer, of requests that were answered at once; those that waited for an instance are not in it";
    STARTS = "config_controller_starts_total", COUNTER, ["type", "result", "reason"],
        "Starts of this replica by how they ended: `ready`, `failed` (it cannot succeed any more; one that is only late goes on), `denied` (a quota or webhook refused it), `finished` (it ended well before it was ready), `stopped`, `unknown` (too many at once to follow, or the answer to the call was lost: if the Job was made, nobody counts its start)";
    START_DURATION = "config_controller_start_duration_seconds", START_SECS, ["type"],
        "From the call that made the Job to the ready pod, of starts of this replica";
    START_PHASE_DURATION = "config_controller_start_phase_duration_seconds", PHASE_SECS, ["phase"],
        "How long starts of this replica were in each phase that it saw, as the 202 names them, until the next phase or the end of the start";
    TIME_TO_VERDICT = "config_controller_time_to_verdict_seconds", START_SECS, [],
        "From the call that made the Job until this replica knew that the start has failed, or probably has since a phase took longer than its budget; once for each start";
    STOPS = "config_controller_stops_total", COUNTER, ["type", "cause"],
        "What this replica stopped: Jobs `asked` for by a caller or `replaced` since they had ended, and pods removed by force (`forced`) whose node is dead";
    INSTANCES = "config_controller_instances", GAUGE, ["type", "status"],
        "Instances in the namespace, the same on all replicas: take the maximum; counted at most once a second";
    WAITING_REQUESTS = "config_controller_waiting_requests", GAUGE, [],
        "Requests that wait for an instance or for Kubernetes";
    ABANDONED = "config_controller_abandoned_requests_total", COUNTER, [],
        "Requests whose caller hung up while they waited";
    CONNECTIONS = "config_controller_connections", GAUGE, [],
        "Connections that are open, without those being refused";
    CONNECTIONS_ACCEPTED = "config_controller_connections_accepted_total", COUNTER, [],
        "Connections that were accepted, those that were then refused included";
    CONNECTIONS_CLOSED = "config_controller_connections_closed_total", COUNTER, ["cause"],
        "Connections that we closed: `idle` too long, `slow_reader` that did not take its response, `shed` to save memory, `no_place` without even a response, `handshake` of TLS that failed or took too long";
    REJECTED = "config_controller_rejected_total", COUNTER, ["cause"],
        "Requests and connections that were refused: by a bound or rule of the front, by the system (`accept_failed`), by authentication (`auth_…`), or by a bound on waiting requests";
    PANICS = "config_controller_panics_total", COUNTER, [],
        "Requests that met a defect of ours and got a 500; each is in the log";
    HELD_BYTES = "config_controller_http_held_bytes", GAUGE, [],
        "Memory in requests and answers that are on their way";
    HTTP_THREADS = "config_controller_http_threads", GAUGE, [],
        "Threads that serve connections";
    KUBE_REQUESTS = "config_controller_kube_requests_total", COUNTER, ["verb", "resource", "code"],
        "Calls to Kubernetes; where there was no answer, `code` is `connect`, `lost`, `timed_out`, `credentials`, `answer` or `request`";
    KUBE_REQUEST_DURATION = "config_controller_kube_request_duration_seconds", KUBE_SECS, ["verb", "resource"],
        "How long calls to Kubernetes took; of a watch, until it was open";
    WATCH_EVENTS = "config_controller_watch_events_total", COUNTER, ["resource"],
        "Events of watches, bookmarks included";
    WATCH_RESTARTS = "config_controller_watch_restarts_total", COUNTER, ["resource", "cause"],
        "How often a list or watch was begun again, and why; `closed` is usual";
    WATCH_SKIPPED = "config_controller_watch_skipped_total", COUNTER, ["resource"],
        "Objects that could not be decoded; each is in the log";
    VIEW_AGE = "config_controller_view_age_seconds", GAUGE, ["resource"],
        "How old the cache of a resource may be";
    TEMPLATE_VALID = "config_controller_template_valid", GAUGE, ["type"],
        "1 where the template of an app type can be started, 0 where it is broken";
    SPANS = "config_controller_spans_total", COUNTER, ["result"],
        "What became of the spans of traces: `sent`, `failed` (the collector was not there or did not take them), `dropped` (too many waited already)";
    BUILD_INFO = "config_controller_build_info", GAUGE, ["version"],
        "Always 1";
    PROCESS_CPU = "process_cpu_seconds_total", COUNTER, [],
        "Processor time of the process";
    PROCESS_RESIDENT = "process_resident_memory_bytes", GAUGE, [],
        "Memory of the process";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", GAUGE, [],
        "Address space of the process";
    PROCESS_FDS = "process_open_fds", GAUGE, [],
        "Files and sockets that the process has open";
    PROCESS_FDS_MAX = "process_max_fds", GAUGE, [],
        "Files and sockets that it may have open";
    PROCESS_THREADS = "process_threads", GAUGE, [],
        "Threads of the process";
    PROCESS_START = "process_start_time_seconds", GAUGE, [],
        "When the process began, in seconds since 1970";
}
