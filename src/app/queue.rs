//! [`CallQueue`]: the calls that wait for a worker, taken in turn, so that nobody's calls wait behind
//! all calls of another caller.
//!
//! Pure; the engine's threads share it under a lock. Lanes take turns, within a lane app types,
//! within a type callers; the calls of one caller are taken in order. So the next call of a caller
//! is taken after at most (lanes × types in its lane × callers of its type) others. Each step costs
//! constant time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What a call is for. The two take turns: changes of instances that exist wait behind no starts,
/// however many callers request starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A stop or labels.
    Change,
    /// A start, and what the coordinator does by itself.
    Start,
}

/// Whose turn a call waits for: its lane, app type and caller.
pub type Turn<T, C> = (Lane, T, C);

/// Calls that wait, by app type and caller.
#[derive(Debug)]
pub struct CallQueue<T, C, I> {
    lanes: Ring<Lane, Ring<T, Ring<C, VecDeque<I>>>>,
    len: usize,
    max: usize,
}

impl<T: Clone + Eq + Hash, C: Clone + Eq + Hash, I> CallQueue<T, C, I> {
    /// A queue for so many calls.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            lanes: Ring::default(),
            len: 0,
            max,
        }
    }

    /// How many calls wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a call.
    ///
    /// # Errors
    /// The call, if as many wait as may.
    pub fn push(&mut self, (lane, app_type, caller): Turn<T, C>, call: I) -> Result<(), I> {
        if self.len >= self.max {
            return Err(call);
        }
        let types = self.lanes.member(lane);
        types.member(app_type).member(caller).push_back(call);
        self.len += 1;
        Ok(())
    }

    /// Takes the call whose turn it is.
    pub fn take(&mut self) -> Option<I> {
        let call = self.lanes.take()?;
        self.len -= 1;
        Some(call)
    }
}

/// Something to take items from.
pub(super) trait Source {
    type Item;

    fn take(&mut self) -> Option<Self::Item>;

    fn is_empty(&self) -> bool;
}

impl<I> Source for VecDeque<I> {
    type Item = I;

    fn take(&mut self) -> Option<I> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// Sources that take turns. None of them is empty.
#[derive(Debug)]
pub(super) struct Ring<K, S> {
    order: VecDeque<K>,
    members: HashMap<K, S>,
}

impl<K, S> Default for Ring<K, S> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            members: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, S: Default> Ring<K, S> {
    /// The source of this key, to which an item is added; a new one is last in turn.
    pub(super) fn member(&mut self, key: K) -> &mut S {
        if !self.members.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        self.members.entry(key).or_default()
    }
}

impl<K: Clone + Eq + Hash, S: Source> Source for Ring<K, S> {
    type Item = S::Item;

    fn take(&mut self) -> Option<S::Item> {
        let key = self.order.pop_front()?;
        let member = self.members.get_mut(&key)?;
        let item = member.take();
        if member.is_empty() {
            self.members.remove(&key);
        } else {
            self.order.push_back(key);
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::{BTreeMap, BTreeSet};

    type Key = (Lane, u64, u64);
    type Queue = CallQueue<u64, u64, (Key, u64)>;

    fn taken(queue: &mut Queue) -> Vec<(u64, u64, u64)> {
        std::iter::from_fn(|| queue.take())
            .map(|((_, app_type, caller), number)| (app_type, caller, number))
            .collect()
    }

    fn push(queue: &mut Queue, key: Key, numbers: std::ops::Range<u64>) {
        for number in numbers {
            queue.push(key, (key, number)).unwrap();
        }
    }

    #[test]
    fn types_and_callers_take_turns() {
        let mut queue = Queue::new(100);
        push(&mut queue, (Lane::Start, 1, 1), 0..3);
        push(&mut queue, (Lane::Start, 1, 2), 0..2);
        push(&mut queue, (Lane::Start, 2, 3), 0..2);
        let expected = [
            (1, 1, 0),
            (2, 3, 0),
            (1, 2, 0),
            (2, 3, 1),
            (1, 1, 1),
            (1, 2, 1),
            (1, 1, 2),
        ];
        assert_eq!(taken(&mut queue), expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn changes_do_not_wait_behind_starts() {
        let mut queue = Queue::new(1000);
        for caller in 0..500 {
            push(&mut queue, (Lane::Start, 1, caller), 0..1);
        }
        push(&mut queue, (Lane::Change, 1, 7), 0..2);
        let order = taken(&mut queue);
        let place = |number| order.iter().rposition(|it| *it == (1, 7, number));
        assert_eq!((place(0).is_some(), place(1)), (true, Some(3)));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = Queue::new(2);
        let key = (Lane::Change, 1, 1);
        push(&mut queue, key, 0..2);
        assert_eq!(queue.push(key, (key, 2)), Err((key, 2)));
        assert_eq!(queue.len(), 2);
        queue.take();
        push(&mut queue, key, 2..3);
    }

    /// Random calls of random callers: each next call of a caller is taken within
    /// lanes × types × callers takings, and the calls of one caller in order.
    #[test]
    fn no_caller_starves() {
        let mut random = Random::new(1);
        let mut queue = Queue::new(60);
        // The numbers of the calls that wait; for the next one, how often others were taken since
        // the caller's last, and the most lanes, types and callers since.
        let mut waiting: BTreeMap<(u8, u64, u64), VecDeque<u64>> = BTreeMap::new();
        let mut passed: BTreeMap<(u8, u64, u64), (usize, [usize; 3])> = BTreeMap::new();
        for number in 0..4000 {
            // Full and empty in turn.
            if random.below(100) < [80, 20][(number / 200 % 2) as usize] {
                let lane = random.pick(&[Lane::Change, Lane::Start]);
                let [app_type, one, other] = [(); 3].map(|()| random.pick(&[0, 1, 2, 3]));
                let key = (lane, app_type, one * other);
                if queue.push(key, (key, number)).is_ok() {
                    let key = (lane as u8, key.1, key.2);
                    waiting.entry(key).or_default().push_back(number);
                }
            } else if let Some(((lane, app_type, caller), number)) = queue.take() {
                let key = (lane as u8, app_type, caller);
                let numbers = waiting.get_mut(&key).unwrap();
                assert_eq!(numbers.pop_front(), Some(number));
                if numbers.is_empty() {
                    waiting.remove(&key);
                }
                passed.remove(&key);
                passed.values_mut().for_each(|(passed, _)| *passed += 1);
            }
            let lanes: BTreeSet<_> = waiting.keys().map(|key| key.0).collect();
            for key in waiting.keys() {
                let of_lane = waiting.keys().filter(|other| other.0 == key.0);
                let types: BTreeSet<_> = of_lane.clone().map(|other| other.1).collect();
                let callers = of_lane.filter(|other| other.1 == key.1).count();
                let (passed, most) = passed.entry(*key).or_default();
                for (most, now) in most.iter_mut().zip([lanes.len(), types.len(), callers]) {
                    *most = now.max(*most);
                }
                let bound = most.iter().product();
                assert!(*passed < bound, "{key:?}: {passed} takings of {bound}");
            }
        }
    }
}
