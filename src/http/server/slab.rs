//! [`Slab`]: a table whose places are reused. Pure.
//!
//! A place that becomes free is not given out again before
//! [`Slab::release`], so that an event of the same round cannot meet another
//! connection than the one it was meant for.

#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
    freed: Vec<usize>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        self.len += 1;
        if let Some(place) = self.free.pop() {
            self.places[place] = Some(value);
            return place;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.places.get_mut(place)?.as_mut()
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.places.get_mut(place)?.take()?;
        self.len -= 1;
        self.freed.push(place);
        Some(value)
    }

    /// Places that were freed may be given out again.
    pub(super) fn release(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// The places that are taken.
    pub(super) fn taken(&self) -> Vec<usize> {
        let places = self.places.iter().enumerate();
        let taken = places.filter(|(_, value)| value.is_some());
        taken.map(|(place, _)| place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_reused_only_after_release() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.remove(first), None);
        let second = slab.insert("b");
        assert_ne!(first, second);
        slab.release();
        assert_eq!(slab.insert("c"), first);
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.taken(), [first, second]);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
    }
}
