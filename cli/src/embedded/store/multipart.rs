//! Multipart uploads as clients see them: begin, send a part, copy a part, abort.

use std::ops::Range;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use uuid::Uuid;

use super::blobs::{Held, cut};
use super::bucket::Bucket;
use super::conditions::ReadConditions;
use super::digest::{Algorithm, Digester, Kind};
use super::failure::{blocking, failed, no_such_key, no_such_upload, precondition_failed};
use super::objects::{headers_of, read_all, set_checksum};
use super::receive::{Claims, receive};
use super::record::{ObjectRecord, PartRecord, Seconds, UploadRecord};
use super::upload::Upload;

/// A source has to be larger than this for a range of it to be copied.
const MIN_RANGED: u64 = 5 * 1024 * 1024;
/// The largest part.
const MAX_PART: u64 = 5 * 1024 * 1024 * 1024;

pub async fn create(
    bucket: Arc<Bucket>,
    mut input: CreateMultipartUploadInput,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let declared = declared(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let record = UploadRecord {
        // Sorts by time, so that a listing is in the order of creation.
        upload_id: Uuid::now_v7().simple().to_string(),
        key: input.key.clone(),
        initiated: Seconds::now(),
        headers: headers_of!(input),
        declared,
    };
    let output = CreateMultipartUploadOutput {
        bucket: Some(bucket.name.clone()),
        key: Some(record.key.clone()),
        upload_id: Some(record.upload_id.clone()),
        checksum_algorithm: declared
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: declared.map(|(_, kind)| ChecksumType::from_static(kind.name())),
        ..Default::default()
    };
    blocking(move || {
        let id = (record.key.clone(), record.upload_id.clone());
        let upload =
            Upload::begin(&bucket.uploads_folder(), bucket.drafts(), record).map_err(failed)?;
        bucket.uploads_mut().insert(id, Arc::new(upload));
        Ok(())
    })
    .await?;
    Ok(S3Response::new(output))
}

fn declared(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<Option<(Algorithm, Kind)>> {
    let Some(algorithm) = algorithm else {
        if kind.is_some() {
            let message = "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.";
            return Err(s3_error!(InvalidRequest, "{message}"));
        }
        return Ok(None);
    };
    let algorithm = Algorithm::parse(algorithm.as_str())
        .ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?;
    let kind = match kind {
        Some(kind) => Kind::parse(kind.as_str()).ok_or_else(|| {
            s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid.")
        })?,
        None => algorithm.default_kind(),
    };
    if !algorithm.allows(kind) {
        let (kind, algorithm) = (kind.name(), algorithm.name());
        return Err(s3_error!(
            InvalidRequest,
            "The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        ));
    }
    Ok(Some((algorithm, kind)))
}

pub async fn put_part(
    bucket: Arc<Bucket>,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let trailers = request.trailing_headers.take();
    let input = &mut request.input;
    let number = part_number(input.part_number)?;
    let upload = bucket.upload(&input.key, &input.upload_id).ok_or_else(no_such_upload)?;
    let claims = Claims::read(&request.headers, input.content_length, trailers)?;
    let algorithm = part_algorithm(&upload.record, claims.algorithm())?;
    let arrived = receive(bucket.blobs(), input.body.take(), claims, algorithm).await?;
    let part = blocking(move || {
        let received = arrived.finish()?;
        let part = PartRecord {
            number,
            size: received.size,
            etag: received.digests.etag(),
            crc64nvme: received.digests.crc64nvme(),
            checksum: algorithm.and_then(|one| Some((one, received.digests.get(one)?.to_owned()))),
            modified: Seconds::now(),
            pieces: received.pieces,
        };
        upload.add(part.clone(), received.held, bucket.blobs())?;
        Ok(part)
    })
    .await?;
    let mut output =
        UploadPartOutput { e_tag: Some(ETag::Strong(part.etag.clone())), ..Default::default() };
    // AWS computes CRC64NVME itself where the client names nothing.
    let (algorithm, value) = part.checksum.unwrap_or((Algorithm::Crc64Nvme, part.crc64nvme));
    set_checksum!(output, algorithm, value);
    Ok(S3Response::new(output))
}

/// The checksum to keep with a part: what the upload declared, and a part may not name another.
fn part_algorithm(upload: &UploadRecord, named: Option<Algorithm>) -> S3Result<Option<Algorithm>> {
    match (upload.declared.map(|(algorithm, _)| algorithm), named) {
        (None, named) => Ok(named),
        (Some(declared), Some(named)) if declared == named => Ok(Some(declared)),
        (Some(Algorithm::Crc64Nvme), None) => Ok(Some(Algorithm::Crc64Nvme)),
        (Some(declared), named) => Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            declared.name().to_lowercase(),
            named.map_or("null".to_owned(), |named| named.name().to_lowercase())
        )),
    }
}

pub async fn copy_part(
    to: Arc<Bucket>,
    from: Arc<Bucket>,
    source_key: String,
    input: UploadPartCopyInput,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let number = part_number(input.part_number)?;
    let upload = to.upload(&input.key, &input.upload_id).ok_or_else(no_such_upload)?;
    let algorithm = upload.record.declared.map(|(algorithm, _)| algorithm);
    let part = blocking(move || {
        let (source, held) = from.open(&source_key)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        conditions.check(&source, |_| precondition_failed())?;
        let range = copied_range(input.copy_source_range.as_deref(), source.size)?;
        let (part, held) = copied_part(number, &source, range, held, algorithm, &to)?;
        upload.add(part.clone(), held, to.blobs())?;
        Ok(part)
    })
    .await?;
    let mut result = CopyPartResult {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(part.modified.into()),
        ..Default::default()
    };
    if let Some((algorithm, value)) = part.checksum {
        set_checksum!(result, algorithm, value);
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        ..Default::default()
    }))
}

/// A part that refers to the source's bytes. They are read only where a digest of them is not known: for
/// a range, for a source that was uploaded in parts, or for a checksum the source has not.
fn copied_part(
    number: u16,
    source: &ObjectRecord,
    range: Range<u64>,
    held: Held,
    algorithm: Option<Algorithm>,
    bucket: &Bucket,
) -> S3Result<(PartRecord, Held)> {
    let whole = range == (0..source.size) && !source.etag.contains('-');
    let known = algorithm.and_then(|one| known_checksum(source, one));
    let mut part = PartRecord {
        number,
        size: range.end - range.start,
        etag: source.etag.clone(),
        crc64nvme: source.crc64nvme.clone(),
        checksum: algorithm.zip(known),
        modified: Seconds::now(),
        pieces: cut(&source.pieces, range.clone()),
    };
    // The part refers to some of the source's pieces only: references of its own, one for each.
    let own = bucket.blobs().hold(&part.pieces).ok_or_else(no_such_key)?;
    if !whole || part.checksum.is_none() && algorithm.is_some() {
        let mut digester = Digester::new(algorithm);
        read_all(source, range, held, |bytes| digester.update(bytes))?;
        let digests = digester.finish();
        part.etag = digests.etag();
        part.crc64nvme = digests.crc64nvme();
        part.checksum = algorithm.and_then(|one| Some((one, digests.get(one)?.to_owned())));
    }
    Ok((part, own))
}

fn known_checksum(source: &ObjectRecord, algorithm: Algorithm) -> Option<String> {
    if algorithm == Algorithm::Crc64Nvme {
        return Some(source.crc64nvme.clone());
    }
    let checksum = &source.checksum;
    (checksum.algorithm == algorithm && checksum.kind == Kind::FullObject)
        .then(|| checksum.value.clone())
}

fn copied_range(range: Option<&str>, size: u64) -> S3Result<Range<u64>> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last \
             where first and last are the zero-based offsets of the first and last bytes to copy"
        )
    };
    let chosen = match range {
        None => 0..size,
        Some(text) => {
            let (first, last) = text
                .strip_prefix("bytes=")
                .and_then(|text| text.split_once('-'))
                .ok_or_else(invalid)?;
            let first: u64 = first.parse().map_err(|_| invalid())?;
            let last: u64 = last.parse().map_err(|_| invalid())?;
            if first > last {
                return Err(invalid());
            }
            if last >= size {
                return Err(s3_error!(
                    InvalidArgument,
                    "Range specified is not valid for source object of size: {size}"
                ));
            }
            if size <= MIN_RANGED {
                return Err(s3_error!(
                    InvalidRequest,
                    "The specified copy source is not supported as a byte-range copy source"
                ));
            }
            first..last + 1
        }
    };
    if chosen.end - chosen.start > MAX_PART {
        return Err(s3_error!(
            InvalidRequest,
            "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_PART}"
        ));
    }
    Ok(chosen)
}

pub async fn abort(
    bucket: Arc<Bucket>,
    input: AbortMultipartUploadInput,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let upload = bucket.upload(&input.key, &input.upload_id).ok_or_else(no_such_upload)?;
    blocking(move || {
        upload.abort(bucket.blobs())?;
        bucket.uploads_mut().remove(&(input.key, input.upload_id));
        Ok(())
    })
    .await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

fn part_number(number: i32) -> S3Result<u16> {
    let bad = || -> S3Error {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    };
    u16::try_from(number).ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(bad)
}
