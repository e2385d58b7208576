//! [`Slab`]: a table whose indices are reused. Pure.
//!
//! An index that becomes free is not reused before [`Slab::release`]. So an event of the same round
//! reaches only the connection it was meant for.

#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
    freed: Vec<usize>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len() - self.free.len() - self.freed.len()
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(index) = self.free.pop() {
            self.entries[index] = Some(value);
            return index;
        }
        self.entries.push(Some(value));
        self.entries.len() - 1
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.entries.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.entries.get_mut(index)?.take()?;
        self.freed.push(index);
        Some(value)
    }

    /// Allows the reuse of indices that were freed.
    pub(super) fn release(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// The values and their indices.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(|(index, value)| Some((index, value.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_index_is_reused_only_after_release() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.remove(first), None);
        let second = slab.insert("b");
        assert_ne!(first, second);
        slab.release();
        assert_eq!(slab.insert("c"), first);
        assert_eq!(slab.len(), 2);
        let taken: Vec<usize> = slab.iter_mut().map(|(index, _)| index).collect();
        assert_eq!(taken, [first, second]);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
    }
}
