//! Calls on whole objects.

use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::direct::{Call, Left};
use super::error::{ErrorKind, StorageError};
use super::presign::content_disposition;
use super::{Filename, ObjectKey, Storage, bare_etag, patience};
use crate::checksum::{Algorithm, Checksum};

/// The metadata of a final object that says which assembly made it.
pub(super) const ASSEMBLY_ID: &str = "upflow-assembly-id";

/// How many single deletes run at once where DeleteObjects cannot be used.
const SINGLE_DELETES: usize = 16;

/// Deleting a thousand objects in one call.
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the next piece of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// What HeadObject says.
#[derive(Debug, Clone)]
pub struct ObjectHead {
    pub size: i64,
    pub etag: String,
    crc64nvme: Option<String>,
    crc32c: Option<String>,
    full_object: bool,
    pub assembly_id: Option<Uuid>,
}

/// The type of a checksum that is over the whole object.
const FULL_OBJECT: &str = "FULL_OBJECT";

impl ObjectHead {
    /// `None`: the answer lacks something.
    fn read(response: &HttpResponse) -> Option<Self> {
        let header = |name: &str| response.headers().get(name).filter(|value| !value.is_empty());
        let assembly_id = header(&format!("x-amz-meta-{ASSEMBLY_ID}"));
        Some(Self {
            size: header("content-length")?.parse().ok()?,
            etag: bare_etag(header("etag")?),
            crc64nvme: header(Algorithm::Crc64Nvme.header()).map(str::to_owned),
            crc32c: header(Algorithm::Crc32c.header()).map(str::to_owned),
            full_object: header("x-amz-checksum-type").is_none_or(|kind| kind == FULL_OBJECT),
            assembly_id: assembly_id.and_then(|id| id.parse().ok()),
        })
    }

    /// The checksum over the whole object, where S3 keeps one of this algorithm.
    pub fn checksum(&self, algorithm: Algorithm) -> Option<Checksum> {
        let text = match algorithm {
            Algorithm::Crc64Nvme => &self.crc64nvme,
            Algorithm::Crc32c => &self.crc32c,
        };
        // A composite one, `…-3`, is that of the parts' checksums and tells nothing of the bytes.
        text.as_deref().filter(|_| self.full_object).and_then(|text| algorithm.parse(text).ok())
    }
}

/// An object in a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Without the deployment's prefix.
    pub key: String,
    pub etag: String,
    pub size: i64,
    pub modified: Option<DateTime<Utc>>,
}

/// At most 1,000 objects, and where the next page begins.
#[derive(Debug, Default)]
pub struct Page {
    pub objects: Vec<Listed>,
    pub next: Option<String>,
}

/// An object's bytes as they come.
pub struct Body(ByteStream);

impl Body {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let failed = |error: String| StorageError::new(ErrorKind::Unavailable, "GetObject", error);
        match tokio::time::timeout(BODY_TIMEOUT, self.0.next()).await {
            Ok(piece) => piece.transpose().map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed(format!("no data for {BODY_TIMEOUT:?}"))),
        }
    }
}

/// A time of S3.
pub(super) fn time(time: &aws_sdk_s3::primitives::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.secs(), time.subsec_nanos())
}

impl Storage {
    /// What is at `key`; `None` when nothing is.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StorageError> {
        let call = Call {
            operation: "HeadObject",
            method: "HEAD",
            key: self.key(key),
            query: &[],
            headers: &[("x-amz-checksum-mode", "ENABLED")],
            timeout: self.settings.timeout,
        };
        let read = async |response: HttpResponse| match response.status().as_u16() {
            200 => ObjectHead::read(&response).map(Some),
            404 => Some(None),
            _ => None,
        };
        match self.direct(call, read).await {
            Ok(head) => Ok(head),
            Err(left) => self.head_by_sdk(key, left).await,
        }
    }

    async fn head_by_sdk(
        &self,
        key: &ObjectKey,
        left: Left,
    ) -> Result<Option<ObjectHead>, StorageError> {
        let sent = self
            .client
            .head_object()
            .bucket(self.bucket())
            .key(self.key(key))
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .config_override(left.of(Builder::new()))
            .send()
            .await;
        let head = match sent.map_err(|error| StorageError::from_sdk("HeadObject", error)) {
            Ok(head) => head,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let assembly_id = head
            .metadata()
            .and_then(|metadata| metadata.get(ASSEMBLY_ID))
            .and_then(|id| id.parse().ok());
        Ok(Some(ObjectHead {
            size: head.content_length().unwrap_or_default(),
            etag: bare_etag(head.e_tag().unwrap_or_default()),
            crc64nvme: head.checksum_crc64_nvme().map(str::to_owned),
            crc32c: head.checksum_crc32_c().map(str::to_owned),
            full_object: head.checksum_type().is_none_or(|kind| kind.as_str() == FULL_OBJECT),
            assembly_id,
        }))
    }

    /// A page of the objects whose keys start with `prefix`, from where the page before ended.
    pub async fn list(&self, prefix: &str, next: Option<String>) -> Result<Page, StorageError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(format!("{}{prefix}", self.settings.key_prefix))
            .set_continuation_token(next)
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("ListObjectsV2", error))?;
        let objects = page.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&self.settings.key_prefix)?;
            Some(Listed {
                key: key.to_owned(),
                etag: bare_etag(object.e_tag().unwrap_or_default()),
                size: object.size().unwrap_or_default(),
                modified: object.last_modified().and_then(time),
            })
        });
        let more = page.is_truncated().unwrap_or_default();
        let next = page.next_continuation_token().filter(|_| more).map(str::to_owned);
        Ok(Page { objects: objects.collect(), next })
    }

    /// The bytes of the object, if it is still the one with this ETag.
    pub async fn get(&self, key: &ObjectKey, etag: &str) -> Result<Body, StorageError> {
        let quoted = format!("\"{etag}\"");
        let call = Call {
            operation: "GetObject",
            method: "GET",
            key: self.key(key),
            query: &[],
            headers: &[("if-match", &quoted)],
            timeout: self.settings.timeout,
        };
        let read = async |response: HttpResponse| {
            let good = response.status().as_u16() == 200;
            let found = response.headers().get("etag").map(bare_etag);
            good.then(|| (found, Body(ByteStream::new(response.into_body()))))
        };
        let (found, body) = match self.direct(call, read).await {
            Ok(answer) => answer,
            Err(left) => self.get_by_sdk(key, quoted, left).await?,
        };
        // Some servers ignore If-Match.
        if found.is_some_and(|found| found != etag) {
            return Err(StorageError::new(ErrorKind::Precondition, "GetObject", "another ETag"));
        }
        Ok(body)
    }

    async fn get_by_sdk(
        &self,
        key: &ObjectKey,
        quoted: String,
        left: Left,
    ) -> Result<(Option<String>, Body), StorageError> {
        let object = self
            .client
            .get_object()
            .bucket(self.bucket())
            .key(self.key(key))
            .if_match(quoted)
            .customize()
            .config_override(left.of(Builder::new()))
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("GetObject", error))?;
        Ok((object.e_tag().map(bare_etag), Body(object.body)))
    }

    /// Makes the final object of an empty file: a multipart upload needs a part.
    pub async fn put_empty(
        &self,
        key: &ObjectKey,
        filename: &Filename,
        content_type: &str,
        assembly_id: Uuid,
    ) -> Result<(), StorageError> {
        self.client
            .put_object()
            .bucket(self.bucket())
            .key(self.key(key))
            .content_type(content_type)
            .content_disposition(content_disposition(filename))
            .metadata(ASSEMBLY_ID, assembly_id.to_string())
            .body(ByteStream::from_static(b""))
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("PutObject", error))
    }

    /// Deletes all objects whose keys start with `prefix`; answers how many there were.
    pub async fn delete_all(&self, prefix: &str) -> Result<usize, StorageError> {
        let mut deleted = 0;
        loop {
            // Always the first page: what was on it is gone at the next look.
            let page = self.list(prefix, None).await?;
            if page.objects.is_empty() {
                return Ok(deleted);
            }
            deleted += page.objects.len();
            self.delete_page(&page).await?;
            if page.next.is_none() {
                return Ok(deleted);
            }
        }
    }

    async fn delete_page(&self, page: &Page) -> Result<(), StorageError> {
        let keys = page.objects.iter().map(|o| format!("{}{}", self.settings.key_prefix, o.key));
        let keys: Vec<String> = keys.collect();
        match self.delete_together(&keys).await {
            // Missing on some servers, or asking for a Content-MD5 on others.
            Err(error) if matches!(error.kind, ErrorKind::NotImplemented | ErrorKind::Refused) => {
                stream::iter(keys)
                    .map(|key| self.delete_one(key))
                    .buffer_unordered(SINGLE_DELETES)
                    .try_collect()
                    .await
            }
            other => other,
        }
    }

    async fn delete_together(&self, keys: &[String]) -> Result<(), StorageError> {
        let invalid = |error: String| StorageError::new(ErrorKind::Refused, "DeleteObjects", error);
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| invalid(error.to_string()))?;
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let answer = self
            .client
            .delete_objects()
            .bucket(self.bucket())
            .delete(delete)
            .customize()
            .config_override(patience(DELETE_TIMEOUT))
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("DeleteObjects", error))?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => {
                let text = format!(
                    "{} of {} objects were not deleted, the first with {}: {}",
                    answer.errors().len(),
                    keys.len(),
                    error.code().unwrap_or_default(),
                    error.message().unwrap_or_default()
                );
                Err(StorageError::new(ErrorKind::Unavailable, "DeleteObjects", text))
            }
        }
    }

    pub(super) async fn delete_one(&self, key: String) -> Result<(), StorageError> {
        self.client
            .delete_object()
            .bucket(self.bucket())
            .key(key)
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("DeleteObject", error))
    }
}
