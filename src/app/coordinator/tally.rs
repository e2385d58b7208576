//! [`Tally`]: what a record counts in the bounds of the coordinator.
//!
//! Plain data. The bounds are in [`super`].

/// The counts of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Names with an operation: with waiters, or a call in flight.
    pub(super) in_work: usize,
    /// Names with remembered failures of a gone Job.
    pub(super) gone: usize,
    /// Names with a kept termination report of a gone pod.
    pub(super) lost: usize,
    /// Starts of this replica that are followed.
    pub(super) followed: usize,
    /// Starts of this replica that are in progress: from the call that creates the Job until it is ready, or reported
    /// as failing.
    pub(super) starting: usize,
    /// Bytes by which calls in flight lengthen meta labels.
    pub(super) label_growth: usize,
    /// Records that hold anything.
    pub(super) records: usize,
    /// Bytes of their names.
    pub(super) name_bytes: usize,
}

impl Tally {
    /// Counts those, too.
    pub(super) fn add(&mut self, of: Self) {
        self.in_work += of.in_work;
        self.gone += of.gone;
        self.lost += of.lost;
        self.followed += of.followed;
        self.starting += of.starting;
        self.label_growth += of.label_growth;
        self.records += of.records;
        self.name_bytes += of.name_bytes;
    }

    /// No longer counts those.
    pub(super) fn subtract(&mut self, of: Self) {
        self.in_work -= of.in_work;
        self.gone -= of.gone;
        self.lost -= of.lost;
        self.followed -= of.followed;
        self.starting -= of.starting;
        self.label_growth -= of.label_growth;
        self.records -= of.records;
        self.name_bytes -= of.name_bytes;
    }
}
