//! The rules of the bucket that UpFlow leans on: which pages may send chunks (CORS), and that what a lost
//! database no longer knows does not stay for ever (lifecycle). Read and, when told to, added to; rules that
//! are there stay as they are.

use std::time::Duration;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, CorsConfiguration, CorsRule,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, Tag,
};

use super::Storage;
use super::error::{ErrorKind, StorageError};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What our rules are called in the bucket.
const ABORT_RULE: &str = "upflow-abort-multipart-uploads";
const CHUNK_RULE: &str = "upflow-expire-chunks";

/// What the lifecycle rules of the bucket do for UpFlow. Days; `None` where no rule does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// After how long multipart uploads under `uploads/` are aborted.
    pub aborts_after: Option<i32>,
    /// After how long objects with the tag of chunks are deleted; not asked where there is no such tag.
    pub expires_after: Option<i32>,
}

impl Storage {
    /// Lets pages of `origin` send chunks and read answers, besides those that the bucket lets already.
    pub async fn allow_origin(&self, origin: &str) -> Result<(), StorageError> {
        let found = self.client.get_bucket_cors().bucket(self.bucket()).send().await;
        let found = found.map_err(|error| StorageError::from_sdk("GetBucketCors", error));
        let mut rules = match found {
            Ok(found) => found.cors_rules.unwrap_or_default(),
            Err(error) if is_not_there(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        rules.push(cors_rule(origin)?);
        let cors = CorsConfiguration::builder()
            .set_cors_rules(Some(rules))
            .build()
            .map_err(|error| invalid("PutBucketCors", error))?;
        self.client
            .put_bucket_cors()
            .bucket(self.bucket())
            .cors_configuration(cors)
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("PutBucketCors", error))
    }

    /// What the bucket's own rules do for UpFlow; `None` where it has none at all.
    pub async fn lifecycle(&self) -> Result<Option<Lifecycle>, StorageError> {
        let Some(rules) = self.lifecycle_rules().await? else { return Ok(None) };
        let on = |rule: &&LifecycleRule| *rule.status() == ExpirationStatus::Enabled;
        let aborts = rules.iter().filter(on).filter(|rule| self.covers_uploads(rule));
        let aborts = aborts
            .filter_map(|rule| rule.abort_incomplete_multipart_upload()?.days_after_initiation());
        let expires = rules.iter().filter(on).filter(|rule| self.covers_chunks(rule));
        let expires = expires.filter_map(|rule| rule.expiration()?.days());
        Ok(Some(Lifecycle { aborts_after: aborts.min(), expires_after: expires.min() }))
    }

    /// Adds what is missing of the rules: both longer than any upload of `life` can be under way.
    pub async fn set_lifecycle(&self, life: Duration) -> Result<(), StorageError> {
        let mut rules = self.lifecycle_rules().await?.unwrap_or_default();
        rules.retain(|rule| !matches!(rule.id(), Some(ABORT_RULE | CHUNK_RULE)));
        rules.extend(self.our_rules(life)?);
        let lifecycle = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(|error| invalid("PutBucketLifecycleConfiguration", error))?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(self.bucket())
            .lifecycle_configuration(lifecycle)
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("PutBucketLifecycleConfiguration", error))
    }

    /// What [`Storage::set_lifecycle`] would add, in words.
    pub fn lifecycle_in_words(&self, life: Duration) -> Vec<String> {
        let (days, prefix) = (days_beyond(life), self.uploads());
        let mut rules = vec![format!("abort multipart uploads under {prefix} after {days} days")];
        if let Some((key, value)) = &self.settings.chunk_tag {
            rules.push(format!("delete objects tagged {key}={value} after {days} days"));
        }
        rules
    }

    pub fn has_chunk_tag(&self) -> bool {
        self.settings.chunk_tag.is_some()
    }

    async fn lifecycle_rules(&self) -> Result<Option<Vec<LifecycleRule>>, StorageError> {
        let found = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(self.bucket())
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("GetBucketLifecycleConfiguration", error));
        match found {
            Ok(found) => Ok(Some(found.rules.unwrap_or_default())),
            Err(error) if is_not_there(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn our_rules(&self, life: Duration) -> Result<Vec<LifecycleRule>, StorageError> {
        let days = days_beyond(life);
        let built = |rule: Result<LifecycleRule, _>| {
            rule.map_err(|error| invalid("PutBucketLifecycleConfiguration", error))
        };
        let abort = LifecycleRule::builder()
            .id(ABORT_RULE)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(self.uploads()).build())
            .abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build(),
            );
        let mut rules = vec![built(abort.build())?];
        if let Some((key, value)) = &self.settings.chunk_tag {
            let tag = Tag::builder().key(key).value(value).build();
            let tag = tag.map_err(|error| invalid("PutBucketLifecycleConfiguration", error))?;
            let expire = LifecycleRule::builder()
                .id(CHUNK_RULE)
                .status(ExpirationStatus::Enabled)
                .filter(LifecycleRuleFilter::builder().tag(tag).build())
                .expiration(LifecycleExpiration::builder().days(days).build());
            rules.push(built(expire.build())?);
        }
        Ok(rules)
    }

    fn uploads(&self) -> String {
        format!("{}uploads/", self.settings.key_prefix)
    }

    fn covers_uploads(&self, rule: &LifecycleRule) -> bool {
        let Some(filter) = rule.filter() else { return true };
        let narrower = filter.tag().is_some() || filter.and().is_some();
        !narrower && filter.prefix().is_none_or(|prefix| self.uploads().starts_with(prefix))
    }

    fn covers_chunks(&self, rule: &LifecycleRule) -> bool {
        let tag = rule.filter().and_then(|filter| filter.tag());
        let ours = self.settings.chunk_tag.as_ref();
        tag.zip(ours).is_some_and(|(tag, (key, value))| tag.key() == key && tag.value() == value)
    }
}

/// Longer than an upload lives, and the time of its assembly.
fn days_beyond(life: Duration) -> i32 {
    let days = life.as_secs().div_ceil(DAY.as_secs()) + 7;
    i32::try_from(days).unwrap_or(i32::MAX)
}

fn cors_rule(origin: &str) -> Result<CorsRule, StorageError> {
    CorsRule::builder()
        .allowed_origins(origin)
        .allowed_methods("PUT")
        .allowed_methods("GET")
        .allowed_headers("content-type")
        .allowed_headers("x-amz-*")
        .max_age_seconds(3_600)
        .build()
        .map_err(|error| invalid("PutBucketCors", error))
}

/// A bucket without such rules has no such configuration; each server has a code of its own for that.
fn is_not_there(error: &StorageError) -> bool {
    error.kind == ErrorKind::NotFound
}

fn invalid(operation: &'static str, error: impl std::fmt::Display) -> StorageError {
    StorageError::new(ErrorKind::Refused, operation, error.to_string())
}
