//! The table of metrics. Pure.
//!
//! A new metric needs a row here and one in `manifests/README.md`; a test compares them. Its counter is in
//! [`super::Metrics`] or in the module that counts.

use super::{Family, Kind};

macro_rules! families {
    ($($constant:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub static $constant: Family = Family {
            name: $name,
            kind: $kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All metrics, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$constant),*];
    };
}

const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

/// Seconds of a request that does not wait.
const HTTP_SECS: Kind = Kind::Histogram(&[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.1, 1.0,
]);

/// Seconds from a Job to its ready pod: scheduling, pulling, starting.
const START_SECS: Kind = Kind::Histogram(&[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0,
]);

/// Seconds of one phase of a start: from one API call up to the pull of a large image.
const PHASE_SECS: Kind = Kind::Histogram(&[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
]);

/// Seconds of an API call, which times out after 10.
const KUBE_SECS: Kind = Kind::Histogram(&[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

families! {
    HTTP_REQUESTS = "config_controller_http_requests_total", COUNTER, ["route", "method", "code"],
        "Responses. Route `_other`: paths without an endpoint. Route and method `_other`: requests refused before they were complete, or for lack of memory to wait";
    HTTP_REQUEST_DURATION = "config_controller_http_request_duration_seconds", HTTP_SECS, ["route"],
        "Time from a complete request to its response, without requests that waited for an instance or for Kubernetes";
    STARTS = "config_controller_starts_total", COUNTER, ["type", "result"],
        "Starts by this replica: `ready`, `failed` (it can no longer succeed), `denied` (by a quota or webhook), `finished` (exit 0 before it was ready), `stopped`, `unknown` (too many starts to track, or the response to the create call was lost)";
    START_REASONS = "config_controller_start_reasons_total", COUNTER, ["type", "result", "reason"],
        "Starts by this replica, by reason: that of the response to callers, or why the result is `unknown`";
    START_DURATION = "config_controller_start_duration_seconds", START_SECS, ["type"],
        "Time from the call that created the Job to the ready pod, for starts by this replica";
    START_PHASE_DURATION = "config_controller_start_phase_duration_seconds", PHASE_SECS, ["phase"],
        "Time that starts by this replica spent in each phase of the 202 response";
    TIME_TO_VERDICT = "config_controller_time_to_verdict_seconds", START_SECS, [],
        "Time from the call that created the Job until this replica found that the start failed, or that a phase exceeded its budget; once for each start";
    STOPS = "config_controller_stops_total", COUNTER, ["type", "cause"],
        "Deletions by this replica that Kubernetes accepted: `asked` (by a caller), `replaced` (the Job had ended), `disrupted` (eviction, drain, preemption or deletion of its pod), `idle` (nobody used it), `outdated` (its template has changed), `limit` (a cap is reached), `forced` (its node is lost). Replicas may both count one Job";
    USE_REPORTS = "config_controller_use_reports_total", COUNTER, ["result"],
        "Reports of which instances are used: `sent`, `failed`, or `received` from another replica";
    USAGE_INSTANCES = "config_controller_usage_instances_total", COUNTER, ["type"],
        "Ended instances that this replica has reported; add up replicas";
    USAGE_READY = "config_controller_usage_ready_seconds_total", COUNTER, ["type"],
        "Seconds that those were ready, as far as seen; add up replicas";
    STARTS_REFUSED = "config_controller_starts_refused_total", COUNTER, ["scope"],
        "Responses to starts for which a cap has no place: `type`, `owner` or `all` (that cap is reached), `behind` (others wait before it), `undecided` (not known in time), `not_permitted` (no right to patch Jobs)";
    STARTS_QUEUED = "config_controller_starts_queued", GAUGE, [],
        "Starts that wait for a place at this replica: under a cap, or for `MAX_STARTING`";
    STARTS_IN_PROGRESS = "config_controller_starts_in_progress", GAUGE, [],
        "Starts of this replica, from the creation of the Job until it is ready or reported as failing";
    INSTANCES = "config_controller_instances", GAUGE, ["type", "status"],
        "Instances in the namespace; all replicas report the same, so aggregate with max";
    INSTANCE_BYTES = "config_controller_instance_bytes", GAUGE, [],
        "Estimated memory of cached instances; beyond the bound, starts get 429 `limit_reached`";
    INSTANCE_BYTES_MAX = "config_controller_instance_bytes_max", GAUGE, [],
        "The bound on it, which open connections lower";
    LABEL_BYTES = "config_controller_label_bytes", GAUGE, [],
        "Bytes of the labels of all instances, as their bounds count them; all replicas report the same, so aggregate with max";
    WAITING_REQUESTS = "config_controller_waiting_requests", GAUGE, [],
        "Requests that wait for an instance or for Kubernetes";
    STREAMS = "config_controller_streams", GAUGE, [],
        "Responses that go on now: streams of events and followed logs";
    ABANDONED = "config_controller_abandoned_requests_total", COUNTER, [],
        "Waiting requests whose caller hung up";
    CONNECTIONS = "config_controller_connections", GAUGE, [],
        "Open connections, except those being refused";
    CONNECTIONS_ACCEPTED = "config_controller_connections_accepted_total", COUNTER, [],
        "Accepted connections, including those then refused";
    CONNECTIONS_CLOSED = "config_controller_connections_closed_total", COUNTER, ["cause"],
        "Connections closed by the service: `idle`, `slow_reader` (the peer did not read its response), `shed` (to free memory), `no_place` (the bound on connections, without a response), `handshake` (TLS failed or timed out)";
    REJECTED = "config_controller_rejected_total", COUNTER, ["cause"],
        "Refused requests and connections: a bound or rule of the HTTP front, the system (`accept_failed`), authentication (`auth_…`), or a bound on waiting requests";
    PANICS = "config_controller_panics_total", COUNTER, [],
        "Requests that got a 500 because of a bug; the log says where";
    HELD_BYTES = "config_controller_http_held_bytes", GAUGE, [],
        "Bytes that requests and responses in flight hold, and lists kept for the next reader";
    HELD_BYTES_MAX = "config_controller_http_held_bytes_max", GAUGE, [],
        "The bound on them (`HELD_BYTES_MAX`)";
    PLACES_HELD = "config_controller_places_held", GAUGE, [],
        "Places of waiting requests in use, also by starts whose caller hung up";
    PLACES_HELD_MAX = "config_controller_places_held_max", GAUGE, [],
        "The bound on them (`PARKED_MAX`)";
    HTTP_THREADS = "config_controller_http_threads", GAUGE, [],
        "I/O threads that serve connections";
    KUBE_REQUESTS = "config_controller_kube_requests_total", COUNTER, ["verb", "resource", "code"],
        "API calls to Kubernetes; without a response, `code` is `connect`, `lost`, `timed_out`, `credentials`, `answer` or `request`";
    KUBE_REQUEST_DURATION = "config_controller_kube_request_duration_seconds", KUBE_SECS, ["verb", "resource"],
        "Duration of API calls to Kubernetes; for a watch, the time until it was open";
    WATCH_EVENTS = "config_controller_watch_events_total", COUNTER, ["resource"],
        "Watch events, including bookmarks";
    WATCH_RESTARTS = "config_controller_watch_restarts_total", COUNTER, ["resource", "cause"],
        "Lists and watches that were restarted; `closed` is normal, `too_large` is a page of a list requested again with fewer objects, `unfit` a change of the templates that are left out";
    VIEW_RELISTED = "config_controller_view_relisted_total", COUNTER, ["resource", "cause"],
        "Lists that replaced or confirmed a cache: `interval` (every `RELIST`), `went_back` (etcd was restored from a backup), `differs` (a read showed another state), and causes of watch restarts";
    VIEW_DIFFERENCES = "config_controller_view_differences_total", COUNTER, ["resource"],
        "Objects whose change a watch had lost and a list has shown; the log names some";
    WATCH_SKIPPED = "config_controller_watch_skipped_total", COUNTER, ["resource"],
        "Objects that could not be decoded; the log names them";
    LABELS_LEFT_OUT = "config_controller_labels_left_out_total", COUNTER, ["resource"],
        "Objects on which other clients have set more labels than are kept; each is logged";
    VIEW_AGE = "config_controller_view_age_seconds", GAUGE, ["resource"],
        "Upper bound of the age of the cache of a resource";
    CLOCK_OFFSET = "config_controller_clock_offset_seconds", GAUGE, [],
        "How far the replica's clock is ahead of the API server's, by the `Date` of responses; 0 before the first";
    TEMPLATE_VALID = "config_controller_template_valid", GAUGE, ["type"],
        "0 if the template cannot be read, or the API server or a policy refuses its dry run; else 1";
    TEMPLATE_WARNINGS = "config_controller_template_warnings", GAUGE, ["type"],
        "Warnings about the template; `/templates` and the log have their texts";
    CONFIG_MAPS_LEFT_OUT = "config_controller_config_maps_left_out", GAUGE, [],
        "ConfigMaps that are left out, since those before them by name fill the bound on templates";
    SPANS = "config_controller_spans_total", COUNTER, ["result"],
        "Spans of traces: `sent`, `failed` (the collector was unreachable or rejected them), `dropped` (the queue was full)";
    LOG_LEFT_OUT = "config_controller_log_lines_left_out_total", COUNTER, ["level"],
        "Log lines left out because their cause had too many in a minute; the log quotes the first";
    BUILD_INFO = "config_controller_build_info", GAUGE, ["version"],
        "Always 1";
    PROCESS_CPU = "process_cpu_seconds_total", COUNTER, [],
        "Processor time of the process";
    PROCESS_RESIDENT = "process_resident_memory_bytes", GAUGE, [],
        "Memory of the process";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", GAUGE, [],
        "Address space of the process";
    PROCESS_FDS = "process_open_fds", GAUGE, [],
        "Open files and sockets of the process";
    PROCESS_FDS_MAX = "process_max_fds", GAUGE, [],
        "Limit of open files and sockets of the process";
    PROCESS_THREADS = "process_threads", GAUGE, [],
        "Threads of the process";
    PROCESS_START = "process_start_time_seconds", GAUGE, [],
        "Start time of the process, in seconds since 1970";
}
