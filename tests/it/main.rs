//! All integration tests, as one program.
//!
//! | module | what it shows |
//! |---|---|
//! | `apps` | lists, `/info`, probes, 404, 405, redirects |
//! | `instances` | the list of all instances, and stops of many |
//! | `start` | one GET makes one Job, under races and lost responses |
//! | `wait` | how long a start is waited for, what a 202 says, how a failure is reported |
//! | `stop` | DELETE, and a start while the same name goes |
//! | `replace` | PUT: an instance is stopped, and started anew |
//! | `on_change` | edits of templates whose instances are restarted then |
//! | `labels` | PATCH, and what reads show of it |
//! | `stored` | what other clients store beyond our bounds: labels, entries of ConfigMaps, sizes of lists |
//! | `reads` | responses from the cache make no call to Kubernetes |
//! | `legacy` | the older routes |
//! | `templates` | ConfigMaps that are edited, broken or deleted |
//! | `dry_runs` | templates that are tried when their ConfigMap arrives, and `/templates` |
//! | `values` | what callers send for templates: data, whatever it looks like |
//! | `fencing` | preconditions: made with these values, still the one that the caller knows |
//! | `disruption` | pods that are evicted, or deleted by hand: callers get the successor |
//! | `healing` | etcd restored from a backup, lost events, odd responses |
//! | `watch` | the cache while watches break, expire or are not allowed |
//! | `outage` | Kubernetes away, slow, or failing |
//! | `replicas` | several replicas on one API server |
//! | `predecessor` | 2.7.1: its instances, a roll-back to it, its Role |
//! | `logs` | logs of instances: what is read, what ends them, who may |
//! | `limits` | bounds on waiting requests |
//! | `input` | bad input changes nothing |
//! | `https` | the port with a certificate |
//! | `usage` | each ended instance is reported once |
//! | `shutdown` | shutdown of a replica |
//! | `binary` | the program: arguments, exit codes, signals, a kill |
//! | `check` | `config-controller check`: rights, templates, files |
//! | `image` | the image is the same, whichever way it is built |
//! | `demo` | the demo app does what its environment says, and its image is small |
//! | `traces` | requests and starts as spans, received by a collector of our own |
//! | `clocks` | replicas whose clocks differ from that of the API server |
//! | `timing` | `Server-Timing`: how long each phase of a start took |
//! | `metrics` | every metric is documented, moves, and is taken by Prometheus' own checker |
//! | `manifests` | manifests and chart: their goldens, that they agree, and (ignored without a cluster) that a cluster accepts them |
//! | `openapi` | router, OpenAPI document, errors and real responses say the same |
//! | `page` | ignored without Chromium: the status page in a browser |
//! | `auth` | authentication: which callers are let in |
//! | `conformance` | what we rely on from the API server, on the fake and (ignored without one) on a real cluster |
//! | `contract` | the wire contract as a table: on the fake, on a real cluster, at a URL |
//! | `end_to_end` | ignored without a cluster: our own program on a real cluster, with real pods |
//! | `in_cluster` | ignored without a cluster: our image in a real cluster, called by its Service from inside |
//! | `simulation` | seeded schedules of everything that can happen, on one thread |
//! | `proxies` | what proxies stand on, and the recipes for them, run by the real ones |
//! | `fuzz` | mutated input for everything that reads bytes from outside |
//! | `sandbox` | the commands that the sandbox suggests work |
//! | `readme` | names, links and log lines in the documents exist |
//! | `tidy` | rules of this repository |
//!
//! What the tests use:
//!
//! | module | what it is |
//! |---|---|
//! | `cluster` | the real cluster: whose it is, how it comes up, and that it goes |
//! | `fake_kube` | the fake API server, with tests of its own |
//! | `harness` | the service in this process, and a plain HTTP client |
//! | `raw_kube` | a plain client for an API server |

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

mod clocks;
mod cluster;
mod fuzz;
mod harness;
mod raw_kube;

mod apps;
mod auth;
mod binary;
mod caps;
mod check;
mod conformance;
mod contract;
mod demo;
mod disruption;
mod dry_runs;
mod end_to_end;
mod failure_reports;
mod fencing;
mod healing;
mod https;
mod idle;
mod image;
mod in_cluster;
mod input;
mod instances;
mod labels;
mod legacy;
mod limits;
mod lists;
mod logs;
mod manifests;
mod metrics;
mod on_change;
mod openapi;
mod outage;
mod page;
mod predecessor;
mod proxies;
mod readme;
mod reads;
mod recordings;
mod replace;
mod replicas;
mod sandbox;
mod shutdown;
mod simulation;
mod start;
mod start_queue;
mod stop;
mod stored;
mod streams;
mod templates;
mod tidy;
mod timing;
mod traces;
mod usage;
mod values;
mod wait;
mod watch;
