//! Finding the cluster and reloading credentials, in a folder of its own.

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::kube::kubeconfig::Exec;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A folder for one test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kube-auth-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn environment(&self) -> Environment {
        Environment {
            service_host: None,
            service_port: None,
            kubeconfig: None,
            home: Some(self.0.clone()),
            service_account_dir: self.0.join("sa"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A manual clock.
#[derive(Debug)]
struct ManualClock(Instant, AtomicU64);

impl ManualClock {
    fn turn(&self, secs: u64) {
        self.1.fetch_add(secs, Ordering::Relaxed);
    }

    fn turned(&self) -> Duration {
        Duration::from_secs(self.1.load(Ordering::Relaxed))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0 + self.turned()
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.turned()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock(Instant::now(), AtomicU64::new(0)))
}

const KUBECONFIG: &str = "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://k8s.test', certificate-authority-data: YWJj}}]\nusers: [{name: u, user: {token: t}}]\n";

fn cluster(login: Login) -> Cluster {
    Cluster {
        server: Server::parse("https://k8s.test").unwrap(),
        tls_server_name: None,
        certificate_authority: Some(Source::Data(b"ca".to_vec())),
        client_certificate: None,
        login,
        namespace: "default".into(),
        origin: "test".into(),
    }
}

fn token(proof: &Proof) -> &str {
    &proof.token.as_ref().unwrap().0
}

#[test]
fn without_any_configuration_the_three_sources_are_named() {
    let folder = Folder::new();
    let problems = resolve(&folder.environment()).unwrap_err();
    assert_eq!(problems.len(), 1);
    for way in ["service account", "KUBECONFIG", "~/.kube/config"] {
        assert!(problems[0].contains(way), "{}", problems[0]);
    }
}

#[test]
fn in_a_pod_the_service_account_takes_precedence() {
    let folder = Folder::new();
    folder.write(".kube/config", KUBECONFIG);
    folder.write("sa/token", "tok\n");
    folder.write("sa/ca.crt", "ca");
    folder.write("sa/namespace", "apps\n");
    let mut environment = folder.environment();
    environment.service_host = Some("fd00::1".into());
    environment.service_port = Some("6443".into());
    let cluster = resolve(&environment).unwrap();
    assert_eq!(cluster.server.authority(), "[fd00::1]:6443");
    assert_eq!(cluster.namespace, "apps");
    fs::remove_file(folder.0.join("sa/token")).unwrap();
    fs::remove_file(folder.0.join("sa/ca.crt")).unwrap();
    environment.service_port = Some("x".into());
    assert_eq!(resolve(&environment).unwrap_err().len(), 3);
}

#[test]
fn all_existing_files_of_kubeconfig_are_used() {
    let folder = Folder::new();
    let second = folder.write("second", KUBECONFIG);
    let third = folder.write("third", "users: 1");
    let mut environment = folder.environment();
    let both = format!("{}::{}", second.display(), third.display());
    environment.kubeconfig = Some(both);
    let problems = resolve(&environment).unwrap_err();
    let third = format!("kubeconfig {}: its users is a number", third.display());
    assert!(problems[0].starts_with(&third), "{problems:?}");
    environment.kubeconfig = Some(format!("/nowhere/at/all:{}", second.display()));
    let cluster = resolve(&environment).unwrap();
    assert_eq!(
        (cluster.server.port, cluster.namespace.as_str()),
        (443, "default")
    );
    assert!(cluster.origin.contains("second"));
    environment.kubeconfig = Some("/nowhere/at/all".into());
    assert!(resolve(&environment).unwrap_err()[0].contains("/nowhere/at/all"));
    environment.kubeconfig = None;
    folder.write(".kube/config", KUBECONFIG);
    assert!(resolve(&environment).is_ok());
}

#[test]
fn files_that_a_kubeconfig_names_are_checked_at_the_start() {
    let folder = Folder::new();
    let text = KUBECONFIG
        .replace(
            "certificate-authority-data: YWJj",
            "certificate-authority: ca.pem",
        )
        .replace("token: t", "tokenFile: tok");
    folder.write(".kube/config", &text);
    assert_eq!(resolve(&folder.environment()).unwrap_err().len(), 2);
    folder.write(".kube/ca.pem", "ca");
    folder.write(".kube/tok", " \n");
    let problems = resolve(&folder.environment()).unwrap_err();
    assert!(
        problems.len() == 1 && problems[0].contains("is empty"),
        "{problems:?}"
    );
    folder.write(".kube/tok", "tok");
    assert!(resolve(&folder.environment()).is_ok());
    // A token beside the file is used until the file is there.
    let both = text.replace("tokenFile: tok", "token: given, tokenFile: later");
    folder.write(".kube/config", &both);
    let clock = clock();
    let credentials = Credentials::new(&resolve(&folder.environment()).unwrap(), clock.clone());
    assert_eq!(token(&credentials.current().unwrap()), "given");
    folder.write(".kube/later", "rotated");
    clock.turn(60);
    assert_eq!(token(&credentials.current().unwrap()), "rotated");
}

#[test]
fn servers() {
    #[track_caller]
    fn check(url: &str, authority: &str, base_path: &str) {
        let server = Server::parse(url).unwrap();
        assert_eq!(
            (server.authority().as_str(), server.base_path.as_str()),
            (authority, base_path)
        );
    }
    check("https://k8s.test", "k8s.test:443", "");
    check("https://10.0.0.1:6443/", "10.0.0.1:6443", "");
    check(
        "https://[fd00::1]:6443/k8s/clusters/c-1/",
        "[fd00::1]:6443",
        "/k8s/clusters/c-1",
    );
    check("https://[::1]", "[::1]:443", "");
    check("http://localhost:8001", "localhost:8001", "");
    check("http://127.0.0.1", "127.0.0.1:80", "");
    let bad = [
        "",
        "k8s.test",
        "ftp://k8s.test",
        "https://",
        "https://:443",
        "https://a:0",
        "https://a:x",
        "https://a:70000",
        "https://u:p@a",
        "https://a/?q",
        "https://a/#f",
        "https://a b",
        "https://[::1]x",
        "https://[::1",
        "http://k8s.test",
        "http://10.0.0.1",
    ];
    for url in bad {
        assert!(Server::parse(url).is_err(), "{url}");
    }
}

#[test]
fn a_token_file_is_reloaded_every_minute_and_after_a_401() {
    let folder = Folder::new();
    let path = folder.write("token", "one\n");
    let clock = clock();
    let credentials = Credentials::new(&cluster(Login::TokenFile(path, None)), clock.clone());
    let first = credentials.current().unwrap();
    assert_eq!(token(&first), "one");
    folder.write("token", "two");
    clock.turn(59);
    assert_eq!(token(&credentials.current().unwrap()), "one");
    clock.turn(1);
    assert_eq!(token(&credentials.current().unwrap()), "two");
    folder.write("token", "three");
    // A request rejected with the first token gets the second one, which is newer.
    assert_eq!(token(&credentials.renew(&first).unwrap()), "two");
    let second = credentials.current().unwrap();
    assert_eq!(token(&credentials.renew(&second).unwrap()), "three");
    let third = credentials.current().unwrap();
    assert_eq!(
        credentials.renew(&third).unwrap().generation,
        third.generation
    );
}

#[test]
fn the_last_valid_token_stays_while_the_file_cannot_be_read() {
    let folder = Folder::new();
    let path = folder.write("token", "one");
    let clock = clock();
    let credentials = Credentials::new(
        &cluster(Login::TokenFile(path.clone(), None)),
        clock.clone(),
    );
    let first = credentials.current().unwrap();
    for bad in ["", "to ken", "t\0"] {
        folder.write("token", bad);
        clock.turn(60);
        assert_eq!(token(&credentials.current().unwrap()), "one");
    }
    fs::remove_file(&path).unwrap();
    clock.turn(60);
    assert_eq!(credentials.current().unwrap().generation, first.generation);
    let never = Credentials::new(&cluster(Login::TokenFile(path, None)), clock);
    assert!(never.current().is_err());
}

fn plugin(script: &str) -> Exec {
    Exec {
        api_version: "client.authentication.k8s.io/v1".into(),
        command: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("TOKEN".into(), "abc".into())],
        provide_cluster_info: true,
        install_hint: None,
    }
}

/// A script that prints an `ExecCredential` with this status.
fn printing(status: &str) -> String {
    format!(
        "cat <<END\n{{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\", \"status\": {status}}}\nEND\n"
    )
}

#[test]
fn tokens_of_an_exec_plugin_are_used_until_they_expire() {
    let folder = Folder::new();
    let counter = folder.0.join("count").display().to_string();
    let status =
        r#"{"token": "$TOKEN-$(wc -l <COUNT)", "expirationTimestamp": "2027-01-15T08:05:00Z"}"#;
    let script = format!(
        "echo >>{counter}; {}",
        printing(&status.replace("COUNT", &counter))
    );
    let clock = clock(); // 2027-01-15T08:00:00Z
    let credentials = Credentials::new(&cluster(Login::Exec(plugin(&script))), clock.clone());
    assert_eq!(token(&credentials.current().unwrap()), "abc-1");
    clock.turn(289);
    assert_eq!(token(&credentials.current().unwrap()), "abc-1");
    clock.turn(1);
    assert_eq!(token(&credentials.current().unwrap()), "abc-2");
}

/// Longest time that a test waits for another thread.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The first run of the plugin returns a token for 305 s. Each later run blocks until the test
/// opens the named pipe `fifo` and closes it again.
fn blocking_credentials(folder: &Folder, clock: Arc<ManualClock>) -> Credentials {
    let made = Command::new("mkfifo").arg(folder.0.join("fifo")).status();
    assert!(made.unwrap().success());
    let status =
        r#"{"token": "run-$(wc -l <count)", "expirationTimestamp": "2027-01-15T08:05:05Z"}"#;
    let script = format!(
        "cd {}; [ -e count ] && cat fifo; echo >>count; {}",
        folder.0.display(),
        printing(status)
    );
    Credentials::new(&cluster(Login::Exec(plugin(&script))), clock)
}

#[test]
fn while_a_plugin_runs_other_threads_use_the_credentials_that_are_still_valid() {
    let (folder, clock) = (Folder::new(), clock());
    let credentials = blocking_credentials(&folder, clock.clone());
    assert_eq!(token(&credentials.current().unwrap()), "run-1");
    clock.turn(300);
    thread::scope(|scope| {
        let reader = scope.spawn(|| credentials.current().unwrap());
        // Opened once the plugin has opened its end: it runs.
        let fifo = fs::OpenOptions::new()
            .write(true)
            .open(folder.0.join("fifo"));
        let (sender, receiver) = channel();
        let credentials = &credentials;
        scope.spawn(move || sender.send(credentials.current().unwrap()).unwrap());
        let other = receiver.recv_timeout(TEST_TIMEOUT);
        drop(fifo.unwrap());
        assert_eq!(
            token(&other.expect("no thread waits for a plugin")),
            "run-1"
        );
        assert_eq!(token(&reader.join().unwrap()), "run-2");
    });
    assert_eq!(
        token(&credentials.renew(&Proof::default()).unwrap()),
        "run-2"
    );
}

#[test]
fn threads_that_need_new_credentials_wait_for_the_one_running_plugin() {
    let (folder, clock) = (Folder::new(), clock());
    let credentials = blocking_credentials(&folder, clock);
    let refused = credentials.current().unwrap();
    thread::scope(|scope| {
        let renew = || credentials.renew(&refused).unwrap();
        let readers = [scope.spawn(renew), scope.spawn(renew), scope.spawn(renew)];
        drop(
            fs::OpenOptions::new()
                .write(true)
                .open(folder.0.join("fifo")),
        );
        for reader in readers {
            assert_eq!(token(&reader.join().unwrap()), "run-2");
        }
    });
}

#[test]
fn an_exec_plugin_gets_the_cluster_in_its_environment() {
    let script = r#"case "$KUBERNETES_EXEC_INFO" in *'"server":"https://k8s.test:443"'*'"interactive":false'*|*'"interactive":false'*'"server":"https://k8s.test:443"'*) ;; *) exit 3;; esac; "#;
    let script = format!("{script}{}", printing(r#"{"token": "t"}"#));
    let given = exec::run(&plugin(&script), &cluster(Login::Anonymous), exec::RUN_MAX).unwrap();
    assert_eq!(token(&given), "t");
}

#[test]
fn errors_of_an_exec_plugin_are_messages_without_secrets() {
    #[track_caller]
    fn check_within(limit: Duration, script: &str, expected: &str) {
        let error = exec::run(&plugin(script), &cluster(Login::Anonymous), limit).unwrap_err();
        assert!(
            error.contains(expected),
            "{error:?} should contain {expected:?}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
    /// On a busy machine even a short script takes a while.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        check_within(exec::RUN_MAX, script, expected);
    }
    for script in ["sleep 10", "echo s3cret; sleep 10 & sleep 10"] {
        check_within(Duration::from_millis(500), script, "did not end within");
    }
    check("exit 3", "failed: exit status: 3");
    check("echo s3cret", "no ExecCredential");
    check("yes s3cret", "printed more than");
    check(&printing("{}"), "neither a token nor a certificate");
    check(
        &printing(r#"{"token": "s3 cret"}"#),
        "characters that are not allowed in a token",
    );
    check(
        &printing(r#"{"clientKeyData": "s3cret"}"#),
        "key without certificate",
    );
    check(
        &printing(r#"{"token": "s3cret", "expirationTimestamp": "soon"}"#),
        "is not a time",
    );
    check(
        &printing("{}").replace("/v1\"", "/v1beta1\""),
        "an apiVersion other than",
    );
    let mut missing = plugin("");
    missing.command = "/no/such/plugin".into();
    missing.install_hint = Some("install it with apt".into());
    let error = exec::run(&missing, &cluster(Login::Anonymous), exec::RUN_MAX).unwrap_err();
    assert!(error.contains("install it with apt"), "{error}");
}

#[test]
fn a_token_that_no_header_can_contain_is_rejected() {
    let clock = Arc::new(SystemClock);
    let login = Login::Token(Secret("to\nken".into()));
    assert!(Credentials::new(&cluster(login), clock).current().is_err());
}
