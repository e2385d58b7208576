//! All integration tests, as one program.
//!
//! | module | what it shows |
//! |---|---|
//! | `auth` | who may call, and that nobody else does |
//! | `conformance` | what we rely on from the API server, on the fake and (with `CLUSTER_TESTS=1`) on a real cluster |
//!
//! What the tests stand on:
//!
//! | module | what it is |
//! |---|---|
//! | `fake_kube` | the fake API server, with tests of its own |
//! | `raw_kube` | a plain client for an API server |

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

mod harness;
mod raw_kube;

mod apps;
mod auth;
mod conformance;
mod labels;
mod reads;
mod start;
mod stop;
mod wait;
