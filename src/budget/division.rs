//! [`Division`]: how much of a budget one caller may hold, and for what.
//!
//! Until half of it is used, nobody is limited. Beyond that a caller may hold its share, and of what
//! the others leave the same part: by default half of all, the next caller a quarter, the third an
//! eighth. So each further caller finds room. The last part of the budget is for stops and labels:
//! they free what starts hold. The same holds for each part of the budget ([`Bounds`]). Whatever
//! callers hold, a third is left for bytes that many responses share, such as lists. Pure.

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request that is being received, or a response that is being sent.
    Transfer,
    /// A request that waits for an instance.
    Start,
    /// A request that waits for a stop or for labels.
    Write,
    /// Bytes that responses to several callers share.
    Shared,
}

impl Purpose {
    /// The parts of the budget that these bytes count in.
    const fn parts(self) -> &'static [Part] {
        match self {
            Self::Transfer => &[Part::Callers, Part::All],
            Self::Start => &[Part::Starts, Part::Waiting, Part::Callers, Part::All],
            Self::Write => &[Part::Waiting, Part::Callers, Part::All],
            Self::Shared => &[Part::Shared, Part::BesideShared],
        }
    }
}

/// A part of a budget that has a bound of its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    All,
    /// All but shared bytes.
    Callers,
    /// Requests that wait.
    Waiting,
    Starts,
    Shared,
    /// All, for shared bytes beyond those that are left for them: they leave an eighth of it to
    /// callers.
    BesideShared,
}

/// Why bytes cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The budget is used.
    Budget,
    /// The caller holds its share.
    Share,
}

/// How a budget is divided, in percent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// What one caller may hold once half of all is used; 100: there is no limit.
    pub caller: usize,
    /// What only stops and labels may use.
    pub writes: usize,
}

/// What is held, by all or by one caller, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums([usize; 4]);

impl Sums {
    /// With so many bytes more.
    #[must_use]
    pub const fn plus(mut self, purpose: Purpose, bytes: usize) -> Self {
        self.0[purpose as usize] += bytes;
        self
    }

    /// With so many bytes less.
    #[must_use]
    pub const fn minus(mut self, purpose: Purpose, bytes: usize) -> Self {
        self.0[purpose as usize] -= bytes;
        self
    }

    /// For all purposes.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.of(Part::All)
    }

    const fn of(&self, part: Part) -> usize {
        let [transfer, start, write, shared] = self.0;
        match part {
            Part::All | Part::BesideShared => transfer + start + write + shared,
            Part::Callers => transfer + start + write,
            Part::Waiting => start + write,
            Part::Starts => start,
            Part::Shared => shared,
        }
    }
}

/// How much all callers together may hold of each part of a budget, and one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(super) all: usize,
    callers: usize,
    waiting: usize,
    starts: usize,
    pub(super) shared: usize,
    /// [`Division::caller`].
    caller: usize,
}

impl Bounds {
    /// Of bytes: a third is left for those that responses share, which may be half while an eighth
    /// is free. Requests that wait take at most half, so that others can be received and answered. A
    /// sixteenth is a reserve for what cannot be refused any more ([`super::Hold::force`]).
    #[must_use]
    pub const fn of_bytes(max: usize, division: Division) -> Self {
        let all = max - max / 16;
        Self {
            all,
            callers: all - max / 3,
            ..Self::new(max / 2, division)
        }
    }

    /// Of places of requests that wait.
    #[must_use]
    pub const fn of_places(max: usize, division: Division) -> Self {
        Self::new(max, division)
    }

    /// With so much for each part.
    const fn new(max: usize, division: Division) -> Self {
        Self {
            all: max,
            callers: max,
            waiting: max,
            starts: max - percent(max, division.writes),
            shared: max,
            caller: division.caller,
        }
    }

    const fn of(&self, part: Part) -> usize {
        match part {
            Part::All => self.all,
            Part::Callers => self.callers,
            Part::Waiting => self.waiting,
            Part::Starts => self.starts,
            Part::Shared => self.shared,
            Part::BesideShared => self.all - self.all / 8,
        }
    }

    /// Whether this part has no bound, because callers cannot hold what is left for shared bytes.
    const fn is_left(&self, part: Part, all: &Sums) -> bool {
        matches!(part, Part::BesideShared) && all.of(Part::Shared) <= self.all - self.callers
    }

    /// Whether all callers may hold this once so many bytes are held for this purpose.
    ///
    /// # Errors
    /// [`Full::Budget`].
    pub fn check(&self, purpose: Purpose, all: &Sums) -> Result<(), Full> {
        let mut parts = purpose.parts().iter();
        let fits = parts.all(|&part| self.is_left(part, all) || all.of(part) <= self.of(part));
        fits.then_some(()).ok_or(Full::Budget)
    }

    /// Whether a caller may hold `own`, of which `more` is added for this purpose, while all hold
    /// `all`. Whoever holds nothing yet may. Stops and labels compete with each other only, so that
    /// a caller can stop what it has started.
    ///
    /// # Errors
    /// [`Full::Share`].
    pub fn check_share(
        &self,
        purpose: Purpose,
        all: &Sums,
        own: &Sums,
        more: usize,
    ) -> Result<(), Full> {
        for &part in purpose.parts() {
            let (max, used, own_part) = (self.of(part), all.of(part), own.of(part));
            let competing = match purpose {
                Purpose::Write => own.0[Purpose::Write as usize],
                _ => own_part,
            };
            if used <= max / 2 || competing == more || self.is_left(part, all) {
                continue;
            }
            let share = percent(max, self.caller);
            let free = max.saturating_sub(used);
            if own_part > share || is_beyond(competing, share, free, max) {
                return Err(Full::Share);
            }
        }
        Ok(())
    }
}

impl Default for Division {
    fn default() -> Self {
        Self {
            caller: 50,
            writes: 12,
        }
    }
}

impl Division {
    /// Everybody may hold everything.
    pub const UNLIMITED: Self = Self {
        caller: 100,
        writes: 0,
    };
}

const fn percent(of: usize, percent: usize) -> usize {
    of / 100 * percent + of % 100 * percent / 100
}

/// Whether a caller holds more than its part of a bound, of which so much is still free: its share,
/// and of what the others leave the same part, but at least half.
#[must_use]
pub const fn is_beyond(own: usize, share: usize, free: usize, max: usize) -> bool {
    let half = max.div_ceil(2);
    let part = if share < half { half } else { share };
    let others = max.saturating_sub(part);
    own > share || own as u128 * others as u128 > free as u128 * part as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much each of so many callers gets, one after the other.
    fn taken(max: usize, share: usize) -> Vec<usize> {
        let mut free = max;
        let mut next = || {
            let fits = |own: &usize| !is_beyond(*own, share, free - own, max);
            let own = (0..=free).rev().find(fits).unwrap_or(0);
            free -= own;
            own
        };
        (0..5).map(|_| next()).collect()
    }

    #[test]
    fn each_further_caller_gets_the_same_part_of_the_rest() {
        assert_eq!(taken(6000, 3000), [3000, 1500, 750, 375, 187]);
        assert_eq!(taken(9, 4), [4, 2, 1, 1, 0]);
        assert_eq!(taken(12_000, 8000), [8000, 2666, 889, 296, 99]);
        // Several small shares fit.
        assert_eq!(taken(100, 30), [30, 30, 20, 10, 5]);
        assert_eq!(taken(100, 100), [100, 0, 0, 0, 0]);
        assert_eq!(taken(100, 1000), [100, 0, 0, 0, 0]);
    }

    #[test]
    fn large_numbers_do_not_overflow() {
        assert!(!is_beyond(1, usize::MAX, usize::MAX, usize::MAX));
        assert!(is_beyond(usize::MAX / 2, usize::MAX / 2, 0, usize::MAX));
    }
}
