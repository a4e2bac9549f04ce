//! What the server at hand enforces, found out by trying. A level of integrity is not claimed on a server's
//! word: some keep a checksum that they were told and never computed.
//!
//! The trial objects are chunks and a final object of the upload with the nil id, which no client can have.
//! A process that is killed over it leaves one, of a few bytes; [`Storage::remove_trials`] finds it.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::error::{ErrorKind, StorageError};
use super::key::{below, finals};
use super::{Filename, NewMultipart, ObjectKey, Storage, patience};
use crate::checksum::{Algorithm, Checksum, Hasher};

const TRIAL: &[u8] = b"a trial of UpFlow: may be deleted";
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server refuses in one checksum algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// A PUT of other bytes than its checksum says.
    pub refuses_wrong_chunks: bool,
    /// A multipart upload whose whole is another than the checksum at its end says.
    pub refuses_wrong_files: bool,
}

impl Storage {
    /// What the server enforces; tried once in the life of this process. An error says that it could not be
    /// found out this time.
    pub async fn abilities(&self, algorithm: Algorithm) -> Result<Abilities, StorageError> {
        let known = &self.abilities[algorithm as usize];
        let try_it = || async {
            let abilities = Abilities {
                refuses_wrong_chunks: self.refuses_wrong_chunks(algorithm).await?,
                refuses_wrong_files: self.refuses_wrong_files(algorithm).await?,
            };
            tracing::debug!(%algorithm, ?abilities, "what the storage enforces");
            Ok(abilities)
        };
        known.get_or_try_init(try_it).await.copied()
    }

    /// Removes what trials have left that were begun before `before`.
    pub async fn remove_trials(&self, before: DateTime<Utc>) -> Result<(), StorageError> {
        let old = |time: Option<DateTime<Utc>>| time.is_some_and(|time| time < before);
        // By the common prefix: some servers take a longer one for nothing but a whole key.
        for left in self.list_multiparts("uploads/", None).await?.uploads {
            let name = left.key.strip_prefix(&finals(Uuid::nil()));
            let filename = name.and_then(|name| Filename::parse(name).ok());
            if let Some(filename) = filename.filter(|_| old(left.initiated)) {
                let key = ObjectKey::Final { upload_id: Uuid::nil(), filename };
                self.abort_multipart(&key, &left.upload_id).await?;
            }
        }
        // A page is enough: whoever left more is found the next time.
        for left in self.list(&below(Uuid::nil()), None).await?.objects {
            if old(left.modified) {
                self.delete_one(format!("{}{}", self.settings.key_prefix, left.key)).await?;
            }
        }
        Ok(())
    }

    async fn refuses_wrong_chunks(&self, algorithm: Algorithm) -> Result<bool, StorageError> {
        // Any that another process does not try at the same moment.
        let index = (Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32;
        let key = ObjectKey::Chunk { upload_id: Uuid::nil(), index };
        let value = Some(algorithm.of_nothing().to_string());
        let put = self.client.put_object().bucket(self.bucket()).key(self.key(&key));
        let put = match algorithm {
            Algorithm::Crc64Nvme => put.set_checksum_crc64_nvme(value),
            Algorithm::Crc32c => put.set_checksum_crc32_c(value),
        };
        let sent = put
            .body(ByteStream::from_static(TRIAL))
            .customize()
            .config_override(patience(TRIAL_TIMEOUT))
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("PutObject", error));
        if !refused(sent.map(drop))? {
            self.delete_one(self.key(&key)).await?;
            return Ok(false);
        }
        Ok(self.head(&key).await?.is_none())
    }

    async fn refuses_wrong_files(&self, algorithm: Algorithm) -> Result<bool, StorageError> {
        let filename = trial_file()?;
        let key = ObjectKey::Final { upload_id: Uuid::nil(), filename: filename.clone() };
        let multipart = self
            .create_multipart(NewMultipart {
                key: key.clone(),
                filename: &filename,
                content_type: "application/octet-stream",
                algorithm,
                assembly_id: Uuid::nil(),
            })
            .await?;
        let part = self.put_part(&multipart, 1, TRIAL.into(), checksum(algorithm)).await;
        let completed = match part {
            Ok(part) => {
                self.complete_multipart(&multipart, &[part], Some(algorithm.of_nothing())).await
            }
            Err(error) => Err(error),
        };
        let refuses = refused(completed);
        if matches!(refuses, Ok(false)) {
            self.delete_one(self.key(&key)).await?;
        } else {
            self.abort_multipart(&key, &multipart.upload_id).await?;
        }
        refuses
    }
}

/// A refusal is an answer that says so; an error of the server or the line says nothing.
fn refused(outcome: Result<(), StorageError>) -> Result<bool, StorageError> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error) => match error.kind {
            ErrorKind::BadChecksum | ErrorKind::BadPart | ErrorKind::Refused => Ok(true),
            _ => Err(error),
        },
    }
}

fn trial_file() -> Result<Filename, StorageError> {
    Filename::parse("trial")
        .map_err(|error| StorageError::new(ErrorKind::Refused, "trial", error.to_string()))
}

fn checksum(algorithm: Algorithm) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(TRIAL);
    hasher.finish()
}
