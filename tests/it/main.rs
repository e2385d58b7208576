//! All integration tests, as one program.
//!
//! | module | what it shows |
//! |---|---|
//! | `conformance` | what we rely on from the API server, on the fake and (with `CLUSTER_TESTS=1`) on a real cluster |
//! | `end_to_end` | with `CLUSTER_TESTS=1`: our own program on a real cluster, with real pods |
//!
//! What the tests stand on:
//!
//! | module | what it is |
//! |---|---|
//! | `cluster` | the real cluster: whose it is, how it comes up, and that it goes |
//! | `fake_kube` | the fake API server, with tests of its own |
//! | `raw_kube` | a plain client for an API server |

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

mod cluster;
mod conformance;
mod end_to_end;
mod raw_kube;
