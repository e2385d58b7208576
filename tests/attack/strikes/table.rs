//! The attacks, in the order of the report. Each is a row here and a function beside this file.

use super::{Auth, Setup, Strike};
use super::{
    connections, held, kubernetes, memory, polite, readers, requests, shares, sockets, streams,
    tokens,
};
use std::time::Duration;

/// Ready instances behind the service that most attacks share: their list is the large response.
pub(crate) const SHARED: &[&str] = &["ready=2000"];

/// A few instances.
const FEW: Setup = Setup::over(&["ready=100"]);

/// Enough instances for a list of half a megabyte.
const SOME: Setup = Setup::over(&["ready=4000"]).keeping();

/// Many.
const MANY: Setup = Setup::over(&["ready=10000"]).keeping();

/// Good tokens, reviewed by the API server.
const REVIEWED: Setup = Setup::over(&["ready=100", "tokens=31"]).auth(Auth::Kubernetes);

/// All attacks.
pub(crate) const ALL: &[Strike] = &[
    Strike::new(
        "idle",
        "10,000 idle connections (bound: 4,300)",
        connections::idle,
    ),
    Strike::new(
        "by-twenty",
        "all idle connections that twenty addresses get; 50 new ones ask",
        connections::by_twenty,
    )
    .over(FEW),
    Strike::new(
        "slow",
        "5,000 slow ones: a byte of a head a second",
        connections::slow,
    ),
    Strike::new("header", "1 GiB of one header", memory::header),
    Strike::new("url", "256 MiB of URL", memory::url),
    Strike::new("headers", "100,000 header lines", memory::headers),
    Strike::new(
        "length",
        "Content-Length 10^11, then 9·10^18, on any path",
        requests::length,
    ),
    Strike::new("parked", "5,000 parked requests", requests::parked).of_service(),
    Strike::new(
        "overparked",
        "7,000 requests that would wait (bound: 4,000)",
        requests::overparked,
    )
    .of_service(),
    Strike::new("connects", "2,000 connects a second", connections::connects),
    Strike::new(
        "resets",
        "2,000 a second: connect, GET, RST",
        connections::resets,
    ),
    Strike::new(
        "nonreaders",
        "64 that never read a large response",
        memory::nonreaders,
    ),
    Strike::new(
        "pipeline",
        "1 that pipelines and never reads",
        memory::pipeline_one,
    ),
    Strike::new(
        "pipelines",
        "20 that pipeline and never read",
        memory::pipeline_many,
    ),
    Strike::new(
        "bodies",
        "500 POSTs whose body never comes",
        requests::bodies,
    ),
    Strike::new(
        "heads",
        "3,000 × 16 KB of a head that does not end",
        memory::heads,
    ),
    Strike::new(
        "uploads",
        "3,000 × 60 KB of a body that does not end",
        memory::uploads,
    ),
    Strike::new(
        "http2",
        "HTTP/2 preface × 200, closed at once",
        requests::http2,
    ),
    Strike::new(
        "refused",
        "1,000 requests that are refused, unread input behind them",
        requests::refused,
    ),
    Strike::new(
        "files",
        "700 connections, 256 open files allowed",
        connections::files,
    )
    .start(super::Start::FewFiles),
    Strike::new(
        "nofiles",
        "the limit of open files falls while it runs",
        connections::no_files,
    )
    .lifeless("no files left"),
    Strike::new(
        "threads",
        "400 connections, 300 threads allowed",
        connections::threads,
    )
    .start(super::Start::FewThreads),
    Strike::new(
        "alive64",
        "no attack: 64 keep-alive clients at once",
        polite::keep_alive_64,
    )
    .unjudged("full load"),
    Strike::new(
        "alive256",
        "no attack: 256 keep-alive clients at once",
        polite::keep_alive_256,
    )
    .unjudged("full load"),
    Strike::new(
        "medium",
        "no attack: responses of 4 KB on keep-alive",
        polite::medium_responses,
    ),
    Strike::new(
        "pairs",
        "PATCHes of 9,500 labels each, and of 30 more each time",
        kubernetes::pairs,
    )
    .of_service(),
    Strike::new(
        "one-name",
        "500 PATCHes of one instance at once, each takes 40 ms",
        shares::one_name,
    )
    .over(FEW.before(&["delay patch pods 40"])),
    Strike::new(
        "patches",
        "PATCHes that wait: 300 of 1 MB, 3,000 of 64 KiB",
        held::patches,
    )
    .over(FEW.before(&["hold"])),
    Strike::new(
        "values",
        "600 PATCHes of 64 KiB, all of it small values",
        held::values,
    )
    .over(FEW)
    .unjudged("full load"),
    Strike::new(
        "queries",
        "5,900 starts that wait, with queries of 15,000 bytes",
        held::queries,
    )
    .over(FEW),
    Strike::new(
        "endless-starts",
        "20,000 instances and 3,900 connections; starts with names of 240 bytes, without an end",
        shares::endless_starts,
    )
    .over(Setup::over(&["ready=20000"])),
    Strike::new(
        "by-address",
        "one address waits for 6,000 instances",
        shares::by_address,
    )
    .over(FEW),
    Strike::new(
        "by-two",
        "two addresses wait for 3,500 instances each",
        shares::by_two,
    )
    .over(FEW),
    Strike::new(
        "all-connections",
        "13,000 connections of two addresses (bound: 4,300)",
        shares::connections,
    )
    .over(FEW),
    Strike::new(
        "by-token",
        "one token waits for 6,000 instances",
        shares::by_token,
    )
    .over(FEW.auth(Auth::Token)),
    Strike::new(
        "guesses",
        "25 wrong tokens from the address of 30 good ones",
        tokens::from_one_address,
    )
    .over(FEW.auth(Auth::Token)),
    Strike::new(
        "addresses",
        "a wrong token from each of 4,300 addresses",
        tokens::from_many_addresses,
    )
    .over(FEW.auth(Auth::Token)),
    Strike::new(
        "reviewed",
        "25 wrong tokens from the address of 30 good ones (TokenReviews)",
        tokens::from_one_address,
    )
    .over(REVIEWED),
    Strike::new(
        "reviews",
        "2,250 PATCHes with a wrong token, TokenReviews take 8 s",
        held::reviews,
    )
    .over(REVIEWED.before(&["delay create tokenreviews 8000"])),
    Strike::new(
        "in-review",
        "192 wrong tokens of one address, and one 750 times, TokenReviews take 0.3 s",
        tokens::in_review,
    )
    .over(REVIEWED.before(&["delay create tokenreviews 300"])),
    Strike::new(
        "templates",
        "200 starts of a type with a template of 784 KB",
        held::templates,
    )
    .over(Setup::over(&["ready=100", "template=784000"])),
    Strike::new(
        "labels",
        "60 pods with 9,500 labels each, at the start and when they change",
        kubernetes::labels,
    )
    .over(Setup::over(&["ready=60", "pairs=9500"]).before(&["touch"])),
    Strike::new(
        "messages",
        "6,000 pods with 12 messages of 4,000 bytes each",
        kubernetes::messages,
    )
    .over(Setup::over(&["ready=6000", "messages=12"])),
    Strike::new(
        "notes",
        "60 ConfigMap entries of 900 KB that are no templates",
        kubernetes::notes,
    )
    .over(Setup::over(&["ready=100", "notes=60"])),
    Strike::new(
        "crumbs",
        "50 ConfigMaps with 400 templates of 2 KB each, all of it small values",
        kubernetes::crumbs,
    )
    .over(Setup::over(&["ready=100", "crumbs=50"])),
    Strike::new(
        "endless",
        "responses of the API server without an end, at the start and later",
        kubernetes::endless,
    )
    .over(Setup::over(&["ready=100", "endless=8"]).before(&["endless"])),
    Strike::new(
        "edits",
        "2,000 ConfigMaps, one of them edited 115 times a second",
        kubernetes::meanwhile,
    )
    .over(
        Setup::over(&["ready=100", "types=2000"])
            .before(&["edit 115 8"])
            .processor_max(Duration::from_secs(2))
            .log_max(120),
    ),
    Strike::new(
        "cut-watches",
        "watches that are closed 20 times a second",
        kubernetes::meanwhile,
    )
    .over(FEW.before(&["cut 50 8"]).log_max(120)),
    Strike::new(
        "readers",
        "60 that read a list of 4,000 at 250 KB/s",
        readers::slowly,
    )
    .over(SOME),
    Strike::new(
        "send-behind",
        "5,000 starts that wait, and whose callers go on sending",
        sockets::send_behind,
    )
    .over(FEW),
    Strike::new(
        "unread-small",
        "5,000 that send one GET after the other and never read",
        sockets::unread_small,
    )
    .over(FEW),
    Strike::new(
        "never-parted",
        "20,000 that end after ten GETs, read nothing and stay",
        sockets::never_parted,
    )
    .over(FEW),
    Strike::new(
        "unread-lists",
        "2,000 that ask for a list of 4,000 again and again and never read",
        sockets::unread_lists,
    )
    .over(SOME),
    Strike::new("threads32", "the same with 32 I/O threads", readers::slowly)
        .over(SOME.flags(&["--io-threads=32"])),
    Strike::new(
        "long",
        "12 that read a list of 14 MB at 2 MB/s",
        readers::steadily,
    )
    .over(Setup::over(&["ready=4000", "pairs=48"]).flags(&["--held-bytes-max=62914560"])),
    Strike::new(
        "old-lists",
        "30 that read old lists of 10,000 at 2 KB/s, an instance changes 20 times a second",
        readers::of_old_lists,
    )
    .over(MANY),
    Strike::new(
        "old-lists8",
        "8 addresses read old lists of 2 MB at 15 KB/s, each another version",
        readers::of_old_lists_from_many,
    )
    .over(Setup::over(&["ready=4000", "pairs=6"])),
    Strike::new(
        "bodies-lists",
        "2,400 bodies without an end from three addresses, beside lists of 2 MB",
        readers::beside_bodies,
    )
    .over(Setup::over(&["ready=4000", "pairs=6"])),
    Strike::new(
        "proven",
        "60 that read /templates at 20 KB/s and 40 again and again; 200 types with defaults of 18 KB, one edited 20 times a second",
        readers::of_templates,
    )
    .over(Setup::over(&["ready=100", "types=1", "defaults=200"]).before(&["edit 20 8"])),
    Strike::new(
        "nosuch",
        "10,000 instances; 4 that release one there is not, again and again",
        readers::nosuch,
    )
    .over(MANY),
    Strike::new(
        "lists",
        "10,000 instances; 4 that list them again and again",
        readers::lists,
    )
    .over(MANY),
    Strike::new(
        "lists300",
        "10,000 instances; 300 that list them again and again (p99 at most 25 ms)",
        readers::many_lists,
    )
    .over(MANY)
    // Each response is as many bytes as a thousand of others: the kernel's copying takes the turns.
    .p99_floor(Duration::from_millis(25)),
    Strike::new(
        "reconnects",
        "10,000 instances; 400 streams again and again, each with an unknown Last-Event-ID",
        streams::reconnects,
    )
    .over(MANY),
    Strike::new(
        "odd-pages",
        "10,000 instances; pages of them with queries that no client sends, 920 at a time",
        streams::odd_pages,
    )
    .over(MANY),
    Strike::new(
        "stops",
        "10,000 instances; 300 that stop many, of which there are none, again and again",
        streams::stops,
    )
    .over(MANY),
    Strike::new(
        "streams-unread",
        "2,000 streams of all 4,000 instances that nobody reads, beside starts and stops",
        streams::unread,
    )
    .over(SOME),
    Strike::new(
        "streams-bytes",
        "2,000 streams of all 4,000 instances that are read one byte at a time",
        streams::by_byte,
    )
    .over(SOME),
    Strike::new(
        "start-streams",
        "2,000 streams of starts that never become ready",
        streams::of_starts,
    )
    .over(FEW),
    Strike::new(
        "followers",
        "400 that follow a log (bound: 16)",
        streams::followers,
    )
    .over(FEW.before(&["log 2"])),
    Strike::new(
        "followers-unread",
        "400 that follow a log of 2 MiB and never read",
        streams::unread_logs,
    )
    .over(FEW.before(&["log 2"])),
    Strike::new(
        "pages",
        "300 that read / and /docs again and again",
        streams::pages,
    )
    .over(FEW)
    // As above: some 40 KB each.
    .p99_floor(Duration::from_millis(25)),
];

/// Those of the short run: what has brought servers down, in a few seconds.
pub(crate) const SHORT: &[&str] = &[
    "idle",
    "slow",
    "header",
    "length",
    "resets",
    "nonreaders",
    "pipelines",
    "uploads",
    "files",
    "nofiles",
    "patches",
    "labels",
    "readers",
];
