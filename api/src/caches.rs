//! What the API remembers of the store for a moment, so that a start does not
//! read the same key and flow again and again.

use std::{
    array,
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a value is believed, counted from when it was asked for. A change
/// is seen after this time even where the news of it was lost.
const LIFETIME: Duration = Duration::from_millis(900);
/// How many values can be loaded at once with others waiting for each.
const TURNS: usize = 64;

/// Values of the store by their name, and the knowledge that there is none.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries_max: usize,
    inner: Mutex<Inner<K, V>>,
    /// Who loads a value holds the turn that its name falls on, so that the
    /// others, who come by the hundred when a value is no longer believed, wait
    /// for that one instead of asking too.
    turns: [tokio::sync::Mutex<()>; TURNS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Counts the changes heard of, so that a value that was read before a
    /// change is not kept after it.
    generation: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: Option<V>,
    believed_until: Instant,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        let inner = Inner {
            entries: HashMap::new(),
            generation: 0,
        };
        Self {
            entries_max,
            inner: Mutex::new(inner),
            turns: array::from_fn(|_| tokio::sync::Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// The value called `name`: the remembered one, or what `load` finds.
    pub(crate) async fn get<E>(
        &self,
        name: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        if let Ok(value) = self.remembered(name, Instant::now()) {
            return Ok(value);
        }
        let turn = &self.turns[self.hasher.hash_one(name) as usize % TURNS];
        let first = turn.try_lock().ok();
        if first.is_none() {
            drop(turn.lock().await);
        }
        // Whoever waited for nothing, since the load failed or was of another
        // value, asks now without a further turn: a store that does not answer
        // must not make callers stand in line.
        let asked = Instant::now();
        let generation = match self.remembered(name, asked) {
            Ok(value) => return Ok(value),
            Err(generation) => generation,
        };
        let value = load.await?;
        self.remember(name, value.clone(), asked, generation);
        Ok(value)
    }

    /// What is believed at `asked`, or else the generation to load it in.
    fn remembered(&self, name: &K, asked: Instant) -> Result<Option<V>, u64> {
        let inner = self.lock();
        match inner.entries.get(name) {
            Some(entry) if asked < entry.believed_until => Ok(entry.value.clone()),
            _ => Err(inner.generation),
        }
    }

    fn remember(&self, name: &K, value: Option<V>, asked: Instant, generation: u64) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        if inner.entries.len() >= self.entries_max {
            inner
                .entries
                .retain(|_, entry| asked < entry.believed_until);
        }
        if inner.entries.len() >= self.entries_max {
            // So many live ones at once are somebody guessing names. To begin
            // again costs one look each; to search for the oldest, more.
            inner.entries.clear();
        }
        let believed_until = asked + LIFETIME;
        let entry = Entry {
            value,
            believed_until,
        };
        inner.entries.insert(name.clone(), entry);
    }

    /// Forgets one value, since it has changed.
    pub(crate) fn forget(&self, name: &K) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.entries.remove(name);
    }

    /// Forgets everything, since changes may have been missed.
    pub(crate) fn forget_all(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        // Nothing panics while holding it; if it did, the map is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    type Loaded = Result<Option<u32>, ()>;

    async fn found(value: u32) -> Loaded {
        Ok(Some(value))
    }

    #[test]
    fn a_value_is_remembered_for_less_than_a_second() {
        let cache = Cache::new(10);
        let asked = Instant::now();
        cache.remember(&"a", Some(1), asked, 0);
        let after = |ms| cache.remembered(&"a", asked + Duration::from_millis(ms));
        assert_eq!(after(899), Ok(Some(1)));
        assert_eq!(after(900), Err(0));
    }

    #[tokio::test]
    async fn that_there_is_none_is_remembered_too_and_an_error_is_not() {
        let cache = Cache::new(10);
        let failed: Loaded = cache.get(&"a", async { Err(()) }).await;
        assert_eq!(failed, Err(()));
        let none: Loaded = cache.get(&"a", async { Ok(None) }).await;
        assert_eq!(none, Ok(None));
        assert_eq!(cache.get(&"a", found(1)).await, Ok(None));
        cache.forget(&"a");
        assert_eq!(cache.get(&"a", found(1)).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_make_one_look() {
        let (cache, looks) = (Cache::new(10), AtomicU32::new(0));
        let load = async || {
            looks.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Loaded::Ok(Some(1))
        };
        let asks = (0..100).map(|_| cache.get(&"a", load()));
        let answers = futures::future::join_all(asks).await;
        assert!(answers.iter().all(|answer| *answer == Ok(Some(1))));
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_value_read_before_a_change_is_not_kept_after_it() {
        let cache = Cache::new(10);
        let overtaken = cache.get(&"a", async {
            cache.forget(&"a");
            Loaded::Ok(Some(1))
        });
        assert_eq!(overtaken.await, Ok(Some(1)));
        assert_eq!(cache.get(&"a", found(2)).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn it_never_holds_more_than_it_may() {
        let cache = Cache::new(10);
        for name in 0..100 {
            cache.get(&name, found(1)).await.unwrap();
            assert!(cache.lock().entries.len() <= 10);
        }
    }
}
