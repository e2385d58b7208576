//! All integration tests, as one program.
//!
//! | module | what it shows |
//! |---|---|
//! | `apps` | lists, `/info`, probes, 404, 405, redirects |
//! | `start` | one GET makes one Job, whoever else asks, and whatever its name |
//! | `wait` | how long a start is waited for, what a 202 says, how a failure is told |
//! | `stop` | DELETE, and a start while the same name goes |
//! | `labels` | PATCH, and what reads show of it |
//! | `reads` | what memory can answer makes no call to Kubernetes |
//! | `legacy` | the older routes |
//! | `templates` | ConfigMaps that are edited, broken or deleted |
//! | `values` | what callers send for templates: data, whatever it looks like |
//! | `watch` | the view while watches break, expire or are not allowed |
//! | `outage` | Kubernetes away, slow, or out of sorts |
//! | `replicas` | several replicas on one API server |
//! | `predecessor` | 2.7.1: its instances, a roll-back to it, its Role |
//! | `limits` | bounds on those who wait |
//! | `input` | bad input changes nothing |
//! | `https` | the port with a certificate |
//! | `shutdown` | the end of a replica |
//! | `binary` | the program: arguments, exit codes, signals, a kill |
//! | `check` | `config-controller check`: rights, templates, files |
//! | `image` | the image is the same, whichever way it is built |
//! | `traces` | requests and starts as spans, at a collector of ours |
//! | `timing` | where the time of a start went, as its responses say |
//! | `metrics` | every metric is documented, moves, and is taken by Prometheus' own checker |
//! | `manifests` | manifests and chart: their goldens, that they agree, and (ignored without a cluster) that a cluster accepts them |
//! | `openapi` | router, OpenAPI document, errors and real responses say the same |
//! | `auth` | who may call, and that nobody else does |
//! | `conformance` | what we rely on from the API server, on the fake and (ignored without one) on a real cluster |
//! | `contract` | the wire contract as a table: on the fake, on a real cluster, at a URL |
//! | `end_to_end` | ignored without a cluster: our own program on a real cluster, with real pods |
//! | `in_cluster` | ignored without a cluster: our image in a real cluster, asked by its Service from inside |
//! | `simulation` | seeded schedules of everything that can happen, on one thread |
//! | `fuzz` | mutated input for everything that reads bytes from outside |
//! | `sandbox` | the sandbox does what it tells people to try |
//! | `readme` | the README speaks of what there is |
//! | `tidy` | rules of this repository |
//!
//! What the tests stand on:
//!
//! | module | what it is |
//! |---|---|
//! | `cluster` | the real cluster: whose it is, how it comes up, and that it goes |
//! | `fake_kube` | the fake API server, with tests of its own |
//! | `harness` | the service in this process, and a plain HTTP client |
//! | `raw_kube` | a plain client for an API server |

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

mod cluster;
mod fuzz;
mod harness;
mod raw_kube;

mod apps;
mod auth;
mod binary;
mod check;
mod conformance;
mod contract;
mod end_to_end;
mod https;
mod image;
mod in_cluster;
mod input;
mod labels;
mod legacy;
mod limits;
mod manifests;
mod metrics;
mod openapi;
mod outage;
mod predecessor;
mod readme;
mod reads;
mod recordings;
mod replicas;
mod sandbox;
mod shutdown;
mod simulation;
mod start;
mod stop;
mod templates;
mod tidy;
mod timing;
mod traces;
mod values;
mod verdicts;
mod wait;
mod watch;
