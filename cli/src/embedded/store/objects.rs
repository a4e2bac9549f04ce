//! Objects as clients see them: put, head, get, delete and list.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use hyper::body::Bytes;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::blobs::{Held, PieceReader, cut};
use super::bucket::Bucket;
use super::conditions::{ReadConditions, not_modified, write_condition};
use super::digest::{Algorithm, Checksum, Kind};
use super::failure::{blocking, failed, no_such_key};
use super::receive::{Claims, receive};
use super::record::{Headers, ObjectRecord, Seconds};

/// What a GET reads from disk in one go.
const READ_BLOCK: usize = 512 * 1024;
/// User metadata's names and values together, as on AWS.
const MAX_METADATA: usize = 2048;

/// Sets the one checksum field that is an algorithm's, in any of the protocol's structs.
macro_rules! set_checksum {
    ($target:expr, $algorithm:expr, $value:expr) => {
        match $algorithm {
            Algorithm::Crc32 => $target.checksum_crc32 = Some($value),
            Algorithm::Crc32c => $target.checksum_crc32c = Some($value),
            Algorithm::Crc64Nvme => $target.checksum_crc64nvme = Some($value),
            Algorithm::Sha1 => $target.checksum_sha1 = Some($value),
            Algorithm::Sha256 => $target.checksum_sha256 = Some($value),
        }
    };
}
pub(super) use set_checksum;

/// The headers to keep, out of any input that has them.
macro_rules! headers_of {
    ($input:expr) => {
        $crate::embedded::store::record::Headers {
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            tagging: $input.tagging.take(),
            metadata: $crate::embedded::store::objects::user_metadata($input.metadata.take())?,
        }
    };
}
pub(super) use headers_of;

/// What HEAD and GET both say about an object.
macro_rules! describe {
    ($output:ident, $record:expr, $checksum:expr) => {{
        let record: &ObjectRecord = $record;
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: record.headers.cache_control.clone(),
            content_disposition: record.headers.content_disposition.clone(),
            content_encoding: record.headers.content_encoding.clone(),
            content_language: record.headers.content_language.clone(),
            content_type: Some(content_type(&record.headers)),
            e_tag: Some(ETag::Strong(record.etag.clone())),
            expires: record.headers.expires.clone(),
            last_modified: Some(record.modified.into()),
            metadata: Some(record.headers.metadata.clone().into_iter().collect()),
            ..Default::default()
        };
        if $checksum {
            let Checksum { algorithm, kind, value } = record.checksum.clone();
            set_checksum!(output, algorithm, value);
            output.checksum_type = Some(ChecksumType::from_static(kind.name()));
        }
        output
    }};
}

pub async fn put(
    bucket: Arc<Bucket>,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let trailers = request.trailing_headers.take();
    let input = &mut request.input;
    let claims = Claims::read(&request.headers, input.content_length, trailers)?;
    let condition = write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let headers = headers_of!(input);
    let key = input.key.clone();
    let algorithm = claims.algorithm().unwrap_or(Algorithm::Crc64Nvme);
    let arrived = receive(bucket.blobs(), input.body.take(), claims, []).await?;
    let record = blocking(move || {
        let received = arrived.finish()?;
        let value = received.digests.get(algorithm).unwrap_or_default().to_owned();
        let record = ObjectRecord {
            key,
            size: received.size,
            etag: received.digests.etag(),
            checksum: Checksum { algorithm, kind: Kind::FullObject, value },
            crc64nvme: received.digests.crc64nvme(),
            modified: Seconds::now(),
            headers,
            upload_id: None,
            pieces: received.pieces,
        };
        bucket.publish(record.clone(), received.held, &condition)?;
        Ok(record)
    })
    .await?;
    let mut output = PutObjectOutput {
        e_tag: Some(ETag::Strong(record.etag)),
        checksum_type: Some(ChecksumType::from_static(record.checksum.kind.name())),
        ..Default::default()
    };
    set_checksum!(output, record.checksum.algorithm, record.checksum.value);
    Ok(S3Response::new(output))
}

pub async fn head(
    bucket: Arc<Bucket>,
    input: HeadObjectInput,
) -> S3Result<S3Response<HeadObjectOutput>> {
    refuse_versions(input.version_id.as_deref(), input.part_number)?;
    let key = input.key.clone();
    let record =
        blocking(move || bucket.read(&key).map_err(failed)?.ok_or_else(no_such_key)).await?;
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&record, not_modified)?;
    let (range, content_range) = chosen_range(input.range, record.size)?;
    let whole = content_range.is_none();
    let checksum = whole && wants_checksum(input.checksum_mode.as_ref());
    let mut output = describe!(HeadObjectOutput, &record, checksum);
    output.content_length = i64::try_from(range.end - range.start).ok();
    output.content_range = content_range;
    // The protocol layer gives a GET its overrides, and leaves a HEAD's to us.
    output.content_type = input.response_content_type.or(output.content_type);
    output.content_disposition = input.response_content_disposition.or(output.content_disposition);
    output.content_encoding = input.response_content_encoding.or(output.content_encoding);
    output.content_language = input.response_content_language.or(output.content_language);
    output.cache_control = input.response_cache_control.or(output.cache_control);
    output.expires = input.response_expires.or(output.expires);
    Ok(if whole {
        S3Response::new(output)
    } else {
        S3Response::with_status(output, hyper::StatusCode::PARTIAL_CONTENT)
    })
}

pub async fn get(
    bucket: Arc<Bucket>,
    input: GetObjectInput,
) -> S3Result<S3Response<GetObjectOutput>> {
    refuse_versions(input.version_id.as_deref(), input.part_number)?;
    let Opened { record, range, content_range, checksum, body } =
        blocking(move || open(&bucket, input)).await?;
    let mut output = describe!(GetObjectOutput, &record, checksum);
    output.content_length = i64::try_from(range.end - range.start).ok();
    output.content_range = content_range;
    output.tag_count = record
        .headers
        .tagging
        .as_ref()
        .and_then(|tags| i32::try_from(tags.split('&').count()).ok());
    output.body = Some(body.stream());
    Ok(S3Response::new(output))
}

/// An object that is to be sent.
struct Opened {
    record: ObjectRecord,
    range: std::ops::Range<u64>,
    content_range: Option<String>,
    /// The checksum is that of what is sent, and was asked for.
    checksum: bool,
    body: Body,
}

/// Looks the object up and reads its first block in one go: of a small object that is all, and each time that work
/// is handed to another thread costs as much as reading it. Blocks.
fn open(bucket: &Bucket, input: GetObjectInput) -> S3Result<Opened> {
    let (record, held) = bucket.open(&input.key)?;
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&record, not_modified)?;
    let (range, content_range) = chosen_range(input.range, record.size)?;
    let checksum = content_range.is_none() && wants_checksum(input.checksum_mode.as_ref());
    let mut rest = PieceReader::new(cut(&record.pieces, range.clone()), held);
    let first = rest.read_block(READ_BLOCK).map_err(failed)?;
    let left = range.end - range.start - first.len() as u64;
    let body = Body { first, rest: (left > 0).then_some(rest) };
    Ok(Opened { record, range, content_range, checksum, body })
}

pub async fn delete(
    bucket: Arc<Bucket>,
    input: DeleteObjectInput,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    refuse_versions(input.version_id.as_deref(), None)?;
    let condition = write_condition(input.if_match.as_ref(), None)?;
    blocking(move || {
        let removed = bucket.remove(&input.key, &condition)?;
        bucket.finish_removals(vec![removed]).map_err(failed)
    })
    .await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub async fn delete_many(
    bucket: Arc<Bucket>,
    input: DeleteObjectsInput,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let quiet = input.delete.quiet.unwrap_or(false);
    if input.delete.objects.is_empty() || input.delete.objects.len() > 1000 {
        return Err(s3_error!(MalformedXML, "A request names 1 to 1,000 keys."));
    }
    blocking(move || {
        let mut removed = Vec::new();
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let condition = write_condition(object.e_tag.map(ETagCondition::ETag).as_ref(), None)?;
            let outcome = refuse_versions(object.version_id.as_deref(), None)
                .and_then(|()| bucket.remove(&object.key, &condition));
            match outcome {
                Ok(one) => {
                    removed.push(one);
                    deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
                }
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(object.key),
                    ..Default::default()
                }),
            }
        }
        bucket.finish_removals(removed).map_err(failed)?;
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        }))
    })
    .await
}

/// What a GET sends: the first block, and who reads the others.
struct Body {
    first: Vec<u8>,
    rest: Option<PieceReader>,
}

impl Body {
    /// Reads ahead of the client by one block.
    fn stream(self) -> StreamingBlob {
        let read = |mut reader: PieceReader| {
            tokio::task::spawn_blocking(move || {
                let block = reader.read_block(READ_BLOCK)?;
                Ok::<_, std::io::Error>((block, reader))
            })
        };
        let first = stream::once(std::future::ready(Ok(Bytes::from(self.first))));
        let Some(rest) = self.rest else { return StreamingBlob::wrap(first) };
        let rest = stream::try_unfold(read(rest), move |reading| async move {
            let (block, reader) = reading.await.map_err(std::io::Error::other)??;
            if block.is_empty() {
                return Ok::<_, std::io::Error>(None);
            }
            Ok(Some((Bytes::from(block), read(reader))))
        });
        StreamingBlob::wrap(first.chain(rest))
    }
}

/// Reads held bytes from start to end, for a digest of them. Blocks.
pub fn read_all(
    record: &ObjectRecord,
    range: std::ops::Range<u64>,
    held: Held,
    mut each: impl FnMut(&[u8]),
) -> S3Result<()> {
    let mut reader = PieceReader::new(cut(&record.pieces, range), held);
    loop {
        let block = reader.read_block(READ_BLOCK).map_err(failed)?;
        if block.is_empty() {
            return Ok(());
        }
        each(&block);
    }
}

fn chosen_range(
    range: Option<Range>,
    size: u64,
) -> S3Result<(std::ops::Range<u64>, Option<String>)> {
    let Some(range) = range else { return Ok((0..size, None)) };
    let chosen = range.check(size).ok().filter(|chosen| !chosen.is_empty());
    let chosen =
        chosen.ok_or_else(|| s3_error!(InvalidRange, "The requested range is not satisfiable"))?;
    let header = format!("bytes {}-{}/{size}", chosen.start, chosen.end - 1);
    Ok((chosen, Some(header)))
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn content_type(headers: &Headers) -> String {
    headers.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())
}

fn refuse_versions(version: Option<&str>, part: Option<i32>) -> S3Result<()> {
    if version.is_some_and(|version| version != "null") {
        return Err(s3_error!(InvalidArgument, "Invalid version id specified"));
    }
    if part.is_some() {
        return Err(s3_error!(NotImplemented, "An object cannot be read by part number here."));
    }
    Ok(())
}

pub fn user_metadata(given: Option<Metadata>) -> S3Result<BTreeMap<String, String>> {
    let metadata: BTreeMap<String, String> = given.into_iter().flatten().collect();
    if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(metadata)
}
