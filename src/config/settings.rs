//! The table of settings: the name, default and help of each.
//!
//! Only data: `--help` is made from it, and a test compares the table of `manifests/README.md` with it. Parsing is
//! in [`super`].

/// One setting, as the documentation shows it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable; the flag is the same in lower case with hyphens.
    pub name: &'static str,
    /// Default value; empty means none.
    pub default: &'static str,
    /// One sentence, with the unit.
    pub help: &'static str,
}

impl Setting {
    /// The flag without its value, such as `--start-wait`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_ascii_lowercase().replace('_', "-"))
    }
}

macro_rules! settings {
    ($($name:literal = $default:literal, $help:literal;)*) => {
        /// All settings, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: $name, default: $default, help: $help }),*
        ];
    };
}

settings! {
    "JOB_NAMESPACE" = "",
        "Namespace of templates and instances; default: the pod's namespace, or outside a cluster the kubeconfig's, else `default`";
    "POD_NAME" = "",
        "Name of this pod, from the downward API; default: its host name. Its Lease has this name";
    "POD_UID" = "",
        "UID of this pod, from the downward API: with POD_NAME, Kubernetes removes its Lease with it";
    "CONFIGMAP_SELECTOR" = "config-controller.semafor.ch/template",
        "Label selector of ConfigMaps with templates";
    "SERVICE_PORT" = "3333",
        "Port to listen on; 0 lets the system choose";
    "LISTEN" = "::",
        "Address to listen on; `::` means all of IPv4 and IPv6 (0.0.0.0 where the system has no IPv6)";
    "TLS_CERT" = "",
        "PEM file with the server's certificate chain; with TLS_KEY it turns on HTTPS; reloaded when it changes";
    "TLS_KEY" = "",
        "PEM file with the private key of TLS_CERT, without passphrase";
    "ALLOWED_HOSTS" = "",
        "Hosts that requests may name, against DNS rebinding: comma-separated, with an optional port, `*.` for all names below one; default: any. Probes may name any, `/metrics` also an IP address";
    "KUBECONFIG" = "",
        "Kubeconfig file outside a cluster, or several with `:` between; default: ~/.kube/config";
    "START_WAIT" = "10s",
        "How long a request waits until its instance is ready, before 202";
    "START_WAIT_MAX" = "300s",
        "Longest wait that a caller may request (`Prefer: wait=N`)";
    "START_BUDGET_CREATING" = "15s",
        "Time without a pod before a start is reported as failing; the annotation `start-budget.creating` overrides it, and so below";
    "START_BUDGET_SCHEDULING" = "10m",
        "Time allowed until the pod has a node";
    "START_BUDGET_MOUNTING" = "5m",
        "Time allowed while the node prepares volumes and network";
    "START_BUDGET_PULLING" = "5m",
        "Time allowed while the image is pulled";
    "START_BUDGET_PULL_ERROR" = "10s",
        "Time allowed after a failed pull, while Kubernetes retries";
    "START_BUDGET_INITIALISING" = "5m",
        "Time allowed while init containers run";
    "START_BUDGET_STARTING" = "10s",
        "Time allowed while a container cannot be created, or fails and is restarted";
    "START_BUDGET_READYING" = "5m",
        "Time allowed until the readiness probe passes";
    "MAX_INSTANCES" = "none",
        "Maximum number of instances of all types, by all replicas; beyond that 429";
    "MAX_STARTING" = "none",
        "Maximum number of starts that one replica has in progress; others wait in the order of their arrival";
    "INSTANCE_IDLE_TIMEOUT" = "never",
        "Default of the annotation `idle-timeout`";
    "HEARTBEAT_MAX" = "24h",
        "Longest `for` of a heartbeat; at most 7 days";
    "RESTART_IDLE_AFTER" = "5m",
        "With `on-change: restart-idle`: how long nobody has used an instance when it is restarted; 1s to 7 days";
    "INSTANCE_MAX_LIFETIME" = "never",
        "Default of the annotation `max-lifetime`";
    "INSTANCE_TTL_AFTER_FINISHED" = "never",
        "Default of the annotation `ttl-after-finished`";
    "FORCE_STOP" = "node-lost",
        "When a pod that is being deleted is removed by force: node-lost (its node is reported as lost for 30s, its grace period ended 30s ago) or never";
    "DRAIN_DELAY" = "5s",
        "How long requests are accepted after SIGTERM, while the Service's endpoints are removed";
    "DRAIN" = "15s",
        "Longest time from SIGTERM to the exit";
    "POLL" = "2s",
        "Interval between lists of a resource that the service account may not watch";
    "RELIST" = "15m",
        "Interval at which caches are compared with a list, in case a watch lost changes; at least 5s";
    "HELD_BYTES_MAX" = "25165824",
        "Maximum bytes that requests and responses in flight hold, also in buffers of the kernel; beyond that 503";
    "CALLER_SHARE_MAX" = "50",
        "Percent of PARKED_MAX and of HELD_BYTES_MAX that one caller may hold once half is in use, and at most what it leaves free; beyond that 429. Above 50: percent of what others leave; 100: no limit";
    "WRITE_RESERVE" = "12",
        "Percent of PARKED_MAX and of HELD_BYTES_MAX that only stops and labels may use";
    "IO_THREADS" = "2",
        "Threads that serve connections";
    "WORKERS" = "8",
        "Threads that call Kubernetes, one call at a time each";
    "PARKED_MAX" = "4000",
        "Maximum number of waiting requests";
    "PARKED_PER_KEY_MAX" = "1000",
        "Maximum number of requests that wait for one instance";
    "LOG_STREAMS" = "16",
        "Maximum number of logs read at the same time, a thread each; beyond that 429";
    "CONNECTIONS_MAX" = "4300",
        "Maximum number of open connections; fewer while instances take their memory; a sixteenth is for peers with at most two; with TLS the default is 2000";
    "CONNECTIONS_PER_PEER_MAX" = "2800",
        "Maximum number of open connections per peer address (IPv6: /64); at most the same part of what the others leave, or half of it";
    "IDLE_TIMEOUT" = "75s",
        "How long a connection may be idle; more than 5s";
    "HEAD_TIMEOUT" = "5s",
        "How long receiving a request head may take";
    "HEAD_BYTES_MAX" = "16384",
        "Maximum bytes of a request head";
    "HEADERS_MAX" = "100",
        "Maximum number of header lines";
    "BODY_TIMEOUT" = "10s",
        "How long receiving a request body may take";
    "BODY_BYTES_MAX" = "65536",
        "Maximum bytes of a request body";
    "AUTH" = "none",
        "Who may call: none (everyone who reaches the port), token (bearer tokens from a file) or kubernetes (service account tokens)";
    "AUTH_TOKENS_FILE" = "",
        "With AUTH=token: file of tokens, one `TOKEN [NAME [TYPE,TYPE... [RIGHT,RIGHT]]]` per line (`*`: all types; rights: `logs`, to read logs, and `owner`, to send `Instance-Owner`); reloaded when it changes";
    "AUTH_ALLOW" = "",
        "With AUTH=kubernetes: service accounts that may call, as namespace/name, comma-separated; with `+logs` or `+owner` after it one has that right";
    "AUTH_FAILURES_MAX" = "20",
        "Wrong tokens per minute and peer address (IPv6: /64) that get 401; further ones get 429";
    "LOG_LEVEL" = "info",
        "error, warn, info or debug; RUST_LOG, in env_logger's syntax, overrides it";
    "LOG_FORMAT" = "text",
        "text, or json for one object per line";
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" = "",
        "URL to send traces to, used unchanged: http://collector:4318/v1/traces; turns tracing on";
    "OTEL_EXPORTER_OTLP_ENDPOINT" = "",
        "Base URL, to which `/v1/traces` is appended: http://collector:4318; turns tracing on";
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" = "",
        "As OTEL_EXPORTER_OTLP_PROTOCOL, for traces only";
    "OTEL_EXPORTER_OTLP_PROTOCOL" = "http/protobuf",
        "Protocol; no other is supported";
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS" = "",
        "As OTEL_EXPORTER_OTLP_HEADERS, for traces only";
    "OTEL_EXPORTER_OTLP_HEADERS" = "",
        "Headers for the collector: comma-separated name=value, percent-encoded";
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" = "",
        "As OTEL_EXPORTER_OTLP_TIMEOUT, for traces only";
    "OTEL_EXPORTER_OTLP_TIMEOUT" = "10000",
        "Timeout of one batch, in milliseconds";
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE" = "",
        "As OTEL_EXPORTER_OTLP_CERTIFICATE, for traces only";
    "OTEL_EXPORTER_OTLP_CERTIFICATE" = "",
        "PEM file with the CA of the collector; required for https, since the image has no root certificates";
    "OTEL_SERVICE_NAME" = "config-controller",
        "Resource attribute `service.name` of traces";
    "OTEL_RESOURCE_ATTRIBUTES" = "",
        "Further resource attributes: comma-separated name=value, percent-encoded";
    "OTEL_TRACES_SAMPLER" = "parentbased_always_on",
        "Which traces are recorded: always_on, always_off or traceidratio; with the prefix parentbased_ the caller's decision takes precedence";
    "OTEL_TRACES_SAMPLER_ARG" = "1",
        "Share of traces that traceidratio records, from 0 to 1";
    "OTEL_TRACES_EXPORTER" = "otlp",
        "otlp, or none to turn tracing off";
    "OTEL_SDK_DISABLED" = "false",
        "true to turn tracing off";
    "OTEL_BSP_MAX_QUEUE_SIZE" = "2048",
        "Maximum number of spans that wait; further ones are dropped and counted";
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" = "512",
        "Maximum number of spans in one batch";
    "OTEL_BSP_SCHEDULE_DELAY" = "5000",
        "How long a batch may fill, in milliseconds";
    "OTEL_BSP_EXPORT_TIMEOUT" = "30000",
        "As OTEL_EXPORTER_OTLP_TIMEOUT; the shorter of the two applies";
}
