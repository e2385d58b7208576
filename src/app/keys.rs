//! Which instance a Job or a pod belongs to, from its labels and annotations.
//!
//! Pure. How a Job's name follows from a key is computed in [`crate::model::names`].

use crate::kube::types::{Job, ObjectMeta};
use crate::model::labels;
use crate::model::names::InstanceKey;

/// The key of a Job's instance: from annotations of Jobs of this service, from the template's
/// labels of Jobs of 2.7.1.
#[must_use]
pub fn key_of(job: &Job) -> Option<InstanceKey> {
    InstanceKey::new(job.app_type()?, job.instance_name()?).ok()
}

/// As [`key_of`], if the Job has the name that its key requires. A manual Job with another name can
/// be neither found nor stopped by its key.
#[must_use]
pub fn own_key_of(job: &Job) -> Option<InstanceKey> {
    key_of(job).filter(|key| *key.job_name() == *job.metadata.name)
}

/// Whether a Job is the instance of this key: a Job of that name may be another's.
#[must_use]
pub fn is_of(job: &Job, key: &InstanceKey) -> bool {
    job.app_type() == Some(key.app_type.as_str()) && job.instance_name() == Some(key.name.as_str())
}

/// The key of a pod's instance: from annotations of pods of this service, from labels of pods of
/// 2.7.1.
#[must_use]
pub fn key_of_pod(metadata: &ObjectMeta) -> Option<InstanceKey> {
    let read = |key| {
        let own = metadata.annotations.get(key);
        own.or_else(|| metadata.labels.get(key))
    };
    InstanceKey::new(read(labels::INSTANCE_TYPE)?, read(labels::INSTANCE_NAME)?).ok()
}
