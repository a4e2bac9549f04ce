//! Each call that UpFlow makes, tried by itself with an object of a few KiB: what `upflow doctor` reports. What
//! the server enforces of checksums is tried in [`super::abilities`].
//!
//! The trial objects are those of the upload with the nil id, as there; [`Storage::remove_trials`] finds what
//! was left.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::error::{ErrorKind, StorageError};
use super::key::below;
use super::{Filename, NewMultipart, ObjectHead, ObjectKey, Presigned, Storage};
use crate::checksum::{Algorithm, Hasher};

/// Large enough for every server to copy it.
const SIZE: usize = 8 * 1024;

/// One object, and the calls on it.
pub struct Trial<'a> {
    storage: &'a Storage,
    key: ObjectKey,
    bytes: Bytes,
}

/// What copying into a multipart upload has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The server keeps the checksum of the whole object, by which the end of an assembly is proven.
    pub full_object: bool,
    /// The server refuses to copy an object with another ETag than was meant.
    pub pins: bool,
}

impl Storage {
    /// One LIST: whether the credentials are known, the clock is right, the region is, the bucket is there and
    /// may be listed. Unlike HeadBucket, its errors have a body that says which.
    pub async fn probe(&self) -> Result<(), StorageError> {
        self.client
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(format!("{}uploads/", self.settings.key_prefix))
            .max_keys(1)
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("ListObjectsV2", error))
    }

    /// Until when the credentials are good; `None` where they have no end.
    pub async fn credentials_end(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StorageError> {
        let keys = self.credentials.get(now.into()).await?;
        Ok(keys.expiry().map(DateTime::from))
    }

    /// An object that nobody else tries anything with.
    pub fn trial(&self) -> Trial<'_> {
        let index = (Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32;
        Trial {
            storage: self,
            key: ObjectKey::Chunk { upload_id: Uuid::nil(), index },
            bytes: Bytes::from_iter((0..SIZE).map(|i| (i % 251) as u8)),
        }
    }
}

impl Trial<'_> {
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub async fn put(&self) -> Result<(), StorageError> {
        self.storage
            .client
            .put_object()
            .bucket(self.storage.bucket())
            .key(self.storage.key(&self.key))
            .body(ByteStream::from(self.bytes.clone()))
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("PutObject", error))
    }

    pub async fn head(&self) -> Result<Option<ObjectHead>, StorageError> {
        self.storage.head(&self.key).await
    }

    /// Whether what is read is what was put, and whether If-Match is looked at.
    pub async fn get(&self, etag: &str) -> Result<(bool, bool), StorageError> {
        let mut body = self.storage.get(&self.key, etag).await?;
        let mut read = Vec::with_capacity(SIZE);
        while let Some(piece) = body.next().await? {
            read.extend_from_slice(&piece);
        }
        let other = self
            .storage
            .client
            .get_object()
            .bucket(self.storage.bucket())
            .key(self.storage.key(&self.key))
            .if_match("\"00000000000000000000000000000000\"")
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("GetObject", error));
        let looked_at = match other {
            Ok(_) => false,
            Err(error) if error.kind == ErrorKind::Precondition => true,
            Err(error) => return Err(error),
        };
        Ok((read == self.bytes, looked_at))
    }

    /// Whether it is in a listing.
    pub async fn list(&self) -> Result<bool, StorageError> {
        let page = self.storage.list(&below(Uuid::nil()), None).await?;
        let key = self.key.to_string();
        // Among the first thousand; there are no others unless trials were killed by the hundred.
        Ok(page.objects.iter().any(|object| object.key == key))
    }

    /// Copies it into a multipart upload, and completes that with the checksum of the whole.
    pub async fn copy(&self, etag: &str) -> Result<Copied, StorageError> {
        let storage = self.storage;
        let name = format!("trial-{}", Uuid::new_v4().simple());
        let filename = Filename::parse(&name)
            .map_err(|error| StorageError::new(ErrorKind::Refused, "trial", error.to_string()))?;
        let key = ObjectKey::Final { upload_id: Uuid::nil(), filename: filename.clone() };
        let algorithm = Algorithm::Crc64Nvme;
        let new = NewMultipart {
            key: key.clone(),
            filename: &filename,
            content_type: "application/octet-stream",
            algorithm,
            assembly_id: Uuid::nil(),
        };
        let multipart = storage.create_multipart(new).await?;
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&self.bytes);
        let checksum = hasher.finish();
        let copied = async {
            let wrong = "00000000000000000000000000000000";
            let pins = match storage.copy_part(&multipart, 1, &self.key, wrong).await {
                Ok(_) => false,
                Err(error) if error.kind == ErrorKind::Precondition => true,
                Err(error) => return Err(error),
            };
            let part = storage.copy_part(&multipart, 1, &self.key, etag).await?;
            storage.complete_multipart(&multipart, &[part], Some(checksum)).await?;
            let head = storage.head(&key).await?;
            let whole = head.as_ref().is_some_and(|head| head.size == SIZE as i64);
            if !whole {
                let detail = "the object that was made of the copy is not there, or not whole";
                return Err(StorageError::new(ErrorKind::Refused, "UploadPartCopy", detail));
            }
            let kept = head.and_then(|head| head.checksum(algorithm));
            Ok(Copied { full_object: kept == Some(checksum), pins })
        };
        let copied = copied.await;
        match &copied {
            Ok(_) => storage.delete_one(storage.key(&key)).await?,
            // Whatever it was, it must not stay.
            Err(_) => {
                let _ = storage.abort_multipart(&key, &multipart.upload_id).await;
            }
        }
        copied
    }

    /// Deletes it; whether it is gone then.
    pub async fn delete(&self) -> Result<bool, StorageError> {
        self.storage.delete_one(self.storage.key(&self.key)).await?;
        Ok(self.head().await?.is_none())
    }

    /// A URL as clients get it, for exactly these bytes.
    pub async fn presigned(&self, now: DateTime<Utc>) -> Result<Presigned, StorageError> {
        const LIFE: Duration = Duration::from_secs(60);
        let mut hasher = Hasher::new(Algorithm::Crc64Nvme);
        hasher.update(&self.bytes);
        let (len, checksum) = (SIZE as i64, Some(hasher.finish()));
        let signer = self.storage.signer(now).await?;
        signer.put_chunk(&self.key, len, checksum, LIFE, DateTime::<Utc>::MAX_UTC)
    }
}
