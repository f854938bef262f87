//! How often URLs were asked for, of those that care (`busy`).

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Mutex,
};

use fanout_program::lock;

use crate::limits::VISITS_MAX;

#[derive(Debug, Default)]
pub(crate) struct Visits(Mutex<HashMap<u64, u32>>);

impl Visits {
    /// Counts one visit and says which it is, from 1; `None` for a URL that found no room.
    pub(crate) fn count(&self, path_and_query: &str) -> Option<u32> {
        let url = BuildHasherDefault::<DefaultHasher>::default().hash_one(path_and_query);
        let mut counts = lock(&self.0);
        if counts.len() >= VISITS_MAX && !counts.contains_key(&url) {
            return None;
        }
        let visits = counts.entry(url).or_default();
        *visits = visits.saturating_add(1);
        Some(*visits)
    }

    pub(crate) fn reset(&self) {
        lock(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_counts_for_itself_and_there_is_an_end_to_them() {
        let visits = Visits::default();
        assert_eq!(visits.count("/1?busy=2"), Some(1));
        assert_eq!(visits.count("/2?busy=2"), Some(1));
        assert_eq!(visits.count("/1?busy=2"), Some(2));
        for i in 2..VISITS_MAX {
            assert!(visits.count(&format!("/more/{i}")).is_some());
        }
        assert_eq!(visits.count("/one/too/many"), None);
        assert_eq!(visits.count("/1?busy=2"), Some(3));
        visits.reset();
        assert_eq!(visits.count("/1?busy=2"), Some(1));
    }
}
