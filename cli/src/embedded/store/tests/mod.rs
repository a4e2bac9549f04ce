//! The store through its server, over real sockets, with the AWS SDK as the client: what it does with its
//! folder. That it does what S3 does is proven by `tests/it/backends`, on SeaweedFS as well.

mod copies;
mod crash;
mod http;
mod lists;
mod model;
mod multipart;
mod objects;
mod races;

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials as Keys, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, retry::RetryConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Options, Store};
use crate::embedded::s3::{Credentials, S3Server, S3Settings};

pub const BUCKET: &str = "upflow";
pub const MIB: usize = 1024 * 1024;

/// A server on a store of its own.
pub struct Rig {
    pub folder: TempDir,
    pub store: Store,
    pub client: Client,
    pub address: std::net::SocketAddr,
    server: S3Server,
    shutdown: CancellationToken,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::start_in(TempDir::new().unwrap()).await
    }

    pub async fn start_in(folder: TempDir) -> Rig {
        let path = folder.path().to_owned();
        let store =
            tokio::task::spawn_blocking(move || Store::open_with(&path, Options::default()))
                .await
                .unwrap()
                .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let settings = S3Settings {
            credentials: Credentials { access_key: "key".into(), secret_key: "secret".into() },
            region: "us-east-1".into(),
            bucket: BUCKET.into(),
            any_origin: None,
        };
        let server =
            S3Server::start(listener, store.clone(), settings, shutdown.clone()).await.unwrap();
        let address = server.address();
        Rig {
            client: client(address, "key", "secret", "us-east-1"),
            folder,
            store,
            address,
            server,
            shutdown,
        }
    }

    /// Ends the server in good order and hands back the folder.
    pub async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.server.stopped().await;
        self.folder
    }

    pub async fn restart(self) -> Rig {
        let Rig { folder, store, client, server, shutdown, .. } = self;
        shutdown.cancel();
        server.stopped().await;
        drop((store, client));
        Rig::start_in(folder).await
    }

    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        let put =
            self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from(body.into()));
        put.send().await.unwrap().e_tag.unwrap()
    }

    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.client.get_object().bucket(BUCKET).key(key).send().await {
            Ok(found) => Some(bytes(found).await),
            Err(error) => {
                assert_eq!(code(&error), (404, "NoSuchKey".into()));
                None
            }
        }
    }

    pub async fn begin(&self, key: &str) -> String {
        let begun =
            self.client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
        begun.upload_id.unwrap()
    }

    pub async fn put_part(&self, key: &str, upload: &str, number: i32, body: Vec<u8>) -> String {
        let part =
            self.client.upload_part().bucket(BUCKET).key(key).upload_id(upload).part_number(number);
        part.body(ByteStream::from(body)).send().await.unwrap().e_tag.unwrap()
    }

    /// How many blob files there are.
    pub fn blobs(&self) -> usize {
        files(&self.folder.path().join("blobs"))
    }
}

/// A client without any SDK.
pub fn web() -> reqwest::Client {
    // An error only says that another test was first.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

pub fn client(address: std::net::SocketAddr, key: &str, secret: &str, region: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Keys::new(key, secret, None, None, "test"))
        .region(Region::new(region.to_owned()))
        .endpoint_url(format!("http://{address}"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(http)
        .build();
    Client::from_conf(config)
}

/// The status and the code of a refusal.
pub fn code<E: ProvideErrorMetadata + std::fmt::Debug>(error: &SdkError<E>) -> (u16, String) {
    let SdkError::ServiceError(refusal) = error else { panic!("no answer: {error:?}") };
    (refusal.raw().status().as_u16(), refusal.err().code().unwrap_or_default().to_owned())
}

pub async fn bytes(found: GetObjectOutput) -> Vec<u8> {
    found.body.collect().await.unwrap().to_vec()
}

pub fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 })
        .sum()
}

pub fn presigning() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(600)).unwrap()
}

pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn crc(algorithm: crc_fast::CrcAlgorithm, bytes: &[u8]) -> String {
    let value = crc_fast::checksum(algorithm, bytes).to_be_bytes();
    let width = if algorithm == crc_fast::CrcAlgorithm::Crc64Nvme { 8 } else { 4 };
    STANDARD.encode(&value[8 - width..])
}

pub fn crc64(bytes: &[u8]) -> String {
    crc(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

pub async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 5 seconds in vain");
}
