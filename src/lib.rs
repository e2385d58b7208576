//! config-controller hands out app instances in a Kubernetes namespace.
//!
//! `GET /app/<type>/<name>` answers with the address of that instance and starts it first
//! if it does not run. An app type is a pod template in a labelled ConfigMap, an instance
//! is a Job. All state is in the cluster: a replica that is killed loses nothing, and any
//! number of them run side by side without knowing of each other.
//!
//! # The way of a request
//!
//! ```text
//! socket ─▶ http::server ─▶ http::connection ─▶ http::dispatcher ─▶ app::App ──▶ app::cache ─▶ store
//!               ▲            (bytes ⇄ values)    (endpoint, JSON)    │  reads are answered at once
//!               │                                                    ▼
//!            mailbox ◀──────────── answers ◀────────────────── app::coordinator (starts, stops, waits)
//!                                                                │            ▲
//!                                             calls, one attempt ▼            │ outcomes, changes
//!                                                  app::{engine, executor} ─▶ kube::client ─▶ Kubernetes
//!                                                                               │
//!                                                store::reflector ◀── watches ◀─┘
//! ```
//!
//! Data flows one way: `main → service → http → app → {store, kube, model}`, `store → kube`,
//! `model → kube::types`. Nothing points back; `tests/it/tidy.rs` holds us to that.
//! [`metrics`], [`traces`] and [`yaml`] are leaves, as [`clock`] is: whoever has something to count, to tell or to
//! read may import them.
//! Pure files count nothing; the threads around them do (of the coordinator: [`app::engine`]), and
//! what the stores and the front know anyway is read when `/metrics` is asked for.
//!
//! # In reading order
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`] | names, labels, templates, Jobs, statuses: pure computation |
//! | [`kube`] | the Kubernetes API: objects, requests, watches, credentials, HTTPS |
//! | [`store`] | what the watches say, in memory; the threads that keep it so |
//! | [`app`] | what the service does; the coordinator decides, the engine carries out |
//! | [`http`] | the HTTP front: connections, who may call, routes, JSON |
//! | [`service`] | wiring, the order of starting and stopping |
//! | [`scrape`] | what `/metrics` says, read from all parts |
//! | [`check`] | what `config-controller check` finds: our rights, the templates |
//! | [`config`], [`health`], [`logging`] | settings, probes, the log |
//! | [`metrics`], [`process`] | the table of metrics and their counters; what the system says of us |
//! | [`traces`] | requests and starts as spans for a collector (OTLP) |
//! | [`clock`], [`shutdown`], [`threads`] | time, signals, threads as values |
//! | [`yaml`] | YAML as kubectl reads it, for templates and kubeconfigs |
//!
//! # Invariants
//!
//! - **The Job's name is the lock.** It is a pure function of type and name
//!   ([`model::names`]); the API server lets one Job of a name exist. There is no other lock.
//! - **One coordinator decides.** Every start, stop and wait is a flight at the [`app::coordinator`], a pure
//!   machine without threads and clock. At most one call per name is under way, and its answer is
//!   for those who had asked by then: who asks later may mean another Job.
//! - **Views lag, apart from each other.** Jobs and pods are watched apart, Events may lack, and other
//!   replicas write: what is not in the cache may be there, and only Kubernetes says "not found"
//!   to who changes something (a GET that starts nothing is told what the cache shows).
//!   `tests/it/simulation` runs the coordinator, the stores and the watches against all of that.
//! - **Reads cost nothing.** Whatever a GET of a ready instance or a list needs is in the
//!   stores; no handler calls Kubernetes (an unknown token is reviewed by [`app::review`]).
//! - **Nobody gets past the authenticator unasked.** Every request passes [`http::auth::authenticator`] before it
//!   is looked at; its row in [`http::endpoints`] says whether an endpoint is open.
//! - **Waiting costs no thread.** A request that waits is a token in the coordinator.
//! - **Versions are compared in [`store::store`] only**, and what our own writes return is in
//!   the store before the caller hears of it.
//! - **Nobody panics on input.** A panic in a handler is one 500; a panic in a thread that the
//!   service cannot do without ends the process ([`threads`]), which loses nothing.
//! - **Foreign crates are named in few files:** the HTTP client in `kube/transport.rs` (for the API
//!   server) and `traces/post.rs` (for the collector of traces), TLS there for the clients and in
//!   `http/tls.rs` for the server, `tiny_http` in `http/wire.rs` only, `prometheus` in `metrics.rs`
//!   only, OpenTelemetry in `traces/otlp.rs` only.
//!
//! # What is deliberately absent
//!
//! No async runtime, no leader election, no database, no lock, no second cache, no thread per
//! connection or per waiting request, no retry below the coordinator.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
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
pub mod scrape;
pub mod service;
pub mod shutdown;
pub mod store;
pub mod threads;
pub mod traces;
pub mod yaml;
