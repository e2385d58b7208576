//! Sorting, in one compiled copy for all types.
//!
//! The standard library compiles its sorts, and the collection into a `BTreeMap`, for each type and
//! each order: about 5 kB every time, and the program has a bound. Here the comparison is behind a
//! pointer, which costs some nanoseconds each. What is sorted for every request does not belong here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Sorts; equal items keep their order.
pub fn sort_by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let order = order(items.len(), &mut |a, b| compare(&items[a], &items[b]));
    arrange(items, order);
}

/// A map of these pairs; the last of those with the same key.
pub fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(pairs);
    map
}

/// A set of these items.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// The places of all items, in the order that `compare` gives to those at two places.
fn order(length: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_by(|a, b| compare(*a, *b));
    order
}

/// Moves to each place the item of the place that `order` names there.
fn arrange<T>(items: &mut [T], mut order: Vec<usize>) {
    for start in 0..order.len() {
        let mut place = start;
        loop {
            let from = std::mem::replace(&mut order[place], place);
            if from == start {
                break;
            }
            items.swap(place, from);
            place = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn items_are_sorted_as_the_standard_library_does_it() {
        let mut random = Random::new(7);
        for length in (0..40).chain([1000]) {
            let items: Vec<(usize, usize)> = (0..length).map(|n| (random.below(9), n)).collect();
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by(&mut ours, |a, b| a.0.cmp(&b.0));
            theirs.sort_by_key(|item| item.0);
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn the_last_of_two_pairs_with_one_key_counts() {
        assert_eq!(
            map([(1, 'a'), (2, 'b'), (1, 'c')]),
            [(1, 'c'), (2, 'b')].into()
        );
        assert_eq!(set([2, 1, 2]), [1, 2].into());
    }
}
