//! The bucket: whether it is reached, whether each call of UpFlow is allowed, what the server enforces, and its
//! lifecycle rules.

use upflow_core::checksum::Algorithm;
use upflow_core::db::now;
use upflow_core::storage::{Copied, ErrorKind, Lifecycle, StorageError, Trial};

use super::{Check, Patient, Report, Verdict, pages};

/// Whether the bucket can be used at all; each thing that may be in the way is a check of its own.
pub async fn reached(patient: &Patient, report: &mut Report) -> bool {
    pages::endpoint(patient, report).await;
    let settings = &patient.settings.storage;
    let region = &settings.region;
    let probed = patient.storage.probe().await;
    let credentials = patient.storage.credentials_end(now()).await;
    let credentials = match (&probed, credentials) {
        (_, Err(error)) => Check::failed("credentials", error.to_string(), CREDENTIALS),
        (Err(error), _) if is_stranger(error) => {
            Check::failed("credentials", error.to_string(), CREDENTIALS)
        }
        (_, Ok(Some(end))) => Check::ok(
            "credentials",
            format!("temporary, good until {end}: presigned URLs end then"),
        ),
        (_, Ok(None)) => Check::ok("credentials", "found, and without an end"),
    };
    let known = credentials.verdict == Verdict::Ok;
    report.tell(credentials);
    let Err(error) = probed else {
        report.tell(Check::ok("region", format!("{region} is taken")));
        report.tell(Check::ok("bucket", format!("{} is there", settings.bucket)));
        return true;
    };
    if !known {
        return false;
    }
    match error.code() {
        Some("RequestTimeTooSkewed") => {
            report.tell(Check::failed("signatures", error.to_string(), CLOCK));
            return false;
        }
        Some(
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "IllegalLocationConstraintException",
        ) => {
            let remedy = format!("set AWS_REGION to the bucket's region; it is {region} now");
            report.tell(Check::failed("region", error.to_string(), remedy));
            return false;
        }
        _ => {}
    }
    match error.kind {
        ErrorKind::NotFound => {
            let found = format!("there is no bucket {}", settings.bucket);
            let remedy = "create it, or set AWS_S3_BUCKET to the one that is meant";
            report.tell(Check::failed("bucket", found, remedy));
            false
        }
        // It is there, and must not be listed: the call itself says so below.
        ErrorKind::Denied => {
            report.tell(Check::ok("bucket", format!("{} answers", settings.bucket)));
            true
        }
        _ => {
            let remedy = "check S3_ENDPOINT_URL and the way to it";
            report.tell(Check::failed("bucket", error.to_string(), remedy));
            false
        }
    }
}

const CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a pair that this storage knows, or neither for the default chain";
pub const CLOCK: &str =
    "set this machine's clock by NTP: S3 takes no signature that is off by 15 minutes";

/// S3 does not know who asks. What it knows and does not allow is AccessDenied.
fn is_stranger(error: &StorageError) -> bool {
    let codes = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "TokenRefreshRequired",
    ];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Every call on one object, in the order in which they need one another.
pub async fn calls(patient: &Patient, report: &mut Report) {
    let trial = patient.storage.trial();
    if let Err(error) = trial.put().await {
        report.tell(denied("put", &error, "s3:PutObject"));
        report.tell(Check::skipped("head, get, copy", "nothing could be put"));
        return;
    }
    report.tell(Check::ok("put", "an object can be put below the prefix"));
    let etag = match trial.head().await {
        Ok(Some(head)) if head.size == trial.bytes().len() as i64 => {
            report.tell(Check::ok("head", "it is there, with its size"));
            Some(head.etag)
        }
        Ok(_) => {
            let remedy = "this storage is not consistent: UpFlow needs to read what was written";
            report.tell(Check::failed("head", "it is not there, or not whole", remedy));
            None
        }
        Err(error) => {
            report.tell(denied("head", &error, "s3:GetObject"));
            None
        }
    };
    if let Some(etag) = etag {
        reads(&trial, &etag, report).await;
        copies(&trial, &etag, report).await;
    }
    report.tell(match trial.list().await {
        Ok(true) => Check::ok("list", "it is in the listing"),
        Ok(false) => Check::failed(
            "list",
            "it is not in the listing",
            "this storage is not consistent: UpFlow finds lost chunks by listing",
        ),
        Err(error) => denied("list", &error, "s3:ListBucket on the bucket"),
    });
    report.tell(match trial.delete().await {
        Ok(true) => Check::ok("delete", "it is deleted"),
        Ok(false) => Check::failed(
            "delete",
            "it is still there",
            "allow deleting below the prefix: chunks are deleted once their file is complete",
        ),
        Err(error) => denied("delete", &error, "s3:DeleteObject"),
    });
}

async fn reads(trial: &Trial<'_>, etag: &str, report: &mut Report) {
    match trial.get(etag).await {
        Ok((true, looked_at)) => {
            report.tell(Check::ok("get", "what is read is what was put"));
            report.tell(if_match("if-match", looked_at));
        }
        Ok((false, _)) => {
            let remedy = "do not use this storage: it changes what is put";
            report.tell(Check::failed("get", "what is read is not what was put", remedy));
        }
        Err(error) => report.tell(denied("get", &error, "s3:GetObject")),
    }
}

async fn copies(trial: &Trial<'_>, etag: &str, report: &mut Report) {
    match trial.copy(etag).await {
        Ok(Copied { full_object, pins }) => {
            report.tell(Check::ok(
                "multipart copy",
                "an object is copied into a part, and completed",
            ));
            report.tell(if_match("copy if-match", pins));
            report.tell(if full_object {
                Check::ok("full object", "the checksum of the whole object is kept (FULL_OBJECT)")
            } else {
                Check::warning("full object", "no checksum of the whole object is kept", WEAKER)
            });
        }
        Err(error) => {
            let needs =
                "s3:PutObject, s3:GetObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts";
            report.tell(denied("multipart copy", &error, needs));
        }
    }
}

const WEAKER: &str =
    "nothing is to be done: uploads are called client_checksums instead of storage_verified";

fn if_match(name: &'static str, looked_at: bool) -> Check {
    if looked_at {
        Check::ok(name, "another ETag is refused")
    } else {
        let remedy = "nothing is to be done: UpFlow looks at each chunk by HEAD as well";
        Check::warning(name, "it is ignored", remedy)
    }
}

fn denied(name: &'static str, error: &StorageError, needs: &str) -> Check {
    let remedy = match error.kind {
        ErrorKind::Denied => format!("allow {needs}"),
        ErrorKind::NotImplemented => "use a storage that knows this call".to_owned(),
        _ => "see what the storage's own log says of this call".to_owned(),
    };
    Check::failed(name, error.to_string(), remedy)
}

/// What the integrity level of uploads rests on: the same trial as the worker's.
pub async fn integrity(patient: &Patient, report: &mut Report) {
    for (name, algorithm) in [("crc64nvme", Algorithm::Crc64Nvme), ("crc32c", Algorithm::Crc32c)] {
        report.tell(match patient.storage.abilities(algorithm).await {
            Ok(found) => match (found.refuses_wrong_chunks, found.refuses_wrong_files) {
                (true, true) => {
                    Check::ok(name, "wrong chunks and wrong files are refused: storage_verified")
                }
                (true, false) => Check::warning(name, "wrong files are not refused", WEAKER),
                (false, true) => Check::warning(name, "wrong chunks are not refused", WEAKER),
                (false, false) => Check::warning(name, "nothing is refused", WEAKER),
            },
            Err(error) => Check::failed(name, error.to_string(), "see the calls above"),
        });
    }
}

/// The rules by which the bucket itself removes what nobody knows any more.
pub async fn lifecycle(patient: &Patient, fix: bool) -> Check {
    let life = patient.settings.limits.upload_life;
    let check = judged(patient, patient.storage.lifecycle().await);
    if !fix || check.verdict != Verdict::Warning {
        return check;
    }
    patient.show("lifecycle rules that will be added:");
    for rule in patient.storage.lifecycle_in_words(life) {
        patient.show(&format!("  {rule}"));
    }
    match patient.storage.set_lifecycle(life).await {
        Ok(()) => judged(patient, patient.storage.lifecycle().await),
        Err(error) => denied("lifecycle", &error, "s3:PutLifecycleConfiguration on the bucket"),
    }
}

fn judged(patient: &Patient, found: Result<Option<Lifecycle>, StorageError>) -> Check {
    const NAME: &str = "lifecycle";
    let fix = "`upflow doctor --fix` adds it";
    let tagged = patient.storage.has_chunk_tag();
    match found {
        Err(error) if error.kind == ErrorKind::NotImplemented => {
            Check::skipped(NAME, "this storage knows no lifecycle rules")
        }
        Err(error) => denied(NAME, &error, "s3:GetLifecycleConfiguration on the bucket"),
        Ok(Some(Lifecycle { aborts_after: Some(days), .. })) if !tagged => Check::ok(
            NAME,
            format!(
                "multipart uploads are aborted after {days} days; chunks are not expired, since S3_CHUNK_TAG is not set"
            ),
        ),
        Ok(Some(Lifecycle { aborts_after: Some(days), expires_after: Some(chunks) })) => Check::ok(
            NAME,
            format!(
                "multipart uploads are aborted after {days} days, chunks deleted after {chunks}"
            ),
        ),
        Ok(Some(Lifecycle { aborts_after: Some(_), expires_after: None })) => {
            Check::warning(NAME, "no rule deletes chunks that a lost database has forgotten", fix)
        }
        Ok(_) => Check::warning(NAME, "no rule aborts multipart uploads that nobody ends", fix),
    }
}
