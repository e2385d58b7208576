//! Names of Kubernetes' objects, which must be such names.

use super::Reader;
use crate::model::names::{is_dns_label, is_dns_subdomain};

/// The longest name of an object in Kubernetes.
const NAME_BYTES_MAX: usize = 253;

impl Reader<'_> {
    pub(super) fn namespace(&mut self) -> Option<String> {
        let namespace = self.raw("JOB_NAMESPACE")?.to_owned();
        // A namespace is a DNS-1123 label (Kubernetes, "Object Names and IDs").
        if namespace.len() > 63 || !is_dns_label(&namespace) {
            let expected = "at most 63 characters of a-z, 0-9 and -";
            self.unexpected("JOB_NAMESPACE", &namespace, expected);
        }
        Some(namespace)
    }

    /// The name of this pod, which its Lease gets.
    pub(super) fn pod_name(&mut self) -> Option<String> {
        let name = self.raw("POD_NAME")?.to_owned();
        if name.len() > NAME_BYTES_MAX || !is_dns_subdomain(&name) {
            let expected = "the name of this pod (fieldPath metadata.name): at most 253 characters of a-z, 0-9, - and .";
            self.unexpected("POD_NAME", &name, expected);
        }
        Some(name)
    }
}
