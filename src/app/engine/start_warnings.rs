//! [`StartWarnings`]: logs what the API server warns of when it creates a Job, once for each template.

use crate::app::api_call::{Action, ApiCall};
use crate::app::log_line::log_line;
use crate::kube::client::Warnings;
use crate::model::names::AppType;
use crate::model::template::Template;
use crate::store::TEMPLATES_MAX;
use crate::threads::lock;
use log::Level;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// The warnings that were logged last of each type, and of which template.
#[derive(Debug, Default)]
pub struct StartWarnings(Mutex<HashMap<AppType, (Weak<Template>, Warnings)>>);

impl StartWarnings {
    /// Logs the warnings of this call, unless they are those of the last start from the same template.
    pub(super) fn log(&self, call: &ApiCall, warnings: Warnings) {
        for text in self.news(call, warnings) {
            let key = &call.key;
            let by = call.action.requester();
            log_line!(
                Level::Warn,
                key,
                by,
                "the API server created the Job of {key} and warns: {text}"
            );
        }
    }

    fn news(&self, call: &ApiCall, warnings: Warnings) -> Warnings {
        let Action::CreateJob(new) = &call.action else {
            return Warnings::new();
        };
        let mut logged = lock(&self.0);
        // Types come and go. There are never more on offer.
        if logged.len() >= TEMPLATES_MAX && !logged.contains_key(&call.key.app_type) {
            logged.clear();
        }
        let of = Arc::downgrade(&new.template);
        let last = logged.get(&call.key.app_type);
        if last.is_some_and(|(last, texts)| last.ptr_eq(&of) && *texts == warnings) {
            return Warnings::new();
        }
        if warnings.is_empty() {
            logged.remove(&call.key.app_type);
        } else {
            let app_type = call.key.app_type.clone();
            logged.insert(app_type, (of, warnings.clone()));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::api_call::NewJob;
    use crate::app::fixture::{n1, origin};
    use crate::app::queue::Lane;
    use crate::model::job::JobSettings;

    fn create(template: &Arc<Template>) -> ApiCall {
        let new = NewJob {
            is_restart: false,
            template: Arc::clone(template),
            settings: JobSettings::default(),
            template_revision: "7e".into(),
            variables: Arc::default(),
            failures: 0,
            by: origin("ann"),
            held: None,
        };
        ApiCall {
            key: n1(),
            action: Action::CreateJob(Box::new(new)),
            is_retry: false,
            lane: Lane::Start,
            caller: None,
        }
    }

    #[test]
    fn warnings_are_news_once_for_each_template() {
        let logged = StartWarnings::default();
        let template = || {
            let text = "spec:\n  containers:\n  - image: i\n";
            Arc::new(Template::parse("cm/hello.yaml", text).unwrap())
        };
        let (first, second) = (template(), template());
        let news = |template: &Arc<Template>, texts: &[&str]| {
            let warnings = texts.iter().map(|text| (*text).into()).collect();
            logged.news(&create(template), warnings).len()
        };
        assert_eq!(news(&first, &["a", "b"]), 2);
        assert_eq!(news(&first, &["a", "b"]), 0);
        assert_eq!(news(&first, &["a"]), 1);
        assert_eq!(news(&second, &["a"]), 1);
        assert_eq!(news(&second, &[]), 0);
        assert!(lock(&logged.0).is_empty());
    }
}
