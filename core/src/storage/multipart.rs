//! The multipart upload that becomes the final object.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_xml::decode::{Document, try_data};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::utf8_percent_encode;
use uuid::Uuid;

use super::direct::Call;
use super::error::{ErrorKind, StorageError};
use super::presign::{PATH, content_disposition};
use super::{Filename, ObjectKey, Storage, patience};
use crate::checksum::{Algorithm, Checksum};

/// Complete can take minutes for thousands of parts.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(600);
/// Copying a part of 5 GiB inside S3 can take minutes too.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);
/// Sending a part of some MiB over a slow line.
const PUT_TIMEOUT: Duration = Duration::from_secs(120);
/// Giving up thousands of parts.
const ABORT_TIMEOUT: Duration = Duration::from_secs(60);

/// A multipart upload under way.
#[derive(Debug, Clone)]
pub struct Multipart {
    pub key: ObjectKey,
    pub upload_id: String,
    pub algorithm: Algorithm,
}

/// What a multipart upload is begun with.
#[derive(Debug)]
pub struct NewMultipart<'a> {
    pub key: ObjectKey,
    pub filename: &'a Filename,
    pub content_type: &'a str,
    pub algorithm: Algorithm,
    /// The object will carry it, so that it can be told from that of another assembly.
    pub assembly_id: Uuid,
}

/// A part as S3 has it.
#[derive(Debug, Clone)]
pub struct UploadedPart {
    pub number: i32,
    pub etag: String,
    pub checksum: Option<String>,
}

/// A multipart upload in a listing.
#[derive(Debug, Clone)]
pub struct ListedMultipart {
    /// Without the deployment's prefix.
    pub key: String,
    pub upload_id: String,
    pub initiated: Option<DateTime<Utc>>,
}

/// At most 1,000 multipart uploads, and where the next page begins: key and id.
#[derive(Debug, Default)]
pub struct MultipartPage {
    pub uploads: Vec<ListedMultipart>,
    pub next: Option<(String, String)>,
}

impl Storage {
    pub async fn create_multipart(&self, new: NewMultipart<'_>) -> Result<Multipart, StorageError> {
        let created = self
            .client
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(self.key(&new.key))
            .content_type(new.content_type)
            .content_disposition(content_disposition(new.filename))
            .metadata(super::objects::ASSEMBLY_ID, new.assembly_id.to_string())
            // Both at the start, or a wrong checksum of the whole may pass at the end.
            .checksum_algorithm(algorithm(new.algorithm))
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("CreateMultipartUpload", error))?;
        match created.upload_id() {
            Some(upload_id) if !upload_id.is_empty() => Ok(Multipart {
                key: new.key,
                upload_id: upload_id.to_owned(),
                algorithm: new.algorithm,
            }),
            _ => Err(unusable("CreateMultipartUpload", "no upload id in the answer")),
        }
    }

    /// Copies a whole chunk into a part, inside S3. Fails with `Precondition` where the chunk's ETag is
    /// another one and the server looks at it.
    pub async fn copy_part(
        &self,
        to: &Multipart,
        number: i32,
        from: &ObjectKey,
        etag: &str,
    ) -> Result<UploadedPart, StorageError> {
        let source = format!("{}/{}", self.bucket(), self.key(from));
        let source = utf8_percent_encode(&source, PATH).to_string();
        let quoted = format!("\"{etag}\"");
        let part = number.to_string();
        let call = Call {
            operation: "UploadPartCopy",
            method: "PUT",
            key: self.key(&to.key),
            query: &[("partNumber", &part), ("uploadId", &to.upload_id)],
            headers: &[("x-amz-copy-source", &source), ("x-amz-copy-source-if-match", &quoted)],
            timeout: COPY_TIMEOUT,
        };
        let read = async |response: HttpResponse| copied_part(response, to.algorithm, number).await;
        let left = match self.direct(call, read).await {
            Ok(part) => return Ok(part),
            Err(left) => left,
        };
        let copied = self
            .client
            .upload_part_copy()
            .bucket(self.bucket())
            .key(self.key(&to.key))
            .upload_id(&to.upload_id)
            .part_number(number)
            .copy_source(source)
            .copy_source_if_match(quoted)
            .customize()
            .config_override(left.of(patience(COPY_TIMEOUT)))
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("UploadPartCopy", error))?;
        let result = copied.copy_part_result();
        // One server copies nothing and answers 200 without an ETag.
        let etag = result
            .and_then(|result| result.e_tag())
            .filter(|etag| !etag.is_empty())
            .ok_or_else(|| unusable("UploadPartCopy", "no ETag in the answer"))?;
        let checksum = result.and_then(|result| match to.algorithm {
            Algorithm::Crc64Nvme => result.checksum_crc64_nvme(),
            Algorithm::Crc32c => result.checksum_crc32_c(),
        });
        Ok(UploadedPart { number, etag: etag.to_owned(), checksum: checksum.map(str::to_owned) })
    }

    /// Sends a part; S3 refuses it when the bytes do not have this checksum.
    pub async fn put_part(
        &self,
        to: &Multipart,
        number: i32,
        bytes: Bytes,
        checksum: Checksum,
    ) -> Result<UploadedPart, StorageError> {
        let value = Some(checksum.to_string());
        let call = self
            .client
            .upload_part()
            .bucket(self.bucket())
            .key(self.key(&to.key))
            .upload_id(&to.upload_id)
            .part_number(number)
            .body(ByteStream::from(bytes));
        let call = match to.algorithm {
            Algorithm::Crc64Nvme => call.set_checksum_crc64_nvme(value.clone()),
            Algorithm::Crc32c => call.set_checksum_crc32_c(value.clone()),
        };
        let sent = call
            .customize()
            .config_override(patience(PUT_TIMEOUT))
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("UploadPart", error))?;
        let etag = sent.e_tag().filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| unusable("UploadPart", "no ETag in the answer"))?;
        Ok(UploadedPart { number, etag: etag.to_owned(), checksum: value })
    }

    /// Makes the object of the parts. With `checksum`, that of the whole file, S3 refuses to make
    /// another one. An error does not mean that the object is not there: look with `head`.
    pub async fn complete_multipart(
        &self,
        multipart: &Multipart,
        parts: &[UploadedPart],
        checksum: Option<Checksum>,
    ) -> Result<(), StorageError> {
        let crc64 = multipart.algorithm == Algorithm::Crc64Nvme;
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(&part.etag)
                .set_checksum_crc64_nvme(part.checksum.clone().filter(|_| crc64))
                .set_checksum_crc32_c(part.checksum.clone().filter(|_| !crc64))
                .build()
        });
        let completed = CompletedMultipartUpload::builder().set_parts(Some(parts.collect()));
        let value = checksum.map(|checksum| checksum.to_string());
        self.client
            .complete_multipart_upload()
            .bucket(self.bucket())
            .key(self.key(&multipart.key))
            .upload_id(&multipart.upload_id)
            .multipart_upload(completed.build())
            .set_checksum_type(value.is_some().then_some(ChecksumType::FullObject))
            .set_checksum_crc64_nvme(value.clone().filter(|_| crc64))
            .set_checksum_crc32_c(value.filter(|_| !crc64))
            .customize()
            .config_override(patience(COMPLETE_TIMEOUT))
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("CompleteMultipartUpload", error))
    }

    /// Aborts until S3 says that there is no such upload: a copy that was in flight can land after the
    /// first abort, and its part would be paid for.
    pub async fn abort_multipart(
        &self,
        key: &ObjectKey,
        upload_id: &str,
    ) -> Result<(), StorageError> {
        for _ in 0..ABORTS {
            let aborted = self
                .client
                .abort_multipart_upload()
                .bucket(self.bucket())
                .key(self.key(key))
                .upload_id(upload_id)
                .customize()
                .config_override(patience(ABORT_TIMEOUT))
                .send()
                .await
                .map_err(|error| StorageError::from_sdk("AbortMultipartUpload", error));
            if let Err(error) = aborted
                && !matches!(error.kind, ErrorKind::NoSuchUpload | ErrorKind::NotFound)
            {
                return Err(error);
            }
            if !self.multipart_exists(key, upload_id).await? {
                return Ok(());
            }
        }
        Err(StorageError::new(
            ErrorKind::Unavailable,
            "AbortMultipartUpload",
            "parts were left after several aborts",
        ))
    }

    async fn multipart_exists(
        &self,
        key: &ObjectKey,
        upload_id: &str,
    ) -> Result<bool, StorageError> {
        let listed = self
            .client
            .list_parts()
            .bucket(self.bucket())
            .key(self.key(key))
            .upload_id(upload_id)
            .max_parts(1)
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("ListParts", error));
        match listed {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NoSuchUpload | ErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The multipart uploads under way to keys that start with `prefix`, in pages of 1,000 from where the page
    /// before ended. None on a server that does not list them: then only the ids in the rows are known.
    pub async fn list_multiparts(
        &self,
        prefix: &str,
        next: Option<(String, String)>,
    ) -> Result<MultipartPage, StorageError> {
        let (key_marker, id_marker) = next.unzip();
        let listed = self
            .client
            .list_multipart_uploads()
            .bucket(self.bucket())
            .prefix(format!("{}{prefix}", self.settings.key_prefix))
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("ListMultipartUploads", error));
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.kind == ErrorKind::NotImplemented => {
                return Ok(MultipartPage::default());
            }
            Err(error) => return Err(error),
        };
        let uploads = listed.uploads().iter().filter_map(|upload| {
            Some(ListedMultipart {
                key: upload.key()?.strip_prefix(&self.settings.key_prefix)?.to_owned(),
                upload_id: upload.upload_id()?.to_owned(),
                initiated: upload.initiated().and_then(super::objects::time),
            })
        });
        let more = listed.is_truncated().unwrap_or_default();
        let next = listed.next_key_marker().zip(listed.next_upload_id_marker());
        let next = next.filter(|_| more).map(|(key, id)| (key.to_owned(), id.to_owned()));
        Ok(MultipartPage { uploads: uploads.collect(), next })
    }
}

/// What a CopyPartResult says; `None` of any other answer: S3 may find an error after it has begun to answer with 200.
async fn copied_part(
    response: HttpResponse,
    algorithm: Algorithm,
    number: i32,
) -> Option<UploadedPart> {
    if response.status().as_u16() != 200 {
        return None;
    }
    let body = Limited::new(response.into_body(), COPY_ANSWER).collect().await.ok()?.to_bytes();
    let text = std::str::from_utf8(&body).ok()?;
    if !text.trim_end().ends_with("CopyPartResult>") {
        return None;
    }
    let mut document = Document::new(text);
    let mut result =
        document.root_element().ok().filter(|root| root.start_el().matches("CopyPartResult"))?;
    let (mut etag, mut checksum) = (None, None);
    while let Some(mut tag) = result.next_tag() {
        let wanted = match tag.start_el().local() {
            "ETag" => &mut etag,
            name if name == checksum_tag(algorithm) => &mut checksum,
            _ => continue,
        };
        *wanted = Some(try_data(&mut tag).ok()?.into_owned());
    }
    let etag = etag.filter(|etag| !etag.is_empty())?;
    Some(UploadedPart { number, etag, checksum })
}

/// The most bytes of an answer to UploadPartCopy.
const COPY_ANSWER: usize = 64 * 1024;

fn checksum_tag(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
        Algorithm::Crc32c => "ChecksumCRC32C",
    }
}

/// How often an abort is repeated while parts are seen.
const ABORTS: usize = 5;

fn algorithm(algorithm: Algorithm) -> ChecksumAlgorithm {
    match algorithm {
        Algorithm::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
        Algorithm::Crc32c => ChecksumAlgorithm::Crc32C,
    }
}

/// An answer that cannot be what it says: the call is to be made again.
fn unusable(operation: &'static str, detail: &str) -> StorageError {
    StorageError::new(ErrorKind::Unavailable, operation, detail)
}
