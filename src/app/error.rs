//! [`Error`]: why the app cannot do what a request asks for; knows nothing of HTTP.
//!
//! Each variant belongs to one party that can fix it: the caller, the author of the template, or
//! the operator; others pass with time (retry). Texts are here; status codes and stable codes are
//! in `http/problem.rs` and nowhere else.

use super::admissions::Refusal;
use crate::budget::Full;
use crate::model::labels::MetaError;
use crate::model::names::{AppType, InstanceKey, NameError};
use crate::model::template::TemplateError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many of the known types an error names.
pub const KNOWN_TYPES_MAX: usize = 100;

/// The text of [`Error::LimitReached`].
const LIMIT_REACHED: &str = "the limit of instances is reached, and the instance that this request waited for was stopped; retry later";

/// The text of [`Error::OwnerForbidden`].
const OWNER_FORBIDDEN: &str = "this caller may not send Instance-Owner; its line in the tokens file, or its entry in AUTH_ALLOW, must have the right 'owner'";

/// An error that a caller gets.
#[derive(Clone, Debug)]
pub enum Error {
    /// No template offers this type. The caller chooses another.
    UnknownType {
        /// The requested type.
        app_type: String,
        /// The types that the caller may use, set by [`crate::http`]: this layer knows no callers.
        known: Vec<AppType>,
    },
    /// The name is invalid. The caller chooses another.
    BadName(NameError),
    /// The template cannot be read, or Kubernetes rejected the Job made from it. Its author fixes it.
    TemplateInvalid(Arc<str>),
    /// The template needs this variable, which the caller did not give.
    VariableMissing(String),
    /// A value in the query is invalid for the template; holds the message. The caller changes it.
    VariableInvalid(Arc<str>),
    /// A PATCH has a key that cannot be set; holds the message.
    ReservedKey(Arc<str>),
    /// A PATCH has an empty key; holds the message.
    KeyInvalid(Arc<str>),
    /// A PATCH has a value that cannot be a meta label; holds the message.
    ValueInvalid(Arc<str>),
    /// A PATCH would give an instance more or longer labels than permitted; holds the message with
    /// the bound.
    LabelsLimit(Arc<str>),
    /// The name of the Job is used by another object. The caller chooses another name.
    NameTaken(InstanceKey),
    /// The name of the Job may be that of an instance of a type that the caller may not use. The caller
    /// chooses another name.
    NameOfOtherType(InstanceKey),
    /// There is no such instance (to stop, to label, or to find without starting it).
    NoInstance(InstanceKey),
    /// No instance has this name or session (to stop it).
    NoSession(Box<str>),
    /// The instance was made with other values than the request expects (`Prefer: match=values`). The caller
    /// uses it as it is, stops it, or chooses another name.
    OtherValues(InstanceKey),
    /// The instance is not the one that the request expects, or has changed since (`If-Match`). The caller
    /// reads it again.
    PreconditionFailed(InstanceKey),
    /// A header of the request cannot be read; holds the message. The caller changes it.
    BadHeader(Arc<str>),
    /// A parameter of the query is unknown or cannot be read; holds the message. The caller changes it.
    QueryInvalid(Arc<str>),
    /// The caller may not use this type, which a parameter names. The caller chooses another.
    TypeForbidden(Box<str>),
    /// The caller may not name owners of instances. It leaves the header out, or the operator grants the right.
    OwnerForbidden,
    /// There is no log; holds the message.
    NoLog(NoLog, Arc<str>),
    /// The instance was stopped while this request waited for it.
    Stopped,
    /// An admission plug-in or webhook rejected the Job; holds the message of Kubernetes.
    Refused(Arc<str>),
    /// A quota was used up until the deadline; holds the message of Kubernetes. A retry helps once an
    /// instance has been stopped.
    QuotaExceeded(Arc<str>),
    /// The limit of instances is reached, and the instance that this request waited for was stopped.
    /// A retry helps.
    LimitReached,
    /// No more instances may run now. A retry helps once one has ended.
    NoPlace(Refusal),
    /// The cached instances take all memory that there is for them. A retry helps once some have been
    /// stopped.
    InstancesTakeMemory {
        /// What they take, in bytes.
        bytes: usize,
        /// What they may take.
        max: usize,
    },
    /// There is no memory for the response. A retry helps.
    Overloaded,
    /// A list is larger than any may be; a retry does not help. The operator raises the bound.
    ListTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bound: a quarter of the setting `HELD_BYTES_MAX`.
        max: usize,
    },
    /// A bound on waiting requests is reached. A retry helps.
    TooManyRequests(Bound),
    /// The service lacks a permission; the log names verb and resource. The operator grants it.
    NotPermitted,
    /// The namespace does not exist. The operator creates it or configures another.
    NamespaceMissing,
    /// Kubernetes is unreachable, overloaded, or does not respond as it should. A retry helps.
    Unavailable {
        /// The time to wait before a retry.
        retry_after: Duration,
        /// What Kubernetes says about it, if it does.
        said: Option<Arc<str>>,
    },
    /// Not every watch has listed its objects yet. A retry helps.
    NotSynced,
    /// This replica is shutting down. A retry reaches another one.
    Draining,
    /// A bug of config-controller.
    Internal,
}

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLog {
    /// The container has not started. A retry helps.
    NotStarted,
    /// It has had no run before the present one.
    NoPreviousRun,
    /// The pod is gone, and nothing is remembered of it.
    Gone,
    /// The service may not read logs. The operator permits it.
    NotPermitted,
}

/// A bound on requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The setting `PARKED_MAX`: all waiters of this replica.
    Parked,
    /// The setting `CALLER_SHARE_MAX`: the waiters of one caller.
    CallerShare,
    /// The setting `PARKED_PER_KEY_MAX`: the waiters of one instance.
    ParkedPerKey,
    /// Requests on their way to the coordinator.
    Inbox,
    /// Requests that wait for a token review, or tokens under review.
    Reviews,
    /// Different pages of the list of all instances, or states of it, that are waited for.
    Pages,
    /// The setting `LOG_STREAMS`: logs that are being read.
    LogStreams,
}

impl Bound {
    /// The value of the label `cause` of `config_controller_rejected_total`.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Parked => "parked_max",
            Self::CallerShare => "caller_share_max",
            Self::ParkedPerKey => "parked_per_key_max",
            Self::Inbox => "inbox",
            Self::Reviews => "token_reviews",
            Self::Pages => "pages",
            Self::LogStreams => "log_streams",
        }
    }
}

/// As errors name it: settings by their own names.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parked => "PARKED_MAX",
            Self::CallerShare => "CALLER_SHARE_MAX",
            Self::ParkedPerKey => "PARKED_PER_KEY_MAX",
            Self::Inbox => "the coordinator's inbox",
            Self::Reviews => "token reviews",
            Self::Pages => "pages of instances",
            Self::LogStreams => "LOG_STREAMS",
        })
    }
}

impl Error {
    /// [`Error::Unavailable`] with a retry after one second.
    pub const UNAVAILABLE: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
        said: None,
    };
}

impl Error {
    /// Whether there is no memory for it now.
    pub(super) const fn is_overload(&self) -> bool {
        matches!(self, Self::Overloaded)
    }
}

impl From<&TemplateError> for Error {
    fn from(error: &TemplateError) -> Self {
        Self::TemplateInvalid(error.to_string().into())
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::Budget => Self::Overloaded,
            Full::Share => Self::TooManyRequests(Bound::CallerShare),
        }
    }
}

impl From<MetaError> for Error {
    fn from(error: MetaError) -> Self {
        let text = error.to_string().into();
        match error {
            MetaError::Limit(_) | MetaError::AllLimit(_) | MetaError::TooManyKeys => {
                Self::LabelsLimit(text)
            }
            MetaError::Reserved(_) => Self::ReservedKey(text),
            MetaError::EmptyKey => Self::KeyInvalid(text),
            MetaError::NotScalar(_) => Self::ValueInvalid(text),
        }
    }
}

impl Error {
    /// The text of an error about another instance than the caller means.
    fn fmt_conflict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken(key) => write!(
                f,
                "the Job name '{}' is used by an object that is not {key}; choose another name",
                key.job_name()
            ),
            // It does not name the type, which the caller may not know.
            Self::NameOfOtherType(key) => write!(
                f,
                "the Job name '{}' may be that of an instance of another app type, which this token may not use, so it does not start {key}; choose a name with another beginning",
                key.job_name()
            ),
            Self::OtherValues(key) => write!(
                f,
                "{key} was made with other values for its template; drop 'Prefer: match=values' to use it as it is, stop it, or choose another name"
            ),
            Self::PreconditionFailed(key) => write!(
                f,
                "{key} is not what If-Match names: it has changed, or another one has its name, or there is none; GET it again"
            ),
            _ => Ok(()),
        }
    }
}

fn write_unknown_type(
    f: &mut fmt::Formatter<'_>,
    app_type: &str,
    known: &[AppType],
) -> fmt::Result {
    write!(f, "unknown app type '{app_type}'; ")?;
    let named = known.iter().take(KNOWN_TYPES_MAX).map(AppType::as_str);
    let named: Vec<&str> = named.collect();
    match known.len() - named.len() {
        0 if known.is_empty() => write!(f, "no other type is available"),
        0 => write!(f, "known types: {}", named.join(", ")),
        more => {
            let named = named.join(", ");
            write!(
                f,
                "known types: {named} and {more} more, which GET /app lists"
            )
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType { app_type, known } => write_unknown_type(f, app_type, known),
            Self::BadName(error) => error.fmt(f),
            Self::TemplateInvalid(text) => write!(f, "the template is invalid: {text}"),
            Self::VariableMissing(variable) => write!(
                f,
                "the template needs a value for '{variable}': add {variable}=... to the query"
            ),
            Self::VariableInvalid(text) => write!(f, "invalid value for the template: {text}"),
            Self::TypeForbidden(app_type) => {
                write!(f, "this token may not use the app type '{app_type}'")
            }
            Self::BadHeader(text)
            | Self::QueryInvalid(text)
            | Self::NoLog(_, text)
            | Self::ReservedKey(text)
            | Self::KeyInvalid(text)
            | Self::ValueInvalid(text)
            | Self::LabelsLimit(text) => f.write_str(text),
            Self::NameTaken(_)
            | Self::NameOfOtherType(_)
            | Self::OtherValues(_)
            | Self::PreconditionFailed(_) => self.fmt_conflict(f),
            Self::OwnerForbidden => f.write_str(OWNER_FORBIDDEN),
            Self::NoInstance(key) => write!(f, "there is no instance {key}"),
            Self::NoSession(name) => write!(f, "there is no instance with the name or session '{name}'"),
            Self::Stopped => f.write_str(
                "the instance was stopped while this request waited for it; retry to start a new one",
            ),
            Self::Refused(text) | Self::QuotaExceeded(text) => write!(f, "Kubernetes rejected the instance: {text}"),
            Self::LimitReached => f.write_str(LIMIT_REACHED),
            Self::NoPlace(refusal) => write!(f, "{refusal}{}", refusal.remedy()),
            Self::InstancesTakeMemory { bytes, max } => write!(
                f,
                "the instances take {bytes} bytes of the memory of config-controller, which has {max} for them: stop some, or raise its memory limit"
            ),
            Self::TooManyRequests(Bound::CallerShare) => f.write_str(
                "the requests of this caller use its share (CALLER_SHARE_MAX); retry when some have been answered",
            ),
            Self::TooManyRequests(bound) => {
                write!(f, "too many waiting requests ({bound}); retry later")
            }
            Self::Overloaded => f.write_str(
                "requests and responses use all memory set aside for them (HELD_BYTES_MAX); retry later",
            ),
            Self::ListTooLarge { bytes, max } => write!(
                f,
                "the list has {bytes} bytes, and at most {max} (a quarter of HELD_BYTES_MAX) can be sent: raise HELD_BYTES_MAX, or have fewer instances and templates; GET, PATCH and DELETE of a single instance still work"
            ),
            Self::NotPermitted => f.write_str(
                "config-controller lacks a permission; its log names the verb and the resource",
            ),
            Self::NamespaceMissing => {
                f.write_str("the namespace of the instances does not exist; create it, or set JOB_NAMESPACE")
            }
            Self::Unavailable { said: Some(text), .. } => {
                write!(f, "Kubernetes cannot carry out the request now: {text}; retry later")
            }
            Self::Unavailable { said: None, .. } => {
                f.write_str("Kubernetes is unreachable, overloaded, or does not respond as it should; retry later")
            }
            Self::NotSynced => {
                f.write_str("this replica has not read the state of the namespace yet; retry later. If this persists, its log says why")
            }
            Self::Draining => f.write_str("this replica is shutting down; retry"),
            Self::Internal => f.write_str("internal error; see the log"),
        }
    }
}
