//! What goes wrong at every request, attempt or probe for as long as a server is away is told when it begins, and
//! then now and then with how often it was, not a thousand times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(30);

/// One thing that may go wrong, in this process.
#[derive(Debug, Default)]
pub struct Seldom {
    /// When it was told last, in milliseconds of this process and one; 0 for never.
    told: AtomicU64,
    untold: AtomicU64,
}

impl Seldom {
    pub const fn new() -> Self {
        Self { told: AtomicU64::new(0), untold: AtomicU64::new(0) }
    }

    /// It has gone wrong once more. `Some`: it is to be told now, with how often it was not since.
    pub fn again(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.at(START.get_or_init(Instant::now).elapsed())
    }

    fn at(&self, now: Duration) -> Option<u64> {
        let now = now.as_millis() as u64 + 1;
        let due = |told: u64| {
            (told == 0 || now.saturating_sub(told) >= EVERY.as_millis() as u64).then_some(now)
        };
        match self.told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due) {
            Ok(_) => Some(self.untold.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.untold.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_then_with_how_often_it_was() {
        let seldom = Seldom::new();
        let at = |seconds| seldom.at(Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(0), at(1), at(29)), (None, None, None));
        assert_eq!(at(30), Some(3));
        assert_eq!((at(31), at(90)), (None, Some(1)));
    }
}
