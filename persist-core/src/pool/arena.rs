//! Numbered places for values, found in constant time; a number is never mistaken for a later one of the same place.

use alloc::vec::Vec;

/// The number of a value: its place, and how often the place had been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl Id {
    /// Below and above every number, for ranges.
    pub(crate) const MIN: Self = Self { index: 0, generation: 0 };
    pub(crate) const MAX: Self = Self { index: u32::MAX, generation: u32::MAX };

    pub(crate) fn as_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Id {
        match self.free.pop() {
            Some(index) => {
                let place = &mut self.places[index as usize];
                place.value = Some(value);
                Id { index, generation: place.generation }
            }
            None => {
                let index = u32::try_from(self.places.len()).expect("fewer than 2^32 entries: memory ends before");
                self.places.push(Place { generation: 0, value: Some(value) });
                Id { index, generation: 0 }
            }
        }
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        self.places.get(id.index as usize).filter(|place| place.generation == id.generation)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?.value.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            place.value.as_ref().map(|value| (Id { index, generation: place.generation }, value))
        })
    }
}
