//! When to try again, and after how long: exponential backoff with full jitter, and what the other
//! side asks for by `Retry-After`.
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>

use std::time::Duration;

/// The longest `Retry-After` that is obeyed as it is; nobody wants a client that sleeps for a day.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// How often and how patiently one request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// Upper bound of the first wait; it doubles with every failure.
    pub first_wait: Duration,
    /// Upper bound of any wait that the other side did not ask for.
    pub longest_wait: Duration,
}

impl Default for Retry {
    /// Twelve tries: an outage of about a minute and a half is sat out.
    fn default() -> Self {
        Self {
            attempts: 12,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// For the first words with a server: nothing is at stake yet, and a wrong address should be
    /// told within seconds.
    pub(crate) fn brief(self) -> Self {
        Self { attempts: self.attempts.min(5), ..self }
    }

    /// How long to wait after the given number of failures, or `None` to give up.
    pub fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        self.wait_with(failures, asked, rand::random())
    }

    /// `chance` is in 0..1.
    fn wait_with(&self, failures: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        Some(match asked {
            // The jitter on top keeps parallel requests, all told the same, from coming back at once.
            Some(asked) => asked.min(LONGEST_ASKED) + self.first_wait.mul_f64(chance),
            None => self.ceiling(failures).mul_f64(chance),
        })
    }

    fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait)
    }
}

/// Statuses that say "not now" rather than "no", the same for the API and for S3.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_wait() {
        let retry = Retry::default();
        let ceilings: Vec<_> = (1..=8).map(|n| retry.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_end(
            failures in 0u32..1000, asked in proptest::option::of(0u64..100_000), chance in 0.0f64..1.0
        ) {
            let retry = Retry::default();
            let asked = asked.map(Duration::from_secs);
            match retry.wait_with(failures, asked, chance) {
                None => prop_assert!(failures >= retry.attempts),
                Some(wait) => {
                    prop_assert!(failures < retry.attempts);
                    let least = asked.unwrap_or_default().min(LONGEST_ASKED);
                    prop_assert!(wait >= least);
                    prop_assert!(wait <= least + retry.longest_wait);
                }
            }
        }
    }
}
