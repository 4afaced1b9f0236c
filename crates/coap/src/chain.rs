//! A table whose entries stand in an order: found by a handle, taken from the
//! front or from anywhere, put to the back, each in constant time and without an
//! allocation once it has grown. The bounded tables here are made of it.

/// Finds an entry as long as it stands; never another one that took its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// Finds nothing.
    pub(crate) const NOTHING: Handle = Handle { index: NONE, generation: 0 };
}

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    generation: u32,
    previous: u32,
    /// Of a free slot: the next free one.
    next: u32,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Chain<T> {
    slots: Vec<Slot<T>>,
    front: u32,
    back: u32,
    free: u32,
    length: usize,
}

impl<T> Default for Chain<T> {
    fn default() -> Chain<T> {
        Chain { slots: Vec::new(), front: NONE, back: NONE, free: NONE, length: 0 }
    }
}

impl<T> Chain<T> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Adds an entry at the back.
    pub(crate) fn push_back(&mut self, value: T) -> Handle {
        let index = if self.free == NONE {
            self.slots.push(Slot { value: None, generation: 0, previous: NONE, next: NONE });
            (self.slots.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.slots[index as usize].next;
            index
        };
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        let generation = slot.generation;
        self.link(index);
        self.length += 1;
        Handle { index, generation }
    }

    /// The entry, if it still stands.
    pub(crate) fn get(&self, handle: Handle) -> Option<&T> {
        let slot = self.slots.get(handle.index as usize)?;
        (slot.generation == handle.generation).then_some(slot.value.as_ref()?)
    }

    /// The entry, if it still stands.
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.index as usize)?;
        (slot.generation == handle.generation).then_some(slot.value.as_mut()?)
    }

    /// Takes the entry out, if it still stands.
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        self.unlink(handle.index);
        let slot = &mut self.slots[handle.index as usize];
        let value = slot.value.take();
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = handle.index;
        self.length -= 1;
        value
    }

    /// The entry at the front.
    pub(crate) fn front(&self) -> Option<(Handle, &T)> {
        self.entry(self.front)
    }

    /// Puts the entry to the back, if it still stands.
    pub(crate) fn move_to_back(&mut self, handle: Handle) {
        if self.get(handle).is_some() {
            self.unlink(handle.index);
            self.link(handle.index);
        }
    }

    /// All entries from front to back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        std::iter::successors(self.entry(self.front), |(handle, _)| {
            self.entry(self.slots[handle.index as usize].next)
        })
    }

    fn entry(&self, index: u32) -> Option<(Handle, &T)> {
        let slot = self.slots.get(index as usize)?;
        let generation = slot.generation;
        Some((Handle { index, generation }, slot.value.as_ref()?))
    }

    fn link(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        (slot.previous, slot.next) = (self.back, NONE);
        match self.slots.get_mut(self.back as usize) {
            Some(last) => last.next = index,
            None => self.front = index,
        }
        self.back = index;
    }

    fn unlink(&mut self, index: u32) {
        let Slot { previous, next, .. } = self.slots[index as usize];
        match self.slots.get_mut(previous as usize) {
            Some(slot) => slot.next = next,
            None => self.front = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.previous = previous,
            None => self.back = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// As a plain list would, whatever is done to it.
        #[test]
        fn keeps_the_order_of_a_list(steps in prop::collection::vec((0u8..4, any::<u8>()), 0..200)) {
            let mut chain = Chain::default();
            let mut list: Vec<(Handle, u8)> = Vec::new();
            let mut gone: Vec<Handle> = Vec::new();
            for (what, value) in steps {
                let at = usize::from(value) % list.len().max(1);
                match what {
                    0 | 1 => list.push((chain.push_back(value), value)),
                    2 if !list.is_empty() => {
                        let (handle, value) = list.remove(at);
                        prop_assert_eq!(chain.remove(handle), Some(value));
                        gone.push(handle);
                    }
                    3 if !list.is_empty() => {
                        let entry = list.remove(at);
                        chain.move_to_back(entry.0);
                        list.push(entry);
                    }
                    _ => {}
                }
                let found: Vec<_> = chain.iter().map(|(handle, value)| (handle, *value)).collect();
                prop_assert_eq!(&found, &list);
                prop_assert_eq!(chain.len(), list.len());
                prop_assert_eq!(chain.front().map(|(h, _)| h), list.first().map(|(h, _)| *h));
            }
            for handle in gone {
                prop_assert!(chain.get(handle).is_none());
            }
        }
    }
}
