//! The wire contract as a table: the protocol of 2.7.1, as amended by our own decisions.
//!
//! A row has an id of the contract, a sentence, what it needs, and what is sent and expected.
//! Where the sentence names 2.7.1, that release fails the row. The same rows run
//!
//! 1. on the fake (`cargo test`);
//! 2. on a real cluster, with our program (`cargo test -- --include-ignored`);
//! 3. on any server: `CONTRACT_URL=http://host:port cargo test --test it contract::at_a_url`;
//!    without that variable on the service over the fake, with only its URL. `CONTRACT_TYPE` names
//!    a type that it can start. With `KUBECONFIG` and `CONTRACT_NAMESPACE` rows that read objects
//!    run too, and with `CONTRACT_EDIT=1` those that create types and change objects.
//!    `CONTRACT_AT_ONCE` is the number of rows that run concurrently. Rows that cannot run are
//!    listed with the reason.
//!
//! | module | rows |
//! |---|---|
//! | `http` | part B section 2: paths, methods, framing; A15, A17, A18 |
//! | `reads` | sections 3.1 to 3.3: `/info`, `/app`, lists |
//! | `starts` | section 3.4: GET of an instance |
//! | `failures` | starts that do not succeed |
//! | `labels` | section 3.5: PATCH |
//! | `stops` | section 3.6: DELETE |
//! | `legacy` | sections 3.7 and 3.8: `/create`, `/release` |
//! | `templates` | section 5: templates and their variables |
//! | `life` | bounds, shutdown, Kubernetes away, an upgrade from 2.7.1 |
//!
//! `original` checks that 2.7.1, as described, fails those rows and no others.
//!
//! | what they use | |
//! |---|---|
//! | `environment` | the servers under test |
//! | `fixture` | requests, responses and checks |
//! | `types` | app types that mean the same everywhere |

#[path = "contract_environment.rs"]
mod environment;
#[path = "contract_failures.rs"]
mod failures;
#[path = "contract_fixture.rs"]
mod fixture;
#[path = "contract_http.rs"]
mod http;
#[path = "contract_labels.rs"]
mod labels;
#[path = "contract_legacy.rs"]
mod legacy;
#[path = "contract_life.rs"]
mod life;
#[path = "contract_original.rs"]
mod original;
#[path = "contract_reads.rs"]
mod reads;
#[path = "contract_starts.rs"]
mod starts;
#[path = "contract_stops.rs"]
mod stops;
#[path = "contract_templates.rs"]
mod templates;
#[path = "contract_types.rs"]
mod types;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cluster::{self, print_line};
use crate::end_to_end::number_from_env;
use environment::{AtUrl, Need, OnCluster, OnFake, TestEnvironment, variable};
use fixture::{Fixture, Outcome};

/// One line of the contract.
struct Row {
    id: &'static str,
    description: &'static str,
    needs: &'static [Need],
    run: Run,
}

/// How a row is checked.
enum Run {
    /// A sequence of requests, each with its exact response.
    Exchanges(&'static [Exchange]),
    /// A story, on any environment that has what it needs.
    Fixture(fn(&Fixture) -> Outcome),
    /// A story with a fake of its own.
    Fake(fn() -> Outcome),
}

/// A row of single requests, which need nothing but HTTP.
const fn exchanges(id: &'static str, description: &'static str, run: &'static [Exchange]) -> Row {
    let run = Run::Exchanges(run);
    let needs = &[];
    Row {
        id,
        description,
        needs,
        run,
    }
}

/// A row that is a story.
const fn fixture(
    id: &'static str,
    description: &'static str,
    needs: &'static [Need],
    run: fn(&Fixture) -> Outcome,
) -> Row {
    let run = Run::Fixture(run);
    Row {
        id,
        description,
        needs,
        run,
    }
}

/// A row that makes its own fake.
const fn fake(id: &'static str, description: &'static str, run: fn() -> Outcome) -> Row {
    let run = Run::Fake(run);
    let needs = &[Need::Fake];
    Row {
        id,
        description,
        needs,
        run,
    }
}

/// A request and its response. In all texts `<type>` stands for a type that can be started, `<new>`
/// for an unused name, and `<host>` for the Host header of the request.
struct Exchange {
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
    response: Body,
    response_headers: &'static [(&'static str, &'static str)],
}

/// What the body of a response must be.
#[derive(Clone, Copy)]
enum Body {
    /// These bytes.
    Exactly(&'static str),
    /// `{"status":"error","msg":…,"code":…}` with this code.
    Error(&'static str),
    /// The same in `detail`, with this word and code.
    Detail(&'static str, &'static str),
    /// Any body: only the headers count.
    Any,
}

/// A request without headers and body of its own.
const fn ask(method: &'static str, path: &'static str, status: u16, response: Body) -> Exchange {
    Exchange {
        method,
        path,
        headers: &[],
        body: "",
        status,
        response,
        response_headers: &[],
    }
}

impl Exchange {
    /// With these headers and this body.
    const fn sending(
        self,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
    ) -> Self {
        Self {
            headers,
            body,
            ..self
        }
    }

    /// Expects these response headers; the empty text means absent.
    const fn with(self, response_headers: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            response_headers,
            ..self
        }
    }

    fn check(&self, fixture: &Fixture) -> Outcome {
        let fill = |text: &str| {
            text.replace("<type>", fixture.app_type())
                .replace("<host>", &fixture.host())
                .replace("<new>", &fixture.name("new"))
        };
        let path = fill(self.path);
        let mut reply = fixture.ask(self.method, &path, self.headers, &fill(self.body))?;
        for (name, value) in self.response_headers {
            // The instance that the path names is the one in the response.
            let value = match value.strip_prefix("http://<host>") {
                Some("<path>") => format!("http://{}{}", fixture.host(), without_slash(&path)),
                _ => fill(value),
            };
            reply = reply.has(name, &value)?;
        }
        match self.response {
            Body::Exactly(text) => reply.exactly(self.status, text).map(drop),
            Body::Error(code) => reply.error(self.status, code).map(drop),
            Body::Detail(word, code) => reply.detail(self.status, word, code).map(drop),
            Body::Any => reply.is(self.status).map(drop),
        }
    }
}

/// A path and its query without the slash between them.
fn without_slash(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (target, String::new()),
    };
    format!("{}{query}", path.trim_end_matches('/'))
}

/// All rows.
fn table() -> Vec<&'static Row> {
    [
        http::ROWS,
        reads::ROWS,
        starts::ROWS,
        failures::ROWS,
        labels::ROWS,
        stops::ROWS,
        legacy::ROWS,
        templates::ROWS,
        life::ROWS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The lines of part B's sections 2 and 3, by the names that the rows give them.
const LINES: &[&str] = &[
    // 2. Generic HTTP behaviour.
    "B2.headers",
    "B2.json",
    "B2.cors",
    "B2.keep-alive",
    "B2.404",
    "B2.405",
    "B2.307",
    "B2.307-encoded",
    "B2.404-encoded",
    "B2.decoding",
    "B2.500",
    "B2.422",
    "B2.envelopes",
    "B2.docs",
    // 3.1 GET /info.
    "B3.1",
    // 3.2 GET /app.
    "B3.2",
    "B3.2-query",
    "B3.2-error",
    // 3.3 GET /app/{type} and /api/{type}.
    "B3.3-entry",
    "B3.3-pending",
    "B3.3-failed",
    "B3.3-meta",
    "B3.3-session",
    "B3.3-unknown",
    "B3.3-api",
    // 3.4 GET /app/{type}/{name}.
    "B3.4-once",
    "B3.4-ready",
    "B3.4-node_not_ready",
    "B3.4-pulling_image",
    "B3.4-app_error",
    "B3.4-error",
    "B3.4-hang-up",
    // 3.5 PATCH.
    "B3.5-ok",
    "B3.5-label",
    "B3.5-none",
    "B3.5-refused",
    "B3.5-dict_type",
    "B3.5-missing",
    "B3.5-json_invalid",
    "B3.5-content-type",
    "B3.5-order",
    "B3.5-null",
    // 3.6 DELETE.
    "B3.6-none",
    "B3.6-ok",
    "B3.6-at-once",
    "B3.6-podless",
    // 3.7 GET /create/{type}.
    "B3.7-missing",
    "B3.7-empty",
    "B3.7-ok",
    "B3.7-variables",
    "B3.7-error",
    "B3.7-408",
    "B3.7-loop",
    // 3.8 GET /release/{name}.
    "B3.8-name",
    "B3.8-session",
    "B3.8-none",
    "B3.8-template-gone",
];

/// Every id that the table must have.
fn required() -> BTreeSet<String> {
    let numbered = |letter: &'static str, last: usize| {
        (1..=last).map(move |number| format!("{letter}{number}"))
    };
    // S4 is about deployment, W23 and W24 about the original's own repository.
    let secure = ["S1", "S2", "S3", "S5", "S6"].map(str::to_owned);
    numbered("V", 14)
        .chain(numbered("A", 18))
        .chain(numbered("W", 22))
        .chain(secure)
        .chain(LINES.iter().map(|line| (*line).to_owned()))
        .collect()
}

#[test]
fn the_table_covers_every_line_of_the_contract_once() {
    let rows = table();
    let ids: BTreeSet<String> = rows.iter().map(|row| row.id.to_owned()).collect();
    let missing: Vec<String> = required().difference(&ids).cloned().collect();
    assert!(missing.is_empty(), "no row has the id of {missing:?}");
    for id in &ids {
        let count = rows.iter().filter(|row| row.id == id).count();
        assert_eq!(count, 1, "{id}");
        // What is not required itself is a part of what is: `A17-413` of `A17`.
        let of = id.split('-').next().unwrap_or(id);
        let known = required().contains(id) || required().contains(of);
        assert!(known, "{id} is no line of the contract");
    }
}

#[test]
fn every_row_has_a_description() {
    for row in table() {
        assert!(
            row.description.len() > 20,
            "{}: {:?}",
            row.id,
            row.description
        );
        // The sentence of a row about a fault of 2.7.1 names 2.7.1.
        let was_wrong = row.id.starts_with('W') || row.id.starts_with('S');
        assert!(
            !was_wrong || row.description.contains("2.7.1"),
            "{} does not name 2.7.1",
            row.id
        );
    }
}

/// The results of the rows on an environment.
#[derive(Default)]
struct Report {
    held: usize,
    failed: Vec<String>,
    not_run: Vec<String>,
}

/// Calls its argument with an environment: one of its own for each row, or the same for all.
type Lend<'a> = &'a (dyn Fn(&mut dyn FnMut(&dyn TestEnvironment)) + Sync);

/// Runs rows concurrently, each on an environment from `lend`.
fn run_all(rows: &[&Row], at_once: usize, lend: Lend) -> Report {
    let next = AtomicUsize::new(0);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let result = run(row, lend);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    let line = |why: &str| format!("{}: {}\n    {why}", row.id, row.description);
                    match result {
                        Ok(()) => report.held += 1,
                        Err(Unmet::NotRun(why)) => report.not_run.push(line(why)),
                        Err(Unmet::Failed(why)) => report.failed.push(line(&why)),
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort();
    report.not_run.sort();
    report
}

enum Unmet {
    NotRun(&'static str),
    Failed(String),
}

fn run(row: &Row, lend: Lend) -> Result<(), Unmet> {
    // The harness reports by a panic.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut result = Ok(());
        lend(&mut |environment| result = run_on(row, environment));
        result
    }));
    result.unwrap_or_else(|panic| Err(Unmet::Failed(panic_message(&*panic))))
}

fn run_on(row: &Row, environment: &dyn TestEnvironment) -> Result<(), Unmet> {
    if let Some(why) = row.needs.iter().find_map(|need| environment.lacks(*need)) {
        return Err(Unmet::NotRun(why));
    }
    let outcome = match row.run {
        Run::Fake(story) => story(),
        Run::Fixture(story) => story(&Fixture::new(environment)),
        Run::Exchanges(exchanges) => {
            let fixture = Fixture::new(environment);
            exchanges.iter().try_for_each(|one| one.check(&fixture))
        }
    };
    outcome.map_err(Unmet::Failed)
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Prints which rows did not run, and why.
fn log_not_run(place: &str, report: &Report) {
    for row in &report.not_run {
        print_line(&format!("NOT RUN {place}: {row}"));
    }
}

/// Fails with all rows that failed.
#[track_caller]
fn check_report(place: &str, report: &Report) {
    let (held, failed) = (report.held, report.failed.len());
    let total = held + failed + report.not_run.len();
    print_line(&format!(
        "{held} of {total} rows of the contract hold {place}, {failed} do not"
    ));
    assert!(held + failed > 0, "no row of the contract ran {place}");
    let failures = report.failed.join("\n");
    assert!(
        failed == 0,
        "{place} these rows of the contract fail:\n{failures}"
    );
}

/// Many rows wait for something most of their time.
const ROWS_AT_ONCE: usize = 8;

#[test]
fn on_the_fake() {
    let report = run_all(&table(), ROWS_AT_ONCE, &|act| act(&OnFake::new()));
    check_report("on the fake", &report);
    assert!(report.not_run.is_empty(), "the fake can do everything");
}

#[test]
#[ignore = "needs a cluster"]
fn on_a_cluster() {
    let cluster = cluster::shared();
    let environment = OnCluster::new(cluster);
    let report = run_all(&table(), ROWS_AT_ONCE, &|act| act(&environment));
    log_not_run("on a cluster", &report);
    check_report("on a cluster", &report);
}

#[test]
fn at_a_url() {
    let given = variable("CONTRACT_URL");
    let own = given.is_none().then(OnFake::new);
    let own_url = own.as_ref().map(|own| format!("http://{}", own.address()));
    let url = given.as_ref().or(own_url.as_ref());
    let environment =
        AtUrl::new(url.expect("one of both is there")).unwrap_or_else(|reason| panic!("{reason}"));
    let place = format!("at {}", environment.address());
    // Others may use a server that was given, too: one row at a time unless asked for more.
    let at_once = match own {
        Some(_) => ROWS_AT_ONCE,
        None => number_from_env("CONTRACT_AT_ONCE", 1),
    };
    let report = run_all(&table(), at_once, &|act| act(&environment));
    if given.is_some() {
        log_not_run(&place, &report);
    }
    check_report(&place, &report);
}
