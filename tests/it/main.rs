//! All integration tests, as one program.
//!
//! | module | what it shows |
//! |---|---|
//! | `conformance` | what we rely on from the API server, on the fake and (with `CLUSTER_TESTS=1`) on a real cluster |
//! | `raw_kube` | the plain client that these tests speak to an API server with |

#[path = "../fake_kube/mod.rs"]
mod fake_kube;
