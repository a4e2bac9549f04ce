//! The server under test, local or SeaweedFS, under a key prefix of the test's own.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials as Keys, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, retry::RetryConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;
use upflow_core::config::StaticCredentials;
use uuid::Uuid;

use super::difference::Difference;
use super::local;
use crate::client::http;
use crate::production::services;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Local,
    SeaweedFs,
}

impl Kind {
    /// As the other suites call the sets that the servers belong to.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Local => "embedded",
            Kind::SeaweedFs => "production",
        }
    }

    pub fn is_there(self) -> bool {
        self == Kind::Local || services().is_some()
    }
}

pub struct Server {
    pub kind: Kind,
    pub client: Client,
    pub http: reqwest::Client,
    pub address: SocketAddr,
    pub bucket: String,
    pub region: String,
    pub credentials: StaticCredentials,
    /// What every key of the test begins with.
    pub prefix: String,
    /// Buckets of the test's own.
    buckets: Mutex<Vec<String>>,
    /// What was not as it should be. Collected, so that one run shows all of it.
    wrong: Mutex<Vec<String>>,
}

/// Status and code of an answer; the code of a success is empty.
pub type Outcome = (u16, String);

impl Server {
    pub async fn start(kind: Kind) -> Server {
        let (address, bucket, region, credentials);
        match kind {
            Kind::Local => {
                // Its start blocks.
                address = tokio::task::spawn_blocking(local::address).await.unwrap();
                (bucket, region) = (local::BUCKET.to_owned(), local::REGION.to_owned());
                credentials = StaticCredentials {
                    access_key: local::ACCESS_KEY.to_owned(),
                    secret_key: local::SECRET_KEY.to_owned(),
                };
            }
            Kind::SeaweedFs => {
                let service = services().expect("TEST_S3_… are not set: use scripts/test");
                let port = service.s3.port_or_known_default().unwrap();
                address = format!("{}:{port}", service.s3.host_str().unwrap()).parse().unwrap();
                (bucket, region) = (service.bucket, service.region);
                credentials = service.credentials;
            }
        }
        Server {
            kind,
            client: client(address, &credentials, &region),
            http: http(),
            address,
            bucket,
            region,
            credentials,
            prefix: format!("conformance-{}/", Uuid::new_v4().simple()),
            buckets: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// A key of this test.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Notes that this must be so on both servers.
    #[track_caller]
    pub fn is<T: PartialEq + Debug>(&self, what: &str, found: T, aws: T) {
        if found != aws {
            self.note(format!("{what}: {found:?} instead of {aws:?}"));
        }
    }

    /// Notes that this must be so on AWS and the local store, and is otherwise on SeaweedFS.
    #[track_caller]
    pub fn differs<T: PartialEq + Debug>(
        &self,
        difference: Difference,
        found: T,
        aws: T,
        there: T,
    ) {
        assert!(aws != there, "{difference:?} is none");
        match self.kind {
            Kind::Local => self.is(&format!("{difference:?}"), found, aws),
            Kind::SeaweedFs if found == aws => {
                self.note(format!("{difference:?} is no more: take it from the list"));
            }
            Kind::SeaweedFs => self.is(&format!("{difference:?}"), found, there),
        }
    }

    #[track_caller]
    fn note(&self, text: String) {
        let place = std::panic::Location::caller();
        // Bodies are long.
        let text: String = text.chars().take(400).collect();
        let line = format!("{}:{}: {text}", place.file(), place.line());
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub async fn put(&self, key: &str, body: impl Into<Bytes>) -> String {
        let body = ByteStream::from(body.into());
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(body);
        put.send().await.unwrap().e_tag.unwrap()
    }

    /// The whole object; none if there is none.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(found) => Some(found.body.collect().await.unwrap().into_bytes()),
            Err(error) => {
                assert_eq!(refusal(&error), (404, "NoSuchKey".into()));
                None
            }
        }
    }

    /// The name of a bucket that is not there. If it comes to be, it goes with the test.
    pub fn bucket_name(&self) -> String {
        let name = format!("conformance-{}", Uuid::new_v4().simple());
        self.buckets.lock().unwrap().push(name.clone());
        name
    }

    /// A new bucket, which goes with the test.
    pub async fn own_bucket(&self) -> String {
        let name = self.bucket_name();
        self.client.create_bucket().bucket(&name).send().await.unwrap();
        name
    }

    /// Removes what the test made, where the server stays, and answers what was not as it should be.
    pub async fn tear_down(&self) -> Vec<String> {
        if self.kind == Kind::SeaweedFs {
            self.empty(&self.bucket, &self.prefix).await;
            let buckets = std::mem::take(&mut *self.buckets.lock().unwrap());
            for bucket in buckets {
                if self.client.head_bucket().bucket(&bucket).send().await.is_err() {
                    continue;
                }
                self.empty(&bucket, "").await;
                self.client.delete_bucket().bucket(&bucket).send().await.unwrap();
            }
        }
        std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn empty(&self, bucket: &str, prefix: &str) {
        let list = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
        for upload in list.send().await.unwrap().uploads() {
            let abort = self.client.abort_multipart_upload().bucket(bucket);
            let abort = abort.key(upload.key().unwrap()).upload_id(upload.upload_id().unwrap());
            abort.send().await.unwrap();
        }
        loop {
            let list = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
            let listed = list.send().await.unwrap();
            for object in listed.contents() {
                let delete = self.client.delete_object().bucket(bucket).key(object.key().unwrap());
                delete.send().await.unwrap();
            }
            if listed.contents().is_empty() {
                break;
            }
        }
    }
}

/// A client that sends what it is told to, once, and adds no checksum.
pub fn client(address: SocketAddr, credentials: &StaticCredentials, region: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let StaticCredentials { access_key, secret_key } = credentials;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Keys::new(access_key, secret_key, None, None, "test"))
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

pub fn refusal<E: ProvideErrorMetadata + Debug>(error: &SdkError<E>) -> Outcome {
    let SdkError::ServiceError(refusal) = error else { panic!("no answer: {error:?}") };
    (refusal.raw().status().as_u16(), refusal.err().code().unwrap_or_default().to_owned())
}

pub fn outcome<T, E: ProvideErrorMetadata + Debug>(result: &Result<T, SdkError<E>>) -> Outcome {
    result.as_ref().err().map_or_else(success, refusal)
}

pub fn success() -> Outcome {
    (200, String::new())
}

pub fn refused(status: u16, code: &str) -> Outcome {
    (status, code.to_owned())
}
