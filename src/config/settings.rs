//! The table of settings: the name, default and help of each.
//!
//! Pure, and data alone: `--help`, the README's table and the test that compares the two are
//! made from it. How a value is read stands in [`super`].

/// One setting, as the documentation shows it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable; the flag is the same in lower case with hyphens.
    pub name: &'static str,
    /// What holds where nothing is said; empty means none.
    pub default: &'static str,
    /// One sentence for people, with the unit.
    pub help: &'static str,
}

impl Setting {
    /// The flag of this setting, without its value: `--start-wait`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_ascii_lowercase().replace('_', "-"))
    }
}

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
    }
}

/// All settings, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    setting(
        "JOB_NAMESPACE",
        "",
        "Namespace of the templates and instances; by default the pod's own, outside a cluster the kubeconfig's, then `default`",
    ),
    setting(
        "CONFIGMAP_SELECTOR",
        "config-controller.semafor.ch/template",
        "Label selector of the ConfigMaps that hold templates",
    ),
    setting(
        "SERVICE_PORT",
        "3333",
        "Port to listen on; 0 lets the system choose",
    ),
    setting(
        "LISTEN",
        "::",
        "Address to listen on; `::` is all addresses of both families, or 0.0.0.0 where there is no IPv6",
    ),
    setting(
        "TLS_CERT",
        "",
        "PEM file with the certificate of the port and its chain; with TLS_KEY it makes the port HTTPS; read again when it changes",
    ),
    setting(
        "TLS_KEY",
        "",
        "PEM file with the key of that certificate, without a passphrase",
    ),
    setting(
        "KUBECONFIG",
        "",
        "Kubeconfig file for use outside a cluster; by default ~/.kube/config",
    ),
    setting(
        "START_WAIT",
        "10s",
        "How long a request waits for its instance before it is answered 202",
    ),
    setting(
        "START_WAIT_MAX",
        "300s",
        "Longest wait that a caller may ask for with `Prefer: wait=N`",
    ),
    setting(
        "START_BUDGET_CREATING",
        "15s",
        "How long a start may be without a pod before its caller is told that it probably fails; a template's annotation `start-budget.creating` wins, and so for those below",
    ),
    setting(
        "START_BUDGET_SCHEDULING",
        "10m",
        "The same, for a pod without a node",
    ),
    setting(
        "START_BUDGET_MOUNTING",
        "5m",
        "The same, while the node prepares volumes and network",
    ),
    setting(
        "START_BUDGET_PULLING",
        "5m",
        "The same, while the image is being fetched",
    ),
    setting(
        "START_BUDGET_PULL_ERROR",
        "10s",
        "The same, once the image could not be fetched",
    ),
    setting(
        "START_BUDGET_INITIALISING",
        "5m",
        "The same, while init containers run",
    ),
    setting(
        "START_BUDGET_STARTING",
        "10s",
        "The same, for a container that cannot be made, or that fails and is run again",
    ),
    setting(
        "START_BUDGET_READYING",
        "5m",
        "The same, until the readiness probe passes",
    ),
    setting(
        "DRAIN_DELAY",
        "5s",
        "After SIGTERM, how long requests are accepted as before, while endpoints are taken away",
    ),
    setting(
        "DRAIN",
        "15s",
        "After SIGTERM, when the program ends at the latest",
    ),
    setting(
        "POLL",
        "2s",
        "Pause between two lists of a resource that may not be watched",
    ),
    setting("IO_THREADS", "2", "Threads that serve connections"),
    setting(
        "WORKERS",
        "8",
        "Threads that call Kubernetes, each with at most one call",
    ),
    setting(
        "PARKED_MAX",
        "6000",
        "Requests that may wait at the same time",
    ),
    setting(
        "PARKED_PER_KEY_MAX",
        "1000",
        "Requests that may wait for the same instance at the same time",
    ),
    setting(
        "CONNECTIONS_MAX",
        "12000",
        "Connections that may be open at the same time",
    ),
    setting(
        "CONNECTIONS_PER_PEER_MAX",
        "8000",
        "Connections that one peer address (IPv6: one /64 network) may have open at the same time",
    ),
    setting(
        "IDLE_TIMEOUT",
        "75s",
        "How long a connection may be idle between two requests; more than 5s",
    ),
    setting(
        "HEAD_TIMEOUT",
        "5s",
        "How long the head of a request may take to arrive",
    ),
    setting(
        "HEAD_BYTES_MAX",
        "16384",
        "Size of a request head, in bytes",
    ),
    setting("HEADERS_MAX", "100", "Header lines of a request"),
    setting(
        "BODY_TIMEOUT",
        "10s",
        "How long the body of a request may take to arrive",
    ),
    setting(
        "BODY_BYTES_MAX",
        "1048576",
        "Size of a request body, in bytes",
    ),
    setting(
        "AUTH",
        "none",
        "Who may call: none (everybody who reaches the port), token (bearer tokens of a file) or kubernetes (tokens of service accounts)",
    ),
    setting(
        "AUTH_TOKENS_FILE",
        "",
        "With AUTH=token, the file of the tokens: `TOKEN [NAME [TYPE,TYPE...]]` on each line; read again when it changes",
    ),
    setting(
        "AUTH_ALLOW",
        "",
        "With AUTH=kubernetes, the service accounts that may call, as namespace/name, parted by commas",
    ),
    setting(
        "AUTH_FAILURES_MAX",
        "20",
        "Wrong tokens of one peer address (IPv6: one /64 network) in a minute, after which its tokens are refused for the rest of it",
    ),
    setting(
        "LOG_LEVEL",
        "info",
        "error, warn, info or debug; RUST_LOG, in env_logger's syntax, wins",
    ),
    setting("LOG_FORMAT", "text", "text, or json for one object a line"),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "",
        "URL that takes traces, used as it is: http://collector:4318/v1/traces; it turns traces on",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "The same for all signals, to which `/v1/traces` is added: http://collector:4318",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "",
        "As OTEL_EXPORTER_OTLP_PROTOCOL, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        "How traces are sent; there is no other way",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "",
        "As OTEL_EXPORTER_OTLP_HEADERS, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "Headers for the collector, as name=value parted by commas, values percent-encoded",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "",
        "As OTEL_EXPORTER_OTLP_TIMEOUT, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "10000",
        "How long sending a batch may take, in milliseconds",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "",
        "As OTEL_EXPORTER_OTLP_CERTIFICATE, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "",
        "PEM file with the CA of the collector; needed with https, since the image has no roots of its own",
    ),
    setting(
        "OTEL_SERVICE_NAME",
        "config-controller",
        "The attribute `service.name` of traces",
    ),
    setting(
        "OTEL_RESOURCE_ATTRIBUTES",
        "",
        "More attributes of this process in traces, as name=value parted by commas, values percent-encoded",
    ),
    setting(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "Which traces are recorded: always_on, always_off, traceidratio, or one of them after parentbased_, where a caller's own decision goes first",
    ),
    setting(
        "OTEL_TRACES_SAMPLER_ARG",
        "1",
        "With traceidratio, which share, from 0 to 1",
    ),
    setting(
        "OTEL_TRACES_EXPORTER",
        "otlp",
        "otlp, or none for no traces",
    ),
    setting("OTEL_SDK_DISABLED", "false", "true for no traces"),
    setting(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "2048",
        "Spans that may wait to be sent; more are dropped and counted",
    ),
    setting(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "512",
        "Spans that are sent at once",
    ),
    setting(
        "OTEL_BSP_SCHEDULE_DELAY",
        "5000",
        "How long spans wait for others before they are sent, in milliseconds",
    ),
    setting(
        "OTEL_BSP_EXPORT_TIMEOUT",
        "30000",
        "As OTEL_EXPORTER_OTLP_TIMEOUT; the shorter holds",
    ),
];
