//! The credentials that URLs and the calls made without the SDK's pipeline are signed with, kept until they are
//! about to end. The SDK keeps a cache of its own for its calls; asking the chain each time would cost a network
//! call.

use std::sync::RwLock;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use super::error::{ErrorKind, StorageError};

/// Credentials that end sooner than this are fetched anew; those that are given for less, at half of their life.
const MARGIN: Duration = Duration::from_secs(300);
/// How long credentials without an end are kept: a rotated file or environment is seen after that.
const KEPT: Duration = Duration::from_secs(300);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Credentials {
    provider: SharedCredentialsProvider,
    kept: RwLock<Option<(Keys, SystemTime)>>,
}

impl Credentials {
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: RwLock::new(None) }
    }

    /// Credentials good at `now`. Several callers may fetch at once; each result serves.
    pub async fn get(&self, now: SystemTime) -> Result<Keys, StorageError> {
        let kept = self.kept.read().ok().and_then(|kept| kept.clone());
        if let Some((keys, good_until)) = &kept
            && now < *good_until
        {
            return Ok(keys.clone());
        }
        let fetched =
            tokio::time::timeout(FETCH_TIMEOUT, self.provider.provide_credentials()).await;
        let problem = match fetched {
            Ok(Ok(keys)) => {
                let end = keys.expiry().map_or(now + KEPT, |expiry| {
                    let life = expiry.duration_since(now).unwrap_or_default();
                    expiry - MARGIN.min(life / 2)
                });
                if let Ok(mut kept) = self.kept.write() {
                    *kept = Some((keys.clone(), end));
                }
                return Ok(keys);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out".to_owned(),
        };
        match kept {
            // Still good for a while, though we would have liked newer ones.
            Some((keys, _)) if keys.expiry().is_none_or(|expiry| now < expiry) => Ok(keys),
            _ => Err(StorageError::new(ErrorKind::Unavailable, "credentials", problem)),
        }
    }
}
