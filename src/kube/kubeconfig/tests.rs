//! Valid and invalid kubeconfigs.

use super::{File, Login, Secret, Selected, Source, select};
use std::path::Path;

fn parse(text: &str, folder: &Path) -> Result<Selected, Vec<String>> {
    select(&[File::parse(text, folder)?])
}

/// A kubeconfig with these lines in its cluster and its user.
fn config(cluster: &[&str], user: &[&str]) -> String {
    let block = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: dev\ncontexts:\n- name: other\n  context: {{cluster: none, user: none}}\n- name: dev\n  context:\n    cluster: c\n    user: u\n    namespace: apps\nclusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443\n{}users:\n- name: u\n  user:\n    x-unknown: 1\n{}",
        block(cluster),
        block(user)
    )
}

fn good(cluster: &[&str], user: &[&str]) -> Selected {
    parse(&config(cluster, user), Path::new("/home/ann/.kube")).unwrap()
}

#[track_caller]
fn check_bad(text: &str, expected: &[&str]) {
    let problems = parse(text, Path::new("/k")).unwrap_err();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(
            problem.contains(expected),
            "{problem:?} should contain {expected:?}"
        );
    }
}

#[test]
fn the_current_context_selects_cluster_user_and_namespace() {
    let selected = good(&["certificate-authority: ca.pem"], &["token: abc"]);
    assert_eq!(selected.server, "https://10.0.0.1:6443");
    assert_eq!(selected.namespace.as_deref(), Some("apps"));
    assert_eq!(selected.login, Login::Token(Secret("abc".into())));
    let ca = selected.certificate_authority.unwrap();
    assert_eq!(ca, Source::File("/home/ann/.kube/ca.pem".into()));
}

#[test]
fn paths_are_relative_to_the_file_and_data_takes_precedence() {
    let cluster = [
        "certificate-authority: /abs/ca.pem",
        "certificate-authority-data: YWJj",
    ];
    let user = [
        "client-certificate: c.pem",
        "client-key: ../k.pem",
        "tokenFile: t",
        "token: other",
    ];
    let selected = good(&cluster, &user);
    assert_eq!(
        selected.certificate_authority,
        Some(Source::Data(b"abc".to_vec()))
    );
    let (certificate, key) = selected.client_certificate.unwrap();
    assert_eq!(certificate, Source::File("/home/ann/.kube/c.pem".into()));
    assert_eq!(key, Source::File("/home/ann/.kube/../k.pem".into()));
    let token = Some(Secret("other".into()));
    let file = Login::TokenFile("/home/ann/.kube/t".into(), token);
    assert_eq!(selected.login, file);
}

/// As kubectl does: the first file that has an entry counts for all of it, also for its folder.
#[test]
fn several_files_are_one() {
    let file = |text: &str, folder: &str| File::parse(text, Path::new(folder)).unwrap();
    let cluster = "clusters: [{name: c, cluster: {server: https://a, certificate-authority: ca}}]";
    let users = "users: [{name: u, user: {token: first}}, {name: v, user: {tokenFile: t}}]";
    let second = format!(
        "current-context: other\n{cluster}\nusers: [{{name: u, user: {{as: root}}}}]\n\
         contexts: [{{name: dev, context: {{cluster: c, user: u, namespace: apps}}}}]"
    );
    let files = [
        file("", "/a"),
        file(&format!("current-context: dev\n{users}"), "/b"),
        file(&second, "/c"),
    ];
    let selected = select(&files).unwrap();
    assert_eq!(selected.login, Login::Token(Secret("first".into())));
    assert_eq!(selected.namespace.as_deref(), Some("apps"));
    let ca = Some(Source::File("/c/ca".into()));
    assert_eq!(selected.certificate_authority, ca);
    let problems = select(&files[..2]).unwrap_err();
    assert!(problems[0].contains("\"dev\" is not among"), "{problems:?}");
}

#[test]
fn empty_fields_are_absent_and_a_certificate_needs_no_plugin() {
    let selected = good(
        &[],
        &["username: ''", "password: \"\"", "as: ''", "token: t"],
    );
    assert_eq!(selected.login, Login::Token(Secret("t".into())));
    let plugin = "exec: {apiVersion: client.authentication.k8s.io/v1, command: c}";
    let certificate = [
        "client-certificate-data: YQ==",
        "client-key-data: YQ==",
        plugin,
    ];
    assert_eq!(good(&[], &certificate).login, Login::Anonymous);
    let token = ["token: t", plugin];
    assert_eq!(good(&[], &token).login, Login::Token(Secret("t".into())));
}

#[test]
fn an_exec_plugin() {
    let user = [
        "exec:",
        "  apiVersion: client.authentication.k8s.io/v1",
        "  command: ./bin/login",
        "  args: [get-token, --cluster, \"7\"]",
        "  env: [{name: A, value: b}]",
        "  provideClusterInfo: true",
        "  interactiveMode: IfAvailable",
    ];
    let Login::Exec(exec) = good(&[], &user).login else {
        panic!()
    };
    assert_eq!(exec.command, Path::new("/home/ann/.kube/./bin/login"));
    assert_eq!(exec.args, ["get-token", "--cluster", "7"]);
    assert_eq!(exec.env, [("A".to_owned(), "b".to_owned())]);
    assert!(exec.provide_cluster_info);
    let user =
        ["exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws, env: null}"];
    let Login::Exec(exec) = good(&[], &user).login else {
        panic!()
    };
    assert_eq!(exec.command, Path::new("aws"));
}

#[test]
fn it_is_read_as_kubectl_reads_it() {
    let user = [
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: c, provideClusterInfo: yes}",
    ];
    let Login::Exec(exec) = good(&[], &user).login else {
        panic!()
    };
    assert!(exec.provide_cluster_info, "kubectl's yes is true");
    // The last of two wins, and unused fields may have any type.
    let selected = good(&["extensions: 7"], &["token: a", "token: b"]);
    assert_eq!(selected.login, Login::Token(Secret("b".into())));
    // Data in several lines, as a block and by an alias.
    let cluster = [
        "certificate-authority-data: &data |",
        "  YW",
        "  Jj",
        "again: *data",
    ];
    let ca = good(&cluster, &[]).certificate_authority;
    assert_eq!(ca, Some(Source::Data(b"abc".to_vec())));
    assert_eq!(good(&[], &["token: null"]).login, Login::Anonymous);
}

#[test]
fn a_wrong_type_is_reported_with_its_path_and_without_its_value() {
    check_bad(
        &config(
            &["server: 5150", "insecure-skip-tls-verify: \"true\""],
            &[
                "token: 5150",
                "exec: {command: on, args: [5150, {}], env: [{value: x}, 5150]}",
            ],
        ),
        &[
            "its clusters[0].cluster.server is a number, not text: put quotes around it",
            "its clusters[0].cluster.insecure-skip-tls-verify is text, not true or false",
            "its users[0].user.token is a number, not text: put quotes around it",
            "its users[0].user.exec.args[0] is a number",
            "its users[0].user.exec.args[1] is a map, not text",
            "its users[0].user.exec.env[0].name is null",
            "its users[0].user.exec.env[1] is a number, not a map",
            "its users[0].user.exec.command is true or false, not text: put quotes around it",
        ],
    );
    let text = config(&[], &["token: 5150"]);
    let problems = parse(&text, Path::new("/k")).unwrap_err();
    assert!(!problems[0].contains("5150"), "{problems:?}");
    check_bad(
        "clusters: 1\nusers: {}",
        &[
            "its clusters is a number, not a list",
            "its users is a map, not a list",
        ],
    );
}

#[test]
fn the_number_of_problems_is_bounded() {
    let many = |count| format!("users: [{}]", vec!["1"; count].join(", "));
    for (count, reported) in [(15, 15), (16, 16), (17, 16)] {
        let problems = parse(&many(count), Path::new("/k")).unwrap_err();
        assert_eq!(problems.len(), reported);
    }
}

#[test]
fn secrets_are_not_printed() {
    let exec = ["exec: {apiVersion: client.authentication.k8s.io/v1, command: c, args: [s3cret]}"];
    for user in [&["token: s3cret"][..], &exec] {
        let printed = format!("{:?}", good(&[], user));
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}

#[test]
fn texts_that_are_not_kubeconfigs() {
    check_bad("", &["no current-context"]);
    check_bad("just text", &["not a kubeconfig"]);
    check_bad(
        "a: [",
        &["not a kubeconfig: line 1: the brackets do not match"],
    );
    check_bad(
        "a: 1\n---\nb: 2",
        &["not a kubeconfig: line 2: a second document"],
    );
    check_bad("current-context: \"\"", &["no current-context"]);
    check_bad(
        "current-context: dev",
        &["\"dev\" is not among its contexts"],
    );
    check_bad(
        "current-context: d\ncontexts: [{name: d, context: {cluster: c, user: u}}]",
        &["cluster \"c\"", "user \"u\""],
    );
}

#[test]
fn all_unsupported_settings_are_reported_together_with_a_reason() {
    check_bad(
        &config(
            &[
                "insecure-skip-tls-verify: true",
                "proxy-url: http://p",
                "certificate-authority-data: '%'",
            ],
            &[
                "username: a",
                "password: b",
                "client-key-data: YQ==",
                "auth-provider: {name: gcp}",
                "as: root",
            ],
        ),
        &[
            "client-key without client-certificate",
            "auth-provider",
            "username and password",
            "impersonates",
            "insecure-skip-tls-verify is not supported",
            "proxy-url",
            "certificate-authority-data is not base64",
        ],
    );
    check_bad(
        &config(&[], &["client-certificate: c"]),
        &["without client-key"],
    );
    check_bad(
        &config(&[], &["exec: {apiVersion: v0, interactiveMode: Always}"]),
        &["apiVersion \"v0\"", "interactiveMode Always", "no command"],
    );
}
