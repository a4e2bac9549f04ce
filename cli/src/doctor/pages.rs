//! What clients see of the bucket: its public address, presigned URLs, and whether pages may use them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, Response};
use upflow_core::db::now;
use upflow_core::storage::Presigned;

use super::bucket::CLOCK;
use super::{Check, Patient, Report, Verdict};

/// A minute off, and somebody should look; a quarter of an hour, and S3 refuses signatures.
const SKEW: TimeDelta = TimeDelta::seconds(60);
const REFUSED_SKEW: TimeDelta = TimeDelta::seconds(900);
const HEADERS: &str = "content-type,x-amz-checksum-crc64nvme";

/// The client that stands for a browser.
pub fn http(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    // An error means that somebody was faster, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()
}

/// Whether the storage answers at all, and this machine's clock by its own, from the `Date` of any answer.
pub async fn endpoint(patient: &Patient, report: &mut Report) {
    let endpoint = match &patient.settings.storage.endpoint {
        Some(endpoint) => endpoint.as_str().trim_end_matches('/').to_owned(),
        None => patient.storage.public_origin(),
    };
    let answer = match patient.http.get(&endpoint).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let remedy = "check S3_ENDPOINT_URL, and that this machine reaches it";
            report.tell(Check::failed("endpoint", told(&error, &endpoint), remedy));
            report.tell(Check::skipped("clock", "the storage does not answer"));
            return;
        }
    };
    report.tell(Check::ok("endpoint", format!("{endpoint} answers")));
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    report.tell(match date {
        Some(date) => judged(Utc::now() - date.with_timezone(&Utc)),
        None => Check::new("clock", Verdict::Skipped, "the storage does not say its time", CLOCK),
    });
}

fn judged(ahead: TimeDelta) -> Check {
    const NAME: &str = "clock";
    let (seconds, off) = (ahead.num_seconds().abs(), ahead.abs());
    let way = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
    let found = format!("{seconds} s {way} the storage's");
    if off >= REFUSED_SKEW {
        Check::failed(NAME, found, CLOCK)
    } else if off > SKEW {
        Check::warning(NAME, found, CLOCK)
    } else {
        Check::ok(NAME, "agrees with the storage's within a minute")
    }
}

/// What a client does with a presigned URL, and what it must not be able to do.
pub async fn clients(patient: &Patient, report: &mut Report) {
    let address = patient.storage.public_origin();
    let trial = patient.storage.trial();
    let presigned = match trial.presigned(now()).await {
        Ok(presigned) => presigned,
        Err(error) => {
            let remedy = "see the credentials above";
            report.tell(Check::failed("presigned put", error.to_string(), remedy));
            return;
        }
    };
    let origin = patient.origins.first().map(String::as_str);
    let answer = put(patient, &presigned, origin, trial.bytes().to_vec()).await;
    report.tell(match &answer {
        Ok(_) => Check::ok("public endpoint", format!("{address} answers")),
        Err(error) => {
            let remedy =
                "set S3_PUBLIC_ENDPOINT_URL to the address by which clients reach the storage";
            Check::failed("public endpoint", told(error, &address), remedy)
        }
    });
    let Ok(answer) = answer else {
        report.tell(Check::skipped("presigned put", "the public endpoint does not answer"));
        return;
    };
    let put_it = answer.status().is_success();
    report.tell(if put_it {
        Check::ok("presigned put", "a chunk is taken as a browser sends it")
    } else {
        let said = said(answer).await;
        let remedy = "set S3_PUBLIC_ENDPOINT_URL to exactly the address that clients use, port included: a proxy that changes Host breaks signatures";
        Check::failed("presigned put", said, remedy)
    });
    if put_it {
        report.tell(length(patient).await);
    }
    // What was put is deleted; an error would have shown above.
    let _ = trial.delete().await;
}

/// A URL is for a number of bytes: with more of them anybody could fill the bucket.
async fn length(patient: &Patient) -> Check {
    const NAME: &str = "content length";
    let trial = patient.storage.trial();
    let Ok(presigned) = trial.presigned(now()).await else {
        return Check::skipped(NAME, "no URL could be signed");
    };
    let mut longer = trial.bytes().to_vec();
    longer.push(0);
    let taken = match put(patient, &presigned, None, longer).await {
        Ok(answer) => answer.status().is_success(),
        // The connection was cut: refused too.
        Err(_) => false,
    };
    let _ = trial.delete().await;
    if taken {
        let remedy = "use a storage that checks signed headers: UpFlow refuses such a chunk at its confirmation, but it is stored until the upload ends";
        Check::failed(NAME, "a URL takes more bytes than were signed", remedy)
    } else {
        Check::ok(NAME, "a URL takes the signed number of bytes and no other")
    }
}

async fn put(
    patient: &Patient,
    presigned: &Presigned,
    origin: Option<&str>,
    body: Vec<u8>,
) -> reqwest::Result<Response> {
    let mut request = patient.http.put(&presigned.url).body(body);
    for (name, value) in &presigned.headers {
        request = request.header(name, value);
    }
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.send().await
}

/// Whether pages of `origin` may send chunks, by a real preflight.
pub async fn cors(patient: &Patient, origin: &str, fix: bool) -> Check {
    let refused = match preflight(patient, origin).await {
        Ok(()) => return may(origin),
        Err(refused) => refused,
    };
    if !fix {
        let remedy = format!("`upflow doctor --origin {origin} --fix` adds a rule to the bucket");
        return Check::failed("cors", refused, remedy);
    }
    patient.show(&format!(
        "CORS rule that will be added: from {origin} the methods PUT and GET with the headers content-type and x-amz-*"
    ));
    if let Err(error) = patient.storage.allow_origin(origin).await {
        let remedy = "allow s3:GetBucketCORS and s3:PutBucketCORS on the bucket, or add the rule by hand: PUT and GET, content-type and x-amz-*";
        return Check::failed("cors", error.to_string(), remedy);
    }
    match preflight(patient, origin).await {
        Ok(()) => may(origin),
        Err(refused) => Check::failed(
            "cors",
            refused,
            "the rule is set; a server may take a minute to follow it, or answer preflights elsewhere",
        ),
    }
}

fn may(origin: &str) -> Check {
    Check::ok("cors", format!("pages of {origin} may send chunks"))
}

/// What a browser asks before it sends a chunk. An error says what is missing.
async fn preflight(patient: &Patient, origin: &str) -> Result<(), String> {
    let trial = patient.storage.trial();
    let presigned = trial.presigned(now()).await.map_err(|error| error.to_string())?;
    let asked = patient
        .http
        .request(Method::OPTIONS, &presigned.url)
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", HEADERS);
    let answer =
        asked.send().await.map_err(|error| told(&error, &patient.storage.public_origin()))?;
    let list = |name: &str| {
        let values = answer.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        let values = values.flat_map(|value| value.split(','));
        values.map(|value| value.trim().to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let has = |list: &[String], value: &str| list.iter().any(|one| one == "*" || one == value);
    let origins = list("access-control-allow-origin");
    if !answer.status().is_success() || !has(&origins, &origin.to_ascii_lowercase()) {
        return Err(format!("pages of {origin} may not send chunks: {}", answer.status()));
    }
    if !has(&list("access-control-allow-methods"), "put") {
        return Err(format!("pages of {origin} may not PUT"));
    }
    let headers = list("access-control-allow-headers");
    match HEADERS.split(',').find(|header| !has(&headers, header)) {
        Some(header) => Err(format!("pages of {origin} may not send the header {header}")),
        None => Ok(()),
    }
}

/// An error of the line, without the URL, which is signed.
fn told(error: &reqwest::Error, address: &str) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{address} does not answer: {cause}")
}

/// Status and code of an answer of S3.
async fn said(answer: Response) -> String {
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code {
        Some((code, _)) => format!("it is refused: {status}, {code}"),
        None => format!("it is refused: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_either_way() {
        for (seconds, verdict) in [
            (0, Verdict::Ok),
            (-59, Verdict::Ok),
            (61, Verdict::Warning),
            (-899, Verdict::Warning),
            (900, Verdict::Failed),
            (-3_600, Verdict::Failed),
        ] {
            let check = judged(TimeDelta::seconds(seconds));
            assert_eq!(check.verdict, verdict, "{seconds}");
            assert_eq!(check.found.contains("behind"), seconds < -60, "{seconds}: {}", check.found);
        }
    }
}
