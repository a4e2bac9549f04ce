//! The credentials that URLs and the calls made without the SDK's pipeline are signed with, kept until they are
//! about to end. The SDK keeps a cache of its own for its calls; asking the chain each time would cost a network
//! call.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Semaphore;

use super::error::{ErrorKind, StorageError};

/// Credentials that end sooner than this are fetched anew; those that are given for less, at half of their life.
const MARGIN: Duration = Duration::from_secs(300);
/// How long credentials without an end are kept: a rotated file or environment is seen after that.
const KEPT: Duration = Duration::from_secs(300);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// For so long it is not tried again, if that failed.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Credentials {
    provider: SharedCredentialsProvider,
    kept: RwLock<Kept>,
    /// One fetches for all.
    fetching: Semaphore,
}

#[derive(Clone, Default)]
struct Kept {
    keys: Option<Keys>,
    /// When newer ones are wanted.
    until: Option<SystemTime>,
    /// Why the last fetch brought none.
    failure: Option<String>,
}

impl Kept {
    fn wants_none(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// The keys, however soon they end.
    fn usable(&self, now: SystemTime) -> Result<Keys, StorageError> {
        let keys = self.keys.as_ref().filter(|keys| keys.expiry().is_none_or(|end| now < end));
        keys.cloned().ok_or_else(|| {
            let failure = self.failure.clone().unwrap_or_default();
            StorageError::new(ErrorKind::Unavailable, "credentials", failure)
        })
    }
}

impl Credentials {
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: RwLock::default(), fetching: Semaphore::new(1) }
    }

    /// Credentials good at `now`. One caller fetches newer ones, and the others wait for it only where there
    /// are none.
    pub async fn get(&self, now: SystemTime) -> Result<Keys, StorageError> {
        let kept = self.kept();
        if kept.wants_none(now) {
            return kept.usable(now);
        }
        let place = match (self.fetching.try_acquire(), kept.usable(now)) {
            (Ok(place), _) => place,
            (Err(_), Ok(keys)) => return Ok(keys),
            (Err(_), Err(none)) => self.fetching.acquire().await.map_err(|_| none)?,
        };
        let kept = self.kept();
        if kept.wants_none(now) {
            return kept.usable(now);
        }
        let kept = self.fetch(kept, now).await;
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        drop(place);
        kept.usable(now)
    }

    fn kept(&self) -> Kept {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is kept from now on.
    async fn fetch(&self, before: Kept, now: SystemTime) -> Kept {
        let fetched =
            tokio::time::timeout(FETCH_TIMEOUT, self.provider.provide_credentials()).await;
        let failure = match fetched {
            Ok(Ok(keys)) => {
                let until = keys.expiry().map_or(now + KEPT, |expiry| {
                    let life = expiry.duration_since(now).unwrap_or_default();
                    expiry - MARGIN.min(life / 2)
                });
                return Kept { keys: Some(keys), until: Some(until), failure: None };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out".to_owned(),
        };
        // They may be good for a while, though newer ones were wanted.
        Kept { until: Some(now + PAUSE), failure: Some(failure), ..before }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Gives keys that live for `life` from `began`; or none.
    #[derive(Debug)]
    struct Source {
        asked: AtomicUsize,
        began: SystemTime,
        life: Duration,
    }

    impl ProvideCredentials for &'static Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                let asked = self.asked.fetch_add(1, Ordering::SeqCst);
                // Others come meanwhile.
                tokio::task::yield_now().await;
                match asked {
                    0 if self.life > Duration::ZERO => {
                        let end = Some(self.began + self.life);
                        Ok(Keys::new("id", "secret", None, end, "test"))
                    }
                    _ => Err(CredentialsError::not_loaded("the source is away")),
                }
            })
        }
    }

    fn source(life: Duration) -> (&'static Source, Credentials) {
        let (asked, began) = (AtomicUsize::new(0), SystemTime::UNIX_EPOCH + MINUTE);
        let source: &'static Source = Box::leak(Box::new(Source { asked, began, life }));
        (source, Credentials::new(SharedCredentialsProvider::new(source)))
    }

    #[tokio::test]
    async fn one_asks_the_source_for_all() {
        let (source, credentials) = source(60 * MINUTE);
        let all = (0..20).map(|_| credentials.get(source.began));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(|keys| keys.is_ok()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn those_that_live_shortly_are_fetched_anew_at_half_of_their_life_and_used_to_their_end()
    {
        let (source, credentials) = source(2 * MINUTE);
        let at = |after: Duration| credentials.get(source.began + after);
        let asked = || source.asked.load(Ordering::SeqCst);
        at(Duration::ZERO).await.unwrap();
        at(MINUTE - PAUSE).await.unwrap();
        assert_eq!(asked(), 1);
        // The source is away: it is asked, and left alone for a while.
        at(MINUTE).await.unwrap();
        at(MINUTE + PAUSE / 2).await.unwrap();
        assert_eq!(asked(), 2);
        at(MINUTE + 2 * PAUSE).await.unwrap();
        assert_eq!(asked(), 3);
        let ended = at(2 * MINUTE).await.unwrap_err();
        assert_eq!(ended.kind, ErrorKind::Unavailable, "{ended}");
        assert_eq!(asked(), 4);
    }

    #[tokio::test]
    async fn a_source_that_is_away_is_asked_once_for_all_who_wait() {
        let (source, credentials) = source(Duration::ZERO);
        let all = (0..20).map(|_| credentials.get(source.began));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(|keys| keys.is_err()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    }
}
