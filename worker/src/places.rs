//! Places for uploads that one worker has in hand, each upload once: of the many jobs that announce one, the first
//! takes a place, and the others have it looked at once more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

pub(crate) struct Places {
    most: usize,
    /// Those in hand, and whether one was announced again since it was last looked at.
    taken: Mutex<HashMap<Uuid, bool>>,
}

/// A place for this upload, until dropped.
pub(crate) struct Place<'a> {
    places: &'a Places,
    id: Uuid,
    left: bool,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// A place, if there is one, and the upload has none yet.
    pub fn take(&self, id: Uuid) -> Option<Place<'_>> {
        let mut taken = self.taken();
        if let Some(again) = taken.get_mut(&id) {
            *again = true;
            return None;
        }
        if taken.len() >= self.most {
            return None;
        }
        taken.insert(id, false);
        Some(Place { places: self, id, left: false })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Leaves, unless the upload was announced again meanwhile: then it keeps the place.
    pub fn leave(mut self) -> Option<Self> {
        let mut taken = self.places.taken();
        let again = taken.get_mut(&self.id).is_some_and(std::mem::take);
        if !again {
            // Under the same lock: whoever comes after it has a place of its own.
            taken.remove(&self.id);
            self.left = true;
        }
        drop(taken);
        again.then_some(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.places.taken().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_one_place_and_is_looked_at_again_where_it_was_announced_meanwhile() {
        let places = Places::new(2);
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        let first = places.take(one).unwrap();
        assert!(places.take(one).is_none() && places.take(one).is_none());
        let second = places.take(two).unwrap();
        assert!(places.take(three).is_none(), "there are two places");
        let first = first.leave().expect("it was announced twice, and is looked at once more");
        assert!(first.leave().is_none());
        assert!(places.take(three).is_some());
        drop(second);
        assert!(places.take(one).is_some());
    }
}
