//! A body on its way in: read, hashed and written block by block, and compared with what the client
//! claims about it before anything refers to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use hyper::HeaderMap;
use hyper::body::Bytes;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};

use super::blobs::{BlobWriter, Blobs, Held, Piece};
use super::digest::{Algorithm, Digester, Digests};
use super::failure::failed;

/// What is hashed and written in one go, away from the reactor.
const BLOCK: usize = 512 * 1024;
/// A body that stands still for so long is given up, as AWS does.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// The largest body of one PUT.
const MAX_BODY: u64 = 5 * 1024 * 1024 * 1024;

/// What the client says about the body it sends.
pub struct Claims {
    length: u64,
    md5: Option<[u8; 16]>,
    checksum: Option<(Algorithm, Claimed)>,
}

enum Claimed {
    Value(String),
    /// Sent behind the body.
    InTrailer(Option<TrailingHeaders>),
}

impl Claims {
    pub fn read(
        headers: &HeaderMap,
        length: Option<i64>,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Claims> {
        let length = length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| {
            s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header.")
        })?;
        if length > MAX_BODY {
            return Err(s3_error!(
                EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size"
            ));
        }
        let md5 = match text(headers, "content-md5") {
            Some(value) => Some(
                STANDARD
                    .decode(value)
                    .ok()
                    .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
                    .ok_or_else(|| {
                        s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid.")
                    })?,
            ),
            None => None,
        };
        let checksum = match claimed_checksum(headers)? {
            Some((algorithm, value)) => Some((algorithm, Claimed::Value(value))),
            None => match text(headers, "x-amz-trailer") {
                Some(name) => known_checksum(&name.to_ascii_lowercase())?
                    .map(|algorithm| (algorithm, Claimed::InTrailer(trailers))),
                None => None,
            },
        };
        if checksum.is_none() && headers.contains_key("x-amz-sdk-checksum-algorithm") {
            return Err(s3_error!(
                InvalidRequest,
                "x-amz-sdk-checksum-algorithm specified, but no corresponding \
                  x-amz-checksum-* or x-amz-trailer headers were found."
            ));
        }
        Ok(Claims { length, md5, checksum })
    }

    pub fn algorithm(&self) -> Option<Algorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    fn check(&self, digests: &Digests) -> S3Result<()> {
        if self.md5.is_some_and(|md5| md5 != digests.md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let Some((algorithm, claimed)) = &self.checksum else { return Ok(()) };
        let value = match claimed {
            Claimed::Value(value) => Some(value.clone()),
            Claimed::InTrailer(trailers) => trailers
                .as_ref()
                .and_then(|t| t.read(|trailers| text(trailers, algorithm.header())))
                .flatten(),
        };
        let value =
            value.ok_or_else(|| s3_error!(InvalidRequest, "The checksum's trailer is missing."))?;
        if !algorithm.is_value(&value) {
            return Err(not_a_checksum(*algorithm));
        }
        if digests.get(*algorithm) != Some(value.as_str()) {
            return Err(bad_checksum(*algorithm));
        }
        Ok(())
    }
}

/// The one checksum that a request's headers may give.
pub fn claimed_checksum(headers: &HeaderMap) -> S3Result<Option<(Algorithm, String)>> {
    let mut claimed = None;
    for name in headers.keys() {
        let Some(algorithm) = known_checksum(name.as_str())? else { continue };
        if claimed.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        claimed = Some((algorithm, text(headers, name.as_str()).unwrap_or_default()));
    }
    Ok(claimed)
}

/// The algorithm whose value a header carries, if it carries one. To pass over a checksum that is not
/// known here would be to say that it was compared.
fn known_checksum(header: &str) -> S3Result<Option<Algorithm>> {
    let about_it = ["x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"];
    if !header.starts_with("x-amz-checksum-") || about_it.contains(&header) {
        return Ok(None);
    }
    let known = Algorithm::ALL.into_iter().find(|one| one.header() == header);
    known.map(Some).ok_or_else(|| s3_error!(NotImplemented, "{header} is not implemented."))
}

pub fn bad_checksum(algorithm: Algorithm) -> S3Error {
    s3_error!(
        BadDigest,
        "The {} you specified did not match the calculated checksum.",
        algorithm.name()
    )
}

pub fn not_a_checksum(algorithm: Algorithm) -> S3Error {
    s3_error!(InvalidRequest, "Value for {} header is invalid.", algorithm.header())
}

/// A body that has arrived in full, and is not yet durable. Dropped, it leaves nothing.
pub struct Arrived {
    writing: Writing,
    claims: Claims,
}

/// A body that is durable and is what the client says it is.
pub struct Received {
    pub size: u64,
    pub digests: Digests,
    pub pieces: Vec<Piece>,
    pub held: Held,
}

struct Writing {
    blobs: Arc<Blobs>,
    digester: Digester,
    /// None as long as there are no bytes: an empty body needs no file.
    file: Option<BlobWriter>,
    size: u64,
}

/// Reads a body. The next block is read while the one before is hashed and written.
pub async fn receive(
    blobs: &Arc<Blobs>,
    body: Option<StreamingBlob>,
    claims: Claims,
    asked: impl IntoIterator<Item = Algorithm>,
) -> S3Result<Arrived> {
    blobs.check_room(claims.length).map_err(failed)?;
    let digester = Digester::new(claims.algorithm().into_iter().chain(asked));
    let mut writing = Writing { blobs: blobs.clone(), digester, file: None, size: 0 };
    if let Some(mut body) = body {
        let mut block = next_block(&mut body).await?;
        while !block.is_empty() {
            let (written, next) = tokio::join!(
                tokio::task::spawn_blocking(move || writing.write(&block)),
                next_block(&mut body)
            );
            writing = written.map_err(S3Error::internal_error)?.map_err(failed)?;
            block = next?;
        }
    }
    if writing.size != claims.length {
        return Err(incomplete());
    }
    Ok(Arrived { writing, claims })
}

impl Arrived {
    /// Compares the body with the claims, and only then makes it durable. Blocks.
    pub fn finish(self) -> S3Result<Received> {
        let digests = self.writing.digester.finish();
        self.claims.check(&digests)?;
        let (pieces, held) = match self.writing.file {
            Some(file) => {
                let (piece, held) = file.finish().map_err(failed)?;
                (vec![piece], held)
            }
            None => (Vec::new(), self.writing.blobs.take_over(&[])),
        };
        Ok(Received { size: self.writing.size, digests, pieces, held })
    }
}

impl Writing {
    fn write(mut self, block: &[Bytes]) -> io::Result<Writing> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => BlobWriter::create(&self.blobs)?,
        };
        for bytes in block {
            self.digester.update(bytes);
            file.write(bytes)?;
            self.size += bytes.len() as u64;
        }
        self.file = Some(file);
        Ok(self)
    }
}

/// At least `BLOCK` bytes, unless the body ends before; nothing at its end.
async fn next_block(body: &mut StreamingBlob) -> S3Result<Vec<Bytes>> {
    let mut block = Vec::new();
    let mut size = 0;
    while size < BLOCK {
        let next = tokio::time::timeout(STALLED_AFTER, body.next()).await.map_err(|_| {
            s3_error!(
                RequestTimeout,
                "Your socket connection to the server was not read from or written to in time."
            )
        })?;
        match next {
            Some(Ok(bytes)) if bytes.is_empty() => {}
            Some(Ok(bytes)) => {
                size += bytes.len();
                block.push(bytes);
            }
            Some(Err(error)) => return Err(broken_body(error)),
            None => break,
        }
    }
    Ok(block)
}

/// The protocol layer checks signed bodies while they are read, and its error types are its own: only
/// their texts tell them apart.
fn broken_body(error: StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let code =
            S3ErrorCode::from_bytes(b"XAmzContentSHA256Mismatch").unwrap_or(S3ErrorCode::BadDigest);
        let mut mismatch = S3Error::with_message(
            code,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
        mismatch.set_status_code(hyper::StatusCode::BAD_REQUEST);
        return mismatch;
    }
    if text.contains("SignatureMismatch") {
        return s3_error!(
            SignatureDoesNotMatch,
            "A chunk's signature does not match what was calculated."
        );
    }
    incomplete()
}

fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
