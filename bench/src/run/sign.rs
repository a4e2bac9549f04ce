//! What a presigned URL costs: the signing by itself, and a call that signs a thousand.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use chrono::{DateTime, Utc};
use upflow_core::checksum::Algorithm;
use upflow_core::config::{StaticCredentials, StorageSettings};
use upflow_core::metrics::Metrics;
use upflow_core::storage::{ObjectKey, Storage};
use uuid::Uuid;

use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{MIB, Scale};
use crate::programs::{Whose, cpu_of};

const CHECKSUM: &str = "AAAAAAAAAAA=";
const URLS: usize = 50_000;
const CALLS: usize = 60;
const LIFE: Duration = Duration::from_secs(900);

/// Its processor time, since the core is shared.
pub async fn url(scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let endpoint = url::Url::parse("http://127.0.0.1:9000")?;
    let (key, secret) = ("AKIDEXAMPLEEXAMPLE12".to_owned(), "s".repeat(40));
    let settings = StorageSettings {
        region: "us-east-1".to_owned(),
        bucket: "upflow".to_owned(),
        endpoint: Some(endpoint.clone()),
        public_endpoint: Some(endpoint),
        path_style: true,
        key_prefix: String::new(),
        chunk_tag: None,
        timeout: LIFE,
        max_calls: 1,
        credentials: Some(StaticCredentials {
            access_key: key.clone(),
            secret_key: secret.clone(),
        }),
    };
    let storage = Storage::connect(&settings, &Metrics::default()).await;
    let signer = storage.signer(Utc::now()).await?;
    let checksum = Algorithm::Crc64Nvme.parse(CHECKSUM)?;
    let upload_id = Uuid::new_v4();
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    // Once more at first, for what is slow only then.
    for round in 0..=2 * scale.rounds {
        let before = cpu_of("self", Whose::Its)?;
        for index in 0..URLS as i32 {
            let key = ObjectKey::Chunk { upload_id, index };
            let end = DateTime::<Utc>::MAX_UTC;
            std::hint::black_box(signer.put_chunk(&key, 8 << 20, Some(checksum), LIFE, end)?);
        }
        let between = cpu_of("self", Whose::Its)?;
        for index in 0..URLS {
            std::hint::black_box(bare(&key, &secret, upload_id, index)?);
        }
        let after = cpu_of("self", Whose::Its)?;
        if round > 0 {
            ours.push((between - before).as_secs_f64() * 1e6 / URLS as f64);
            floor.push((after - between).as_secs_f64() * 1e6 / URLS as f64);
        }
    }
    Ok(vec![
        Row::of("presigning a URL, checksum and length bound", "", Unit::Microseconds, &ours)
            .by_rounds("aws-sigv4 alone", &ours, &floor)
            .goal(Goal::AtMost(8.0)),
    ])
}

/// The signature alone, of the same request, by the same crate.
fn bare(key: &str, secret: &str, upload: Uuid, index: usize) -> anyhow::Result<usize> {
    let mut settings = SigningSettings::default();
    // As S3 has it: paths are encoded once, and taken as they are.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFE);
    let identity = Credentials::new(key, secret, None, None, "bench").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let url = format!("http://127.0.0.1:9000/upflow/uploads/{upload}/chunks/{index}");
    let headers = [("x-amz-checksum-crc64nvme", CHECKSUM), ("content-length", "8388608")];
    let body = SignableBody::UnsignedPayload;
    let request = SignableRequest::new("PUT", &url, headers.into_iter(), body)?;
    Ok(sign(request, &params)?.output().params().len())
}

/// A thousand in one call: the processor time of the API, with reading and writing JSON.
pub async fn thousand(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let site = Site::start(kind, folder, "sign", Wishes::default()).await?;
    let upload = site.api.init(1_000, 8 * MIB).await?;
    let indexes: Vec<usize> = (0..1_000).collect();
    site.api.presign(&upload, &indexes, CHECKSUM).await?;
    let mut ours = Vec::new();
    for _ in 0..scale.rounds {
        let before = site.api_process.cpu()?;
        for _ in 0..CALLS {
            let signed = site.api.presign(&upload, &indexes, CHECKSUM).await?;
            signed.get(999).context("fewer than a thousand URLs")?;
        }
        ours.push((site.api_process.cpu()? - before).as_secs_f64() * 1_000.0 / CALLS as f64);
    }
    site.end().await?;
    Ok(vec![
        Row::of("1,000 URLs in one call, processor time of the API", "", Unit::Milliseconds, &ours)
            .goal(Goal::AtMost(12.0)),
    ])
}

/// An API that has just started and was asked nothing.
pub async fn idle(kind: Kind, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let site = Site::start(kind, folder, "idle", Wishes::default()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let memory = site.api_process.memory()? as f64 / MIB as f64;
    site.end().await?;
    Ok(vec![
        Row::new("idle memory of upflow-api", "", Unit::Mebibytes, memory).goal(Goal::AtMost(30.0)),
    ])
}

/// A file of one chunk: what our client asks of the API, as the API has logged it, and the one PUT.
pub async fn one_chunk(kind: Kind, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let log = ("UPFLOW_LOG", "warn,upflow=info,upflow_api=debug".to_owned());
    let wishes = Wishes { settings: vec![log], ..Wishes::default() };
    let site = Site::start(kind, folder, "one-chunk", wishes).await?;
    let file = super::file::noise(folder, MIB)?;
    let answered = |site: &Site| site.api_process.log().matches("answered").count();
    let before = answered(&site);
    super::file::upload(&site, &file, 8 * MIB).await?;
    let calls = (answered(&site) - before) as f64;
    site.removed(&site.api.latest().await?).await?;
    site.end().await?;
    Ok(vec![
        Row::new(
            "requests for a file of one chunk: init, PUT, complete, one wait",
            "",
            Unit::Requests,
            calls + 1.0,
        )
        .goal(Goal::AtMost(4.0)),
    ])
}
