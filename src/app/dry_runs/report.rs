//! [`Report`]: what is known of a template without starting it.
//!
//! Pure values, which `/templates`, the metrics and the log show. How one comes about is in
//! [`super::judgement`].

use crate::app::catalog::Offer;
use crate::model::excerpt::excerpt;
use crate::model::names::AppType;
use std::fmt::Debug;
use std::sync::Arc;

/// How much of a message is kept, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// How much of the warnings of one template is kept, in bytes.
pub use crate::kube::warnings::WARNINGS_BYTES_MAX;

/// Whether instances can be started from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The API server would create them.
    Valid,
    /// It would not, or the template cannot be read.
    Invalid,
    /// It was not tried, since it needs values and has no example.
    NeedsValues,
    /// It was not tried yet, or nothing follows from the result.
    Unchecked,
}

impl Verdict {
    /// The word in `/templates`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::NeedsValues => "needs_values",
            Self::Unchecked => "unchecked",
        }
    }
}

/// What is known of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether instances can be started from it.
    pub verdict: Verdict,
    /// Why not, or what was not tried.
    pub message: Option<Box<str>>,
    /// Where the fault is: the path of a field in the pod template, a line of the text, or both.
    pub place: Option<Box<str>>,
    /// What does not keep it from starting, each once.
    pub warnings: Vec<Box<str>>,
}

/// What is known of templates; for those who show it.
pub trait Reports: Debug + Send + Sync {
    /// Of this template of this type; none if nothing is known of it yet, which says nothing of another one.
    fn report(&self, app_type: &AppType, offer: &Arc<Offer>) -> Option<Arc<Report>>;
}

impl Report {
    /// One with a verdict alone.
    pub(super) const fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            message: None,
            place: None,
            warnings: Vec::new(),
        }
    }

    /// The same with this message, cut to [`MESSAGE_BYTES_MAX`].
    pub(super) fn saying(mut self, message: &str) -> Self {
        self.message = Some(excerpt(message, MESSAGE_BYTES_MAX).into());
        self
    }

    /// One of a template that was not tried yet.
    #[must_use]
    pub fn untried() -> Self {
        Self::new(Verdict::Unchecked).saying("it was not tried yet")
    }

    /// Adds warnings that it does not have, up to [`WARNINGS_BYTES_MAX`].
    pub(super) fn warn(&mut self, warnings: impl IntoIterator<Item = Box<str>>) {
        let kept: usize = self.warnings.iter().map(|text| text.len()).sum();
        let mut left = WARNINGS_BYTES_MAX - kept;
        for text in warnings {
            if !self.warnings.contains(&text) && text.len() <= left {
                left -= text.len();
                self.warnings.push(text);
            }
        }
    }

    /// What its texts take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.message.iter().chain(&self.place);
        texts.chain(&self.warnings).map(|text| text.len()).sum()
    }

    /// The same without its warnings and with less of its message: there is no room for more.
    pub(super) fn shortened(&self) -> Self {
        const SHORT: usize = 128;
        let cut = |text: &str| excerpt(text, SHORT).into();
        Self {
            verdict: self.verdict,
            message: self.message.as_deref().map(cut),
            place: self.place.as_deref().map(cut),
            warnings: match self.warnings.len() {
                0 => Vec::new(),
                count => vec![format!("{count} warnings, which are in the log").into()],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded() {
        let long = "x".repeat(MESSAGE_BYTES_MAX + 1);
        let mut report = Report::new(Verdict::Invalid).saying(&long);
        assert_eq!(report.bytes(), MESSAGE_BYTES_MAX);
        assert!(
            report
                .message
                .as_deref()
                .is_some_and(|it| it.ends_with('…'))
        );
        let half = || "x".repeat(WARNINGS_BYTES_MAX / 2).into_boxed_str();
        let other = "y".repeat(WARNINGS_BYTES_MAX / 2).into_boxed_str();
        report.warn([half(), half(), other, "more".into()]);
        report.warn(["more".into()]);
        assert_eq!(report.bytes(), MESSAGE_BYTES_MAX + WARNINGS_BYTES_MAX);
        assert_eq!(report.warnings.len(), 2);
        let short = report.shortened();
        assert!(short.bytes() < 300, "{}", short.bytes());
        assert_eq!(&*short.warnings[0], "2 warnings, which are in the log");
    }
}
