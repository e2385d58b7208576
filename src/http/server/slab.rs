//! [`Slab`]: a table whose indices are reused. Pure.
//!
//! An index that becomes free is not reused before [`Slab::release`], so that an event of the same
//! round cannot reach another connection than the one it was meant for.

#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
    freed: Vec<usize>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
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
        self.len -= 1;
        self.freed.push(index);
        Some(value)
    }

    /// Allows the reuse of indices that were freed.
    pub(super) fn release(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// The indices in use.
    pub(super) fn taken(&self) -> Vec<usize> {
        let entries = self.entries.iter().enumerate();
        let taken = entries.filter(|(_, value)| value.is_some());
        taken.map(|(index, _)| index).collect()
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
        assert_eq!(slab.taken(), [first, second]);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
    }
}
