//! CompleteMultipartUpload: checks everything it can be checked for, and writes one record that lists the
//! parts' pieces. No byte is copied, and a refused Complete leaves the upload as it was.

use std::path::Path;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::blobs::Piece;
use super::bucket::{Bucket, Condition};
use super::conditions::write_condition;
use super::digest::{Algorithm, Checksum, Kind, multipart_etag};
use super::durable;
use super::failure::{blocking, failed, no_such_upload};
use super::listing::url_encoded;
use super::objects::set_checksum;
use super::receive::{bad_checksum, claimed_checksum};
use super::record::{ObjectRecord, PartRecord, Seconds, UploadRecord};
use super::upload::Parts;

/// Every part but the last.
const MIN_PART: u64 = 5 * 1024 * 1024;
/// Keeps a record small enough to be read in one go. Only parts copied out of objects that were
/// themselves made of many parts come near it.
const MAX_PIECES: usize = 100_000;

/// What the request asks for.
struct Asked {
    parts: Vec<CompletedPart>,
    condition: Condition,
    size: Option<i64>,
    checksum: Option<(Algorithm, String)>,
    kind: Option<ChecksumType>,
}

pub async fn complete(
    bucket: Arc<Bucket>,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = request.input;
    let asked = Asked {
        parts: input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default(),
        condition: write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
        size: input.mpu_object_size,
        checksum: claimed_checksum(&request.headers)?,
        kind: input.checksum_type,
    };
    let (key, upload_id) = (input.key, input.upload_id);
    let record = blocking(move || {
        if let Some(upload) = bucket.upload(&key, &upload_id) {
            let published = upload.complete(bucket.blobs(), |parts| {
                let record = assemble(&upload.record, parts, &asked)?;
                let held = bucket.blobs().hold(&record.pieces).ok_or_else(|| {
                    s3_error!(InternalError, "The store has lost track of a part.")
                })?;
                bucket.publish(record.clone(), held, &asked.condition)?;
                Ok(record)
            })?;
            if let Some(record) = published {
                bucket.uploads_mut().remove(&(key, upload_id));
                return Ok((bucket, record));
            }
        }
        let record = completed_before(&bucket, &key, &upload_id)?;
        Ok((bucket, record))
    });
    let (bucket, record) = record.await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", bucket.name, url_encoded(&record.key))),
        bucket: Some(bucket.name.clone()),
        key: Some(record.key),
        e_tag: Some(ETag::Strong(record.etag)),
        checksum_type: Some(ChecksumType::from_static(record.checksum.kind.name())),
        ..Default::default()
    };
    set_checksum!(output, record.checksum.algorithm, record.checksum.value);
    Ok(S3Response::new(output))
}

/// A client that lost the answer asks again. AWS answers the same for a while; here it is for as long as
/// the object is there.
fn completed_before(bucket: &Bucket, key: &str, upload_id: &str) -> S3Result<ObjectRecord> {
    let record = bucket.read(key).map_err(failed)?;
    let record = record
        .filter(|record| record.upload_id.as_deref() == Some(upload_id))
        .ok_or_else(no_such_upload)?;
    // The first answer may have been lost because this failed.
    bucket
        .record_path(key)
        .parent()
        .map_or(Ok(()), |folder: &Path| durable::sync_folder(folder))
        .map_err(failed)?;
    Ok(record)
}

fn assemble(upload: &UploadRecord, parts: &Parts, asked: &Asked) -> S3Result<ObjectRecord> {
    let chosen = choose(upload, parts, &asked.parts)?;
    let size = chosen.iter().map(|part| part.size).sum();
    if let Some(given) = asked.size
        && u64::try_from(given).ok() != Some(size)
    {
        return Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value {given} does not match what was computed: {size}"
        ));
    }
    let sized: Vec<(&str, u64)> =
        chosen.iter().map(|part| (part.crc64nvme.as_str(), part.size)).collect();
    let crc64nvme = Algorithm::Crc64Nvme
        .combine(&sized)
        .ok_or_else(|| s3_error!(InternalError, "The store has lost track of a part."))?;
    let checksum = whole_checksum(upload, &chosen, &crc64nvme)?;
    check_claims(asked, &checksum)?;
    let pieces: Vec<Piece> = chosen.iter().flat_map(|part| part.pieces.iter().cloned()).collect();
    if pieces.len() > MAX_PIECES {
        return Err(s3_error!(
            InvalidRequest,
            "The object would be made of more than {MAX_PIECES} pieces."
        ));
    }
    Ok(ObjectRecord {
        key: upload.key.clone(),
        size,
        etag: multipart_etag(chosen.iter().map(|part| part.etag.as_str())),
        checksum,
        crc64nvme,
        modified: Seconds::now(),
        headers: upload.headers.clone(),
        upload_id: Some(upload.upload_id.clone()),
        pieces,
    })
}

/// The parts that the request lists, in its order.
fn choose<'a>(
    upload: &UploadRecord,
    parts: &'a Parts,
    listed: &[CompletedPart],
) -> S3Result<Vec<&'a PartRecord>> {
    if listed.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    let mut chosen: Vec<&PartRecord> = Vec::with_capacity(listed.len());
    for named in listed {
        let number = named
            .part_number
            .ok_or_else(|| s3_error!(MalformedXML, "Every part needs its PartNumber"))?;
        if chosen.last().is_some_and(|before| i32::from(before.number) >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        let part = u16::try_from(number)
            .ok()
            .and_then(|number| parts.get(&number))
            .ok_or_else(invalid_part)?;
        if named.e_tag.as_ref().is_none_or(|etag| etag.value() != part.etag) {
            return Err(invalid_part());
        }
        let mut has_declared = false;
        for (algorithm, value) in checksums_of(named) {
            if part.checksum(algorithm) != Some(value) {
                return Err(invalid_part());
            }
            has_declared |= upload.declared.is_some_and(|(declared, _)| declared == algorithm);
        }
        if let Some((algorithm, Kind::Composite)) = upload.declared
            && !has_declared
        {
            return Err(s3_error!(
                InvalidRequest,
                "The upload was created using a {} checksum. The complete request must include the \
                 checksum for each part. It was missing for part {number} in the request.",
                algorithm.name().to_lowercase()
            ));
        }
        chosen.push(part);
    }
    if chosen.iter().rev().skip(1).any(|part| part.size < MIN_PART) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok(chosen)
}

fn checksums_of(part: &CompletedPart) -> impl Iterator<Item = (Algorithm, &str)> {
    [
        (Algorithm::Crc32, &part.checksum_crc32),
        (Algorithm::Crc32c, &part.checksum_crc32c),
        (Algorithm::Crc64Nvme, &part.checksum_crc64nvme),
        (Algorithm::Sha1, &part.checksum_sha1),
        (Algorithm::Sha256, &part.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| Some((algorithm, value.as_deref()?)))
}

/// What S3 will show as the object's checksum: as declared, else CRC64NVME of the whole.
fn whole_checksum(
    upload: &UploadRecord,
    parts: &[&PartRecord],
    crc64nvme: &str,
) -> S3Result<Checksum> {
    let (algorithm, kind) = upload.declared.unwrap_or((Algorithm::Crc64Nvme, Kind::FullObject));
    let value = match kind {
        Kind::FullObject if algorithm == Algorithm::Crc64Nvme => Some(crc64nvme.to_owned()),
        Kind::FullObject => {
            let sized: Option<Vec<(&str, u64)>> =
                parts.iter().map(|part| Some((part.checksum(algorithm)?, part.size))).collect();
            sized.and_then(|sized| algorithm.combine(&sized))
        }
        Kind::Composite => {
            let values: Option<Vec<&str>> =
                parts.iter().map(|part| part.checksum(algorithm)).collect();
            values.and_then(|values| algorithm.compose(&values))
        }
    };
    let value = value.ok_or_else(|| s3_error!(InternalError, "A part's checksum is missing."))?;
    Ok(Checksum { algorithm, kind, value })
}

fn check_claims(asked: &Asked, checksum: &Checksum) -> S3Result<()> {
    if asked.kind.as_ref().is_some_and(|kind| kind.as_str() != checksum.kind.name()) {
        return Err(s3_error!(
            InvalidRequest,
            "The x-amz-checksum-type value does not match the {} type the upload was created with.",
            checksum.kind.name()
        ));
    }
    let Some((algorithm, value)) = &asked.checksum else { return Ok(()) };
    if *algorithm != checksum.algorithm {
        return Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            checksum.algorithm.name().to_lowercase(),
            algorithm.name().to_lowercase()
        ));
    }
    let without_count = checksum.value.split('-').next();
    if *value != checksum.value && Some(value.as_str()) != without_count {
        return Err(bad_checksum(*algorithm));
    }
    Ok(())
}

fn invalid_part() -> S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag."
    )
}
