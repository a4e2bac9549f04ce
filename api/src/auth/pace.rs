//! How many requests a second one key or token may make: the generic cell rate algorithm (ITU-T I.371),
//! which needs one time for each of them. Written here, since it is a dozen lines. A request that has the
//! whole upload looked at in S3 weighs as much as many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Caller;

/// Callers remembered at once; above it those at rest are forgotten, which changes nothing for them.
const REMEMBERED: usize = 10_000;

/// Requests a second, and as many at once after a rest. `None` sets no bound.
#[derive(Debug)]
pub struct Pace {
    interval: Option<Duration>,
    /// When each caller would be at rest again.
    busy_until: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    pub fn new(per_second: Option<u32>) -> Self {
        let interval = per_second.map(|count| Duration::from_secs(1) / count.max(1));
        Self { interval, busy_until: Mutex::default() }
    }

    /// How long the caller has to wait, where it is too fast.
    pub fn check(&self, caller: &Caller, weight: u32, now: Instant) -> Result<(), Duration> {
        let Some(interval) = self.interval else { return Ok(()) };
        let who = match caller {
            Caller::Open => return Ok(()),
            Caller::Key { owner, .. } => owner.clone(),
            Caller::Token { upload_id } => upload_id.to_string(),
        };
        // Nothing panics under this lock.
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if busy_until.len() >= REMEMBERED {
            busy_until.retain(|_, until| *until > now);
        }
        let rest = busy_until.get(&who).copied().unwrap_or(now).max(now);
        let second = Duration::from_secs(1);
        // What weighs more than a second's worth may pass once the caller is at rest.
        let cost = (interval * weight).min(second);
        let wait = (rest + cost).saturating_duration_since(now + second);
        if !wait.is_zero() {
            return Err(wait);
        }
        if busy_until.len() < REMEMBERED || busy_until.contains_key(&who) {
            busy_until.insert(who, rest + cost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_its_rate_and_no_more_and_others_are_not_its_neighbours() {
        let (pace, start) = (Pace::new(Some(10)), Instant::now());
        let key = |owner: &str| Caller::Key { owner: owner.to_owned(), admin: false };
        let taken = |who: &Caller, at: Duration| pace.check(who, 1, start + at).is_ok();
        let burst = (0..20).filter(|_| taken(&key("a"), Duration::ZERO)).count();
        assert_eq!(burst, 10);
        assert!(taken(&key("b"), Duration::ZERO));
        assert!(pace.check(&key("a"), 1, start).unwrap_err() <= Duration::from_millis(100));
        // Ten more in the next second, however they come.
        let later = (0..200).filter(|i| taken(&key("a"), Duration::from_millis(5 * i))).count();
        assert!((9..=10).contains(&later), "{later}");
        assert!((0..1000).all(|_| taken(&Caller::Open, Duration::ZERO)));
    }

    #[test]
    fn what_weighs_more_passes_less_often_and_never_not_at_all() {
        let (pace, start) = (Pace::new(Some(10)), Instant::now());
        let key = Caller::Key { owner: "a".to_owned(), admin: false };
        assert!(pace.check(&key, 5, start).is_ok());
        assert!(pace.check(&key, 5, start).is_ok());
        assert_eq!(pace.check(&key, 5, start), Err(Duration::from_millis(500)));
        let rested = start + Duration::from_secs(1);
        assert!(pace.check(&key, 50, rested).is_ok());
        assert_eq!(pace.check(&key, 1, rested), Err(Duration::from_millis(100)));
    }
}
