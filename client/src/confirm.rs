//! When the chunks that are in S3 are confirmed. A call costs the server what some chunks cost, so it is for several;
//! but what is not confirmed is not assembled ahead, and what is not assembled by the end is waited for.

use std::time::Duration;

use tokio::time::Instant;

/// So many chunks are left to the call that completes the upload: the last ones, or all of a small file that is
/// sent in no time.
const FEW_CHUNKS: usize = 16;
/// Chunks are confirmed when one has waited so long;
const AFTER: Duration = Duration::from_secs(1);
/// or so long, where this many wait;
const SOON: Duration = Duration::from_millis(250);
const MANY: usize = 16;
/// or so long, where no more are left to begin than so many times what is sent at once: the last ones should not wait
/// for a heap that came shortly before them.
const LAST: Duration = Duration::from_millis(100);
const LAST_ROUNDS: usize = 2;
/// And no more than this, however many are sent at once: each may be a call.
const LAST_CHUNKS: usize = 32;

/// How far an upload is, in chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub total: usize,
    pub to_begin: usize,
    pub sending: usize,
    /// The most that are sent at once.
    pub parallel: usize,
    /// In S3, not confirmed.
    pub sent: usize,
}

impl Stand {
    /// When those that were sent are to be confirmed, the first of them since `sent_since`, of an upload that began to
    /// send at `began`; `None` where completing confirms them.
    pub fn confirm_at(self, began: Instant, sent_since: Instant) -> Option<Instant> {
        let few = self.total <= FEW_CHUNKS;
        let wait = match (self.to_begin, self.sending) {
            _ if self.sent == 0 => return None,
            // Of more, completing would ask for a listing of all first.
            (0, 0) if self.sent <= FEW_CHUNKS => return None,
            (0, 0) => Duration::ZERO,
            (to_begin, _) if to_begin <= LAST_CHUNKS.min(LAST_ROUNDS * self.parallel) => LAST,
            _ if self.sent >= MANY => SOON,
            _ => AFTER,
        };
        let at = sent_since + wait;
        // A small file may be sent in no time: that is waited for, once.
        Some(if few { at.max(began + AFTER) } else { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many milliseconds, of an upload that began so many before its first unconfirmed chunk was sent.
    fn confirmed_in(age: u64, total: usize, to_begin: usize, sending: usize, sent: usize) -> i64 {
        confirmed_of(age, Stand { total, to_begin, sending, parallel: 8, sent })
    }

    fn confirmed_of(age: u64, stand: Stand) -> i64 {
        let began = Instant::now();
        let sent_since = began + Duration::from_millis(age);
        match stand.confirm_at(began, sent_since) {
            Some(at) => at.saturating_duration_since(sent_since).as_millis() as i64,
            None => -1,
        }
    }

    #[test]
    fn chunks_are_confirmed_once_a_second_and_sooner_where_many_wait() {
        assert_eq!(confirmed_in(5_000, 100, 50, 8, 15), 1_000);
        assert_eq!(confirmed_in(5_000, 100, 50, 8, 16), 250);
    }

    #[test]
    fn the_last_chunks_and_those_shortly_before_are_confirmed_at_once_or_nearly() {
        assert_eq!(confirmed_in(5_000, 100, 17, 8, 3), 1_000);
        assert_eq!(confirmed_in(5_000, 100, 16, 8, 3), 100);
        assert_eq!(confirmed_in(5_000, 100, 16, 2, 3), 100);
        assert_eq!(confirmed_in(5_000, 100, 0, 1, 3), 100);
        assert_eq!(confirmed_in(0, 17, 9, 8, 3), 100);
        let wide = |to_begin| Stand { total: 500, to_begin, sending: 64, parallel: 64, sent: 3 };
        assert_eq!([confirmed_of(5_000, wide(32)), confirmed_of(5_000, wide(33))], [100, 1_000]);
    }

    #[test]
    fn a_small_file_is_left_to_complete_unless_it_takes_long() {
        assert_eq!(confirmed_in(200, 12, 4, 8, 1), 800);
        assert_eq!(confirmed_in(200, 12, 0, 2, 5), 800);
        assert_eq!(confirmed_in(1_200, 12, 0, 2, 5), 100);
        assert_eq!(confirmed_in(1_200, 12, 0, 0, 12), -1);
    }

    #[test]
    fn complete_is_left_what_it_can_look_for_without_a_listing() {
        assert_eq!(confirmed_in(5_000, 100, 0, 0, 16), -1);
        assert_eq!(confirmed_in(5_000, 100, 0, 0, 17), 0);
        assert_eq!(confirmed_in(5_000, 100, 50, 8, 0), -1);
    }
}
