//! Requests to the app, and their responses.
//!
//! Plain values between the HTTP front and the app. How they look on the wire is decided in
//! `http`, what happens to them in [`super::coordinator`].

use super::cache::{InstanceVersion, Ready};
use super::error::Error;
use super::expectation::Expectation;
use super::list::List;
use super::request_handle::RequestHandle;
use super::request_id::RequestId;
use super::timings::Timings;
use crate::budget::{Held, SharedBytes};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::Finding;
use crate::model::template::Variables;
use crate::traces::Context;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The sender of a request, and its ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The caller: the name of its token, else its address.
    pub caller: Arc<str>,
    /// Whose instances it starts, if anybody's: the name of its token, or that of `Instance-Owner`.
    pub owner: Option<Arc<str>>,
    /// The request.
    pub request: RequestId,
    /// Its span, if traces are on.
    pub trace: Option<Context>,
}

/// The form in log lines.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (request {})", self.caller, self.request)
    }
}

/// A request about one instance.
#[derive(Clone, Debug)]
pub struct InstanceRequest {
    /// Where a later response goes.
    pub handle: RequestHandle,
    /// Which instance.
    pub key: InstanceKey,
    /// The sender, for the log and the Job's annotation.
    pub by: Origin,
    /// How long it waits (`Prefer: wait`), if set.
    pub wait: Option<Duration>,
    /// Whether it waits for a place under a cap, instead of being refused where there is none.
    pub is_patient: bool,
    /// Whether the Job is read from Kubernetes first (`Cache-Control: no-cache`).
    pub reads: bool,
    /// What it expects of the instance that is there.
    pub expectation: Expectation,
    /// What it holds while it waits.
    pub held: Arc<Held>,
}

/// What a request for the instance may cause.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Nothing: it waits for an existing instance or one that is being started.
    Find,
    /// Nothing: it gets the last report at once, also of an instance that is gone.
    Report,
    /// A start, with these values for the template.
    Start(Arc<Variables>),
    /// The same, and a stop if the instance is not ready by the deadline.
    StartOrStop(Arc<Variables>),
    /// A start in place of an instance whose deletion was accepted.
    Replace(Box<Replacement>),
}

/// A start in place of the instance that is there.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The values for the template.
    pub variables: Arc<Variables>,
    /// Their revision, if that is known: what others have started with the same values will do.
    pub revision: Option<Arc<str>>,
    /// The Job whose deletion was accepted, if there was one.
    pub stopped: Option<Uid>,
    /// Whether the service itself starts it, since its template has changed.
    pub is_restart: bool,
}

/// The response to a waiting request.
#[derive(Clone, Debug)]
pub enum Response {
    /// The instance is ready.
    Ready {
        /// Its address and meta labels.
        ready: Ready,
        /// The durations of the phases of its start, if known.
        timings: Option<Timings>,
    },
    /// It is not ready, or not gone, yet.
    Progress {
        /// The progress, or the failure report.
        progress: Progress,
        /// The instance, once there is one.
        instance: Option<InstanceVersion>,
        /// The durations of the phases of its start so far.
        timings: Option<Timings>,
    },
    /// One of these two from the cache, since the Job could not be read as the request had asked.
    Unread(Box<Self>),
    /// The instances of a type.
    List(Arc<List>),
    /// The state with which a stream of events begins, and the number of the last event before.
    Relist(Arc<SharedBytes>, u64),
    /// The log of the request has begun, or goes on.
    Log,
    /// The request is carried out.
    Done,
    /// What has become of the instances that the request was to stop.
    Stopped(StopCounts),
    /// The labels of the instance are changed, and nothing else since the caller knew them.
    Labelled(InstanceVersion),
    /// The request failed.
    Failed(Error),
    /// The status of the request's bearer token, or why the review failed.
    TokenReviewed(Result<TokenStatus, Error>),
}

/// What has become of the instances that a request was to stop.
#[derive(Clone, Debug, Default)]
pub struct StopCounts {
    /// So many deletions were accepted.
    pub stopped: usize,
    /// So many instances were waited for, and are not gone yet.
    pub stopping: usize,
    /// So many were left as they are: there were more than one request stops, or no time was left.
    pub left: usize,
    /// So many could not be stopped.
    pub failed: usize,
    /// The first of these, and why.
    pub first: Option<Box<(InstanceKey, Error)>>,
}

/// The result of a TokenReview of a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// It is valid, and this user's.
    User(Arc<str>),
    /// It is invalid, expired, or for another audience.
    Unknown,
}

/// The progress of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Phase, reason and message.
    pub finding: Finding,
    /// Its place among the starts that wait at this replica for the same reason, from 1 on, if it waits.
    pub position: Option<NonZeroU32>,
    /// Whether this is a failure report: the start has failed, or probably has.
    pub is_failure_report: bool,
    /// How long no request can change that: a failed instance is kept for its restart delay.
    pub kept_for: Duration,
}

impl Progress {
    /// The word that clients of 2.7.1 know (contract 3.4).
    #[must_use]
    pub fn legacy_word(&self) -> &'static str {
        if self.is_failure_report {
            "app_error"
        } else {
            self.finding.phase.legacy_word()
        }
    }
}

/// Where responses to waiting requests go; the HTTP front implements it.
pub trait ResponseSink: fmt::Debug + Send + Sync {
    /// Responds to the request with that handle, from any thread. A request that no longer waits is
    /// ignored.
    fn respond(&self, handle: RequestHandle, response: Response);

    /// There may be something new for streams.
    fn announce(&self);

    /// Responds to readers of one list with it, or with why there is none.
    fn respond_list(&self, readers: &[RequestHandle], list: &Result<Arc<List>, Error>) {
        for reader in readers {
            let response = match list {
                Ok(list) => Response::List(Arc::clone(list)),
                Err(error) => Response::Failed(error.clone()),
            };
            self.respond(*reader, response);
        }
    }
}

/// How long requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Default (`START_WAIT`).
    pub start_wait: Duration,
    /// Upper bound for every request (`START_WAIT_MAX`).
    pub start_wait_max: Duration,
}
