//! Listings as clients see them: of objects, of uploads and of parts.

use std::ops::Bound;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};

use super::bucket::{Bucket, Listed};
use super::digest::Algorithm;
use super::failure::{blocking, no_such_upload};
use super::listing::{After, Query, url_encoded};
use super::objects::set_checksum;
use super::record::{PartRecord, UploadRecord};

/// What AWS puts on a page at most.
const MAX_PAGE: i32 = 1000;

pub fn objects(
    bucket: &Bucket,
    input: ListObjectsV2Input,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let limit = limit(input.max_keys)?;
    let after = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => After::from_token(token).ok_or_else(|| {
            s3_error!(InvalidArgument, "The continuation token provided is incorrect")
        })?,
        (None, Some(key)) if !key.is_empty() => After::Key(key.clone()),
        _ => After::Nothing,
    };
    let prefix = input.prefix.clone().unwrap_or_default();
    let query = Query { prefix: &prefix, delimiter: input.delimiter.as_deref(), after, limit };
    let page = bucket.list(&query);
    let spelling = Spelling::of(input.encoding_type.as_ref());
    let count = page.items.len() + page.prefixes.len();
    let contents =
        page.items.into_iter().map(|(key, listed)| object(spelling.spell(&key), listed)).collect();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(spelling.spell(&prefix)),
        delimiter: input.delimiter.as_deref().map(|delimiter| spelling.spell(delimiter)),
        start_after: input.start_after.as_deref().map(|key| spelling.spell(key)),
        max_keys: Some(input.max_keys.unwrap_or(MAX_PAGE)),
        key_count: i32::try_from(count).ok(),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|after| after.to_token()),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        contents: Some(contents),
        common_prefixes: Some(
            page.prefixes.iter().map(|prefix| common(spelling.spell(prefix))).collect(),
        ),
        ..Default::default()
    }))
}

fn object(key: String, listed: Listed) -> Object {
    let (algorithm, kind) = listed.checksum;
    Object {
        key: Some(key),
        size: i64::try_from(listed.size).ok(),
        e_tag: Some(ETag::Strong(listed.etag)),
        last_modified: Some(listed.modified.into()),
        checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(algorithm.name())]),
        checksum_type: Some(ChecksumType::from_static(kind.name())),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

pub fn uploads(
    bucket: &Bucket,
    input: ListMultipartUploadsInput,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let limit = limit(input.max_uploads)?;
    let spelling = Spelling::of(input.encoding_type.as_ref());
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let marker = input.key_marker.clone().filter(|key| !key.is_empty()).map(|key| {
        // Without an id, behind all uploads of the key: no id is as large as this.
        let id = input.upload_id_marker.clone().filter(|id| !id.is_empty());
        (key, id.unwrap_or_else(|| char::MAX.to_string()))
    });
    let first = (prefix.clone(), String::new());
    let lower = match marker {
        Some(marker) if marker > first => Bound::Excluded(marker),
        _ => Bound::Included(first),
    };
    let (mut shown, mut prefixes): (Vec<MultipartUpload>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut last, mut truncated) = (None, false);
    for ((key, id), upload) in bucket.uploads().range((lower, Bound::Unbounded)) {
        if !key.starts_with(&prefix) {
            break;
        }
        let behind = &key[prefix.len()..];
        let rolled =
            delimiter.and_then(|delimiter| Some(behind.find(delimiter)? + delimiter.len()));
        let rolled = rolled.map(|length| &key[..prefix.len() + length]);
        if rolled.is_none() || rolled != prefixes.last().map(String::as_str) {
            if shown.len() + prefixes.len() == limit {
                truncated = limit > 0;
                break;
            }
            match rolled {
                Some(rolled) => prefixes.push(rolled.to_owned()),
                None => shown.push(shown_upload(spelling.spell(key), &upload.record)),
            }
        }
        last = Some((key.clone(), id.clone()));
    }
    let (next_key, next_id) = last.filter(|_| truncated).unzip();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(spelling.spell(&prefix)),
        delimiter: input.delimiter.as_deref().map(|delimiter| spelling.spell(delimiter)),
        key_marker: Some(spelling.spell(&input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        next_key_marker: next_key.map(|key| spelling.spell(&key)),
        next_upload_id_marker: next_id,
        max_uploads: Some(input.max_uploads.unwrap_or(MAX_PAGE)),
        is_truncated: Some(truncated),
        encoding_type: input.encoding_type,
        uploads: Some(shown),
        common_prefixes: Some(
            prefixes.iter().map(|prefix| common(spelling.spell(prefix))).collect(),
        ),
        ..Default::default()
    }))
}

fn shown_upload(key: String, record: &UploadRecord) -> MultipartUpload {
    MultipartUpload {
        key: Some(key),
        upload_id: Some(record.upload_id.clone()),
        initiated: Some(record.initiated.into()),
        checksum_algorithm: record
            .declared
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: record.declared.map(|(_, kind)| ChecksumType::from_static(kind.name())),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    }
}

pub async fn parts(
    bucket: Arc<Bucket>,
    input: ListPartsInput,
) -> S3Result<S3Response<ListPartsOutput>> {
    let limit = limit(input.max_parts)?;
    let after = input.part_number_marker.unwrap_or(0);
    let upload = bucket.upload(&input.key, &input.upload_id).ok_or_else(no_such_upload)?;
    let record = upload.record.clone();
    // A Complete may be at work on the parts.
    let parts = blocking(move || upload.parts()).await?;
    let mut rest = parts.into_values().filter(|part| i32::from(part.number) > after);
    let shown: Vec<PartRecord> = rest.by_ref().take(limit).collect();
    let truncated = limit > 0 && rest.next().is_some();
    let next = shown.last().filter(|_| truncated).map(|part| i32::from(part.number));
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: record
            .declared
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: record.declared.map(|(_, kind)| ChecksumType::from_static(kind.name())),
        part_number_marker: Some(after),
        next_part_number_marker: next,
        max_parts: Some(input.max_parts.unwrap_or(MAX_PAGE)),
        is_truncated: Some(truncated),
        parts: Some(shown.into_iter().map(shown_part).collect()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    }))
}

fn shown_part(record: PartRecord) -> Part {
    let mut part = Part {
        part_number: Some(record.number.into()),
        size: i64::try_from(record.size).ok(),
        e_tag: Some(ETag::Strong(record.etag)),
        last_modified: Some(record.modified.into()),
        ..Default::default()
    };
    if let Some((algorithm, value)) = record.checksum {
        set_checksum!(part, algorithm, value);
    }
    part
}

/// How keys are written in an answer.
enum Spelling {
    Plain,
    Url,
}

impl Spelling {
    fn of(encoding: Option<&EncodingType>) -> Spelling {
        match encoding {
            Some(encoding) if encoding.as_str() == EncodingType::URL => Spelling::Url,
            _ => Spelling::Plain,
        }
    }

    fn spell(&self, key: &str) -> String {
        match self {
            Spelling::Plain => key.to_owned(),
            Spelling::Url => url_encoded(key),
        }
    }
}

fn common(prefix: String) -> CommonPrefix {
    CommonPrefix { prefix: Some(prefix) }
}

fn limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    usize::try_from(asked)
        .map_err(|_| s3_error!(InvalidArgument, "The number of entries asked for is not valid."))
}
