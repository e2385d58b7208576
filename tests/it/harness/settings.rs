//! Settings that differ from one replica to the next.

use super::TestEnvironment;

impl TestEnvironment {
    /// A setting of replicas that are started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }
}
