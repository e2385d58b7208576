//! config-controller hands out app instances in a Kubernetes namespace.
//!
//! `GET /app/<type>/<name>` returns the address of that instance and starts it first if it is not
//! running. An app type is a pod template in a labelled ConfigMap, an instance is a Job. All state
//! is in the cluster. A killed replica loses nothing, and any number of replicas run side by side
//! without knowing of each other.
//!
//! # The path of a request
//!
//! ```text
//! socket ─▶ http::server ─▶ http::connection ─▶ http::dispatcher ─▶ app::App ─▶ app::cache ─▶ store
//!               ▲            (bytes ⇄ values)    (http::endpoints)    │     a ready instance: here it ends
//!               │                                                     ▼ app::engine
//!        http::mailbox ◀─────────── responses ◀────────────── app::coordinator ─▶ events ─▶ app::reporter
//!                                                                 │          ▲      (log, metrics, spans)
//!                                             calls, one attempt  ▼          │ outcomes, changes
//!                                                   app::engine ─▶ kube::client ─▶ Kubernetes
//!                                                                                │
//!                                                 store::reflector ◀── watches ◀─┘
//! ```
//!
//! Beside it, `app::dry_runs` tries each template when `store::reflector` brings it.
//!
//! Data flows one way: `main → service → http → app → {store, kube, model}`, `store → kube`,
//! `model → kube::types`. Nothing points back, and no two files import each other;
//! `tests/it/tidy/layers.rs` and `imports.rs` enforce both. [`metrics`], [`traces`], [`yaml`], [`budget`] and [`clock`] are leaves that any
//! module may import. Pure files take bytes, values and the time, and touch nothing else.
//!
//! # In reading order
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`] | names, labels, templates, Jobs, statuses: pure computation |
//! | [`kube`] | the Kubernetes API: objects, requests, watches, credentials, HTTPS |
//! | [`store`] | what the watches deliver, in memory; the threads that keep it up to date |
//! | [`app`] | what the service does: the coordinator decides, the engine carries out |
//! | [`http`] | the HTTP front: connections, authentication, endpoints, JSON |
//! | [`service`] | wiring, the order of starting and stopping; what the settings name and the machine lacks |
//! | [`scrape`] | what `/metrics` reports, read from all parts |
//! | [`check`] | what `config-controller check` finds: missing permissions, invalid templates |
//! | [`config`], [`health`], [`logging`] | settings, probes, the log |
//! | [`metrics`], [`process`] | the table of metrics and their counters; what the system reports of this process |
//! | [`traces`] | requests and starts as spans for a collector (OTLP) |
//! | [`clock`], [`shutdown`], [`threads`] | time, signals, threads as values |
//! | [`budget`] | bounds on bytes and places that threads share, and the share of each caller |
//! | [`yaml`] | YAML as kubectl reads it, for templates and kubeconfigs |
//!
//! # Where to look
//!
//! | question | file |
//! |---|---|
//! | How is a Job name derived? | [`model::names`] |
//! | What does "ready" mean? | [`model::status`] |
//! | When is a failed instance replaced? | `app/coordinator/resolve.rs`; the restart delay, and since when a problem lasts: `app/coordinator/memory/problem.rs` |
//! | What happens after a 409 on create? | `app/coordinator/outcome.rs` |
//! | When may a request with `If-Match` change an instance? | `app/expectation.rs`; when the cache does not suffice: `standing` in `app/coordinator/operation.rs` |
//! | What was an instance made from? | [`model::revision`] |
//! | What may all requests hold, and what one caller? | [`budget`]: bytes and places; charged in `http/handlers.rs` and `http/server/turn.rs` |
//! | How many connections and instances fit into the memory? | `budget/memory.rs`; asked in `http/server/admission.rs` and [`app::coordinator`] |
//! | May an instance run where a cap holds? | [`app::admissions`]; which start waits for a place: `app/coordinator/start_queue.rs` |
//! | Which instances are restarted when their template changes? | [`app::restarts`]; how one is replaced: `app/coordinator/replace.rs` |
//! | Which of many waiting calls is made next? | [`app::queue`]; where its manifest is rendered: [`app::rendering`] |
//! | What would the API server refuse or drop in a template? | [`model::validation`] |
//! | What is known of a template before it is started? | [`app::dry_runs`]; as it is listed: [`app::templates`] |
//! | When is a list made anew, and from what? | `app/lists.rs`, `app/assembler.rs` |
//! | Who force-deletes a pod, and when? | `app/coordinator/calls.rs`, `app/coordinator/memory.rs` |
//! | What time is it by the API server's clock? | [`kube::server_clock`] |
//! | How is a stale cache detected? | `kube/watch/upkeep.rs`, `store/freshness.rs`, `store/doubts.rs` |
//! | Where is a failure of an instance logged? | [`app::reporter`] |
//!
//! # Invariants
//!
//! - **The Job's name is the lock.** It is a pure function of type and name ([`model::names`]); the API
//!   server lets one Job of a name exist. There is no other lock.
//! - **One coordinator decides.** [`app::coordinator`] is a pure machine without threads and clock.
//!   It holds one record per name and one timer queue. An input observes the state of its name
//!   once, and each waiter is resolved from one table. At most one call per name is in flight. Its
//!   result counts for earlier requests only: a later one may mean another Job.
//! - **Caches are eventually consistent and lag independently of each other.** Jobs and pods are
//!   watched separately, Events may be missing, other replicas write. Only a 404 of the API server
//!   counts as "not found" for a request that changes something. `tests/it/simulation` runs the
//!   coordinator, the stores and the watches against all of that, and checks their invariants after
//!   every step.
//! - **Each step of a Job's life is reported once.** Log lines, metrics, spans and `Server-Timing` come
//!   from [`app::lifecycle`] events; nothing is decided from them.
//! - **Reads cost nothing.** A GET of a ready instance is served from the stores, a list from bytes
//!   that all its readers share; no handler calls Kubernetes (an unknown bearer token is reviewed by
//!   [`app::review`]).
//! - **No request costs more with more instances.** Threads that serve requests have [`store::Store`],
//!   which cannot go through all objects; [`app::index`] is kept up to date by each change, and
//!   [`app::assembler`] makes lists on a thread of its own.
//! - **No request passes unauthenticated.** [`http::dispatcher`] authenticates every request before its
//!   handler runs; an endpoint is closed unless its row in [`http::endpoints`] says `Open`.
//! - **Waiting costs no thread.** A request that waits is a waiter in a record of the coordinator.
//! - **Versions are compared in [`store::store`] only.** The result of our own write is in the
//!   store before the caller gets its response.
//! - **No input causes a panic.** A panic in a handler is one 500; a panic in a thread that the service
//!   needs ends the process ([`threads`]), which loses nothing.
//! - **Each large crate has one home:** the HTTP client with TLS in `kube/transport.rs` (for the
//!   API server) and `traces/post.rs` (for the collector), TLS of the server in `http/tls.rs`,
//!   `tiny_http` in `http/wire.rs`, `prometheus` in `metrics.rs`, OpenTelemetry in
//!   `traces/otlp.rs`.
//!
//! # What is deliberately absent
//!
//! No async runtime, no leader election, no database, no lock, no second cache of objects, no thread per
//! connection or per waiting request, no retry below the coordinator.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod budget;
pub mod check;
pub mod clock;
pub mod config;
pub mod health;
pub mod http;
pub mod kube;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod process;
#[cfg(test)]
mod random;
pub mod scrape;
pub mod service;
pub mod shutdown;
pub mod sorting;
pub mod store;
pub mod threads;
pub mod traces;
pub mod yaml;
