//! `check` beside a real API server: the same results.

use super::environment::TestEnvironment;
use crate::check::mistakes::{cases, job};

#[test]
#[ignore = "needs a cluster"]
fn the_api_server_refuses_the_mistakes_that_are_found_without_it() {
    let environment = TestEnvironment::shared();
    let path = format!(
        "{}?dryRun=All&fieldValidation=Warn",
        environment.all("jobs")
    );
    for (template, is_valid) in cases() {
        let response = environment.api.post(&path, &job(&template));
        assert_eq!(
            response.code == 201,
            is_valid,
            "{template}: {}",
            response.body
        );
    }
}
