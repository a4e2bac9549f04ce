//! The S3 servers that are measured, and a client of each that does as little as it can: bodies are sent by
//! presigned URLs, as UpFlow's clients send them, so that no SDK hashes them first.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    retry::RetryConfig,
};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(20);

/// Where a bucket is, and how it is reached.
#[derive(Debug, Clone)]
pub struct Place {
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub key: String,
    pub secret: String,
}

impl Place {
    /// A bucket of the server that `scripts/lib/services.sh` started.
    pub fn of_the_environment(endpoint: &str, bucket: &str) -> anyhow::Result<Place> {
        Ok(Place {
            endpoint: endpoint.to_owned(),
            bucket: bucket.to_owned(),
            region: variable("TEST_S3_REGION")?,
            key: variable("TEST_S3_ACCESS_KEY_ID")?,
            secret: variable("TEST_S3_SECRET_ACCESS_KEY")?,
        })
    }
}

pub struct Server {
    pub client: Client,
    pub bucket: String,
    pub place: Place,
    http: reqwest::Client,
    /// Ends when this is dropped.
    process: Option<Child>,
}

/// What is sent again and again, with its checksum.
pub struct Body {
    pub bytes: Bytes,
    /// CRC64NVME, as S3 writes it.
    pub checksum: String,
}

impl Body {
    /// Bytes that no server can make smaller.
    pub fn noise(length: usize) -> Body {
        let mut bytes = vec![0; length];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        Body { bytes: bytes.into(), checksum: STANDARD.encode(checksum.to_be_bytes()) }
    }
}

impl Server {
    /// `upflow s3` of this build, in `folder`.
    pub async fn upflow(folder: &Path) -> anyhow::Result<Server> {
        let program = std::env::current_exe()?.with_file_name("upflow");
        let (key, secret) = ("bench-key", "bench-secret");
        let mut process = Command::new(&program)
            .args(["s3", "--s3-port", "0", "--data-dir"])
            .arg(folder)
            .env("UPFLOW_S3_ACCESS_KEY", key)
            .env("UPFLOW_S3_SECRET_KEY", secret)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let output = process.stdout.take().context("it has no output")?;
        let mut lines = BufReader::new(output).lines();
        let endpoint = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(endpoint) = line.trim().strip_prefix("Endpoint") {
                    return Ok(endpoint.trim().to_owned());
                }
            }
            anyhow::bail!("upflow s3 ended before it said where it is")
        };
        let endpoint = tokio::time::timeout(PATIENCE, endpoint).await??;
        let text = str::to_owned;
        let (bucket, region) = (text("upflow"), text("us-east-1"));
        let place = Place { endpoint, bucket, region, key: text(key), secret: text(secret) };
        Ok(Server { process: Some(process), ..Server::at(place) })
    }

    /// Of `upflow s3`, where it is that.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref()?.id()
    }

    /// The one that `scripts/lib/services.sh` started.
    pub fn of_the_environment() -> anyhow::Result<Server> {
        Server::of_the_environment_by(&variable("TEST_S3_ENDPOINT")?, &variable("TEST_S3_BUCKET")?)
    }

    /// The same, reached by a way of its own, and another bucket of it.
    pub fn of_the_environment_by(endpoint: &str, bucket: &str) -> anyhow::Result<Server> {
        Ok(Server::at(Place::of_the_environment(endpoint, bucket)?))
    }

    /// The one at this place.
    pub fn at(place: Place) -> Server {
        // An error only says that the other server was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new(&place.key, &place.secret, None, None, "bench"))
            .region(Region::new(place.region.clone()))
            .endpoint_url(&place.endpoint)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .http_client(http)
            .build();
        Server {
            client: Client::from_conf(config),
            bucket: place.bucket.clone(),
            place,
            http: reqwest::Client::new(),
            process: None,
        }
    }

    pub async fn put(&self, key: &str, body: &Body) -> anyhow::Result<()> {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        let put = put.content_length(body.bytes.len() as i64);
        let put = put.checksum_crc64_nvme(&body.checksum).presigned(life()?).await?;
        let mut request = self.http.put(put.uri()).body(body.bytes.clone());
        for (name, value) in put.headers().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// A URL that takes one PUT of so many bytes.
    pub async fn presigned(&self, key: &str, length: usize) -> anyhow::Result<String> {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        let put = put.content_length(length as i64).presigned(life()?).await?;
        Ok(put.uri().to_owned())
    }

    /// A URL that reads an object.
    pub async fn readable(&self, key: &str) -> anyhow::Result<String> {
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        Ok(get.presigned(life()?).await?.uri().to_owned())
    }

    /// Deletes up to a thousand objects in one call.
    pub async fn delete_together(&self, keys: &[String]) -> anyhow::Result<()> {
        let object = |key: &String| ObjectIdentifier::builder().key(key).build();
        let objects = keys.iter().map(object).collect::<Result<Vec<_>, _>>()?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        anyhow::ensure!(answer.send().await?.errors().is_empty(), "not all were deleted");
        Ok(())
    }

    /// Deletes every object and every multipart upload.
    pub async fn empty(&self) -> anyhow::Result<()> {
        let (client, bucket) = (&self.client, &self.bucket);
        loop {
            let page = client.list_objects_v2().bucket(bucket).send().await?;
            let keys = page.contents().iter().filter_map(|object| object.key().map(str::to_owned));
            let keys: Vec<String> = keys.collect();
            if keys.is_empty() {
                break;
            }
            self.delete_together(&keys).await?;
        }
        let multiparts = client.list_multipart_uploads().bucket(bucket).send().await?;
        for multipart in multiparts.uploads() {
            let abort = client.abort_multipart_upload().bucket(bucket);
            let abort = abort.set_key(multipart.key().map(str::to_owned));
            abort.set_upload_id(multipart.upload_id().map(str::to_owned)).send().await?;
        }
        Ok(())
    }

    /// Reads it to its end, and answers how long it was.
    pub async fn get(&self, key: &str) -> anyhow::Result<usize> {
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        let get = get.presigned(life()?).await?;
        let mut answer = self.http.get(get.uri()).send().await?.error_for_status()?;
        let mut length = 0;
        while let Some(bytes) = answer.chunk().await? {
            length += bytes.len();
        }
        Ok(length)
    }

    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        self.client.delete_object().bucket(&self.bucket).key(key).send().await?;
        Ok(())
    }

    /// Makes one object of copies of these, so many at once: with the fewest requests that do it.
    pub async fn assemble(
        &self,
        key: &str,
        sources: &[String],
        at_once: usize,
    ) -> anyhow::Result<Assembled> {
        let (client, bucket) = (&self.client, &self.bucket);
        let began = Instant::now();
        let create = client.create_multipart_upload().bucket(bucket).key(key);
        let create = create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
        let created = create.checksum_type(ChecksumType::FullObject).send().await?;
        let id = created.upload_id().context("no upload id")?;
        let create = began.elapsed();
        let began = Instant::now();
        let copies = stream::iter(sources.iter().zip(1..)).map(|(source, part)| async move {
            let copy = client.upload_part_copy().bucket(bucket).key(key).upload_id(id);
            let copy = copy.part_number(part).copy_source(format!("{bucket}/{source}"));
            let copied = copy.send().await?.copy_part_result.context("no result of the copy")?;
            let etag = copied.e_tag.context("no ETag of the copy")?;
            anyhow::Ok(CompletedPart::builder().part_number(part).e_tag(etag).build())
        });
        let mut parts: Vec<CompletedPart> = copies.buffer_unordered(at_once).try_collect().await?;
        let copies = began.elapsed();
        parts.sort_by_key(|part| part.part_number());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let began = Instant::now();
        let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
        complete.multipart_upload(parts).send().await?;
        Ok(Assembled { create, copies, complete: began.elapsed() })
    }
}

/// What the steps took.
#[derive(Debug, Clone, Copy)]
pub struct Assembled {
    pub create: Duration,
    pub copies: Duration,
    pub complete: Duration,
}

/// What a script must have set.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: use the scripts in bench"))
}

fn life() -> anyhow::Result<PresigningConfig> {
    Ok(PresigningConfig::expires_in(Duration::from_secs(600))?)
}
