//! Why the app cannot do what was asked; knows nothing of HTTP.
//!
//! Each variant says who has to act: the caller, the author of the template, the
//! operator, or nobody but time. What status, code and text a variant becomes is
//! decided in `http/problem.rs` and nowhere else.

use crate::kube;
use crate::model::labels::MetaError;
use crate::model::names::{InstanceKey, NameError};
use crate::model::template::TemplateError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a caller is told when there is no other answer.
#[derive(Clone, Debug)]
pub enum Error {
    /// No template offers this type; holds those there are. The caller chooses one of them.
    UnknownType {
        /// What was asked for.
        app_type: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The name cannot be one. The caller chooses another.
    BadName(NameError),
    /// The template cannot be read or was refused; its author mends it.
    TemplateInvalid(Arc<str>),
    /// The template needs a variable that the caller did not give.
    VariableMissing {
        /// The variable's name.
        variable: String,
    },
    /// A value of the caller cannot be put into the template.
    VariableInvalid(Arc<str>),
    /// A PATCH has a key or value that cannot be a meta label; holds the sentence which.
    ReservedKey(Arc<str>),
    /// A PATCH would give an instance more or longer labels than it may have; holds the sentence
    /// with the bound.
    LabelsLimit(Arc<str>),
    /// The Job name is taken by something else. The caller chooses another name.
    NameTaken(InstanceKey),
    /// There is no such instance (to stop, to label, or to find without starting it).
    NoInstance(InstanceKey),
    /// No instance has this name or session (to stop it).
    NoSession(Box<str>),
    /// The instance was stopped while this request waited for it.
    Stopped,
    /// Kubernetes refused the Job by a quota or an admission webhook; holds its sentence.
    Refused(Arc<str>),
    /// As many instances run as are allowed, and the one that this request waited for was given up.
    /// Time helps.
    LimitReached,
    /// More requests wait than are allowed. Time helps.
    TooManyRequests(Bound),
    /// We lack a right; the operator grants it. The verb and resource are in the log.
    NotPermitted,
    /// The namespace does not exist; the operator makes it or names another.
    NamespaceMissing,
    /// Kubernetes cannot be reached or does not answer. Time helps.
    Unavailable {
        /// When to ask again.
        retry_after: Duration,
    },
    /// We have not yet seen all that there is. Time helps.
    NotSynced,
    /// We are about to end. Another replica helps.
    Draining,
    /// A defect of ours.
    Internal,
}

/// A bound on requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The setting `PARKED_MAX`: all waiters of this replica.
    Parked,
    /// The setting `PARKED_PER_KEY_MAX`: the waiters of one instance.
    ParkedPerKey,
    /// Requests on their way to the coordinator.
    Inbox,
    /// Requests whose tokens are being reviewed, or tokens that may be.
    Reviews,
}

impl Bound {
    /// The value of the label `cause` of `config_controller_rejected_total`.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Parked => "parked_max",
            Self::ParkedPerKey => "parked_per_key_max",
            Self::Inbox => "inbox",
            Self::Reviews => "token_reviews",
        }
    }
}

/// As errors name it: settings by their own names.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parked => "PARKED_MAX",
            Self::ParkedPerKey => "PARKED_PER_KEY_MAX",
            Self::Inbox => "the coordinator's inbox",
            Self::Reviews => "token reviews",
        })
    }
}

impl Error {
    /// Kubernetes cannot be reached: ask again in a second.
    pub const UNAVAILABLE: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
    };
}

impl From<&TemplateError> for Error {
    fn from(error: &TemplateError) -> Self {
        Self::TemplateInvalid(error.to_string().into())
    }
}

impl From<MetaError> for Error {
    fn from(error: MetaError) -> Self {
        let text = error.to_string().into();
        match error {
            MetaError::Limit(_) => Self::LabelsLimit(text),
            MetaError::Reserved(_) | MetaError::NotScalar(_) | MetaError::EmptyKey => {
                Self::ReservedKey(text)
            }
        }
    }
}

/// The sentence of Kubernetes, for what is the caller's or the template author's to mend.
#[must_use]
pub fn kube_sentence(error: &kube::Error) -> Arc<str> {
    error.user_message().into()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType { app_type, known } if known.is_empty() => {
                write!(f, "unknown app type '{app_type}'; no other type is available")
            }
            Self::UnknownType { app_type, known } => {
                let known = known.join(", ");
                write!(f, "unknown app type '{app_type}'; known types: {known}")
            }
            Self::BadName(error) => error.fmt(f),
            Self::TemplateInvalid(text) => write!(f, "the template is invalid: {text}"),
            Self::VariableMissing { variable } => write!(
                f,
                "the template needs a value for '{variable}': add {variable}=... to the query"
            ),
            Self::VariableInvalid(text) => write!(f, "invalid value for the template: {text}"),
            Self::ReservedKey(text) | Self::LabelsLimit(text) => f.write_str(text),
            Self::NameTaken(key) => write!(
                f,
                "the Job name '{}' is used by an object that is not {key}; choose another name",
                key.job_name()
            ),
            Self::NoInstance(key) => write!(f, "there is no instance {key}"),
            Self::NoSession(name) => write!(f, "there is no instance with the name or session '{name}'"),
            Self::Stopped => f.write_str(
                "the instance was stopped while this request waited for it; retry to start a new one",
            ),
            Self::Refused(text) => write!(f, "Kubernetes rejected the instance: {text}"),
            Self::LimitReached => f.write_str(
                "the limit of instances is reached, and the instance that this request waited for was stopped; retry later",
            ),
            Self::TooManyRequests(bound) => {
                write!(f, "too many waiting requests ({bound}); retry later")
            }
            Self::NotPermitted => f.write_str(
                "config-controller lacks a permission; its log names the verb and the resource",
            ),
            Self::NamespaceMissing => {
                f.write_str("the namespace of the instances does not exist; create it, or set JOB_NAMESPACE")
            }
            Self::Unavailable { .. } => {
                f.write_str("Kubernetes is unreachable or does not respond; retry later")
            }
            Self::NotSynced => {
                f.write_str("this replica has not read the state of the namespace yet; retry later. If this persists, its log says why")
            }
            Self::Draining => f.write_str("this replica is shutting down; retry"),
            Self::Internal => f.write_str("internal error; see the log"),
        }
    }
}
