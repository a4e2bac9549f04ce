use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use proptest::prelude::*;

use super::*;
use crate::checksum::Algorithm;
use crate::storage::presign::tests::{Case, case};
use crate::storage::{ErrorKind, Multipart, ObjectKey};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answer(u16, &'static str),
    Cut,
    Silence,
}

/// A request as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    by_sdk: bool,
    method: String,
    uri: String,
    /// But those of the time, the signature, and the program.
    headers: Vec<(String, String)>,
}

/// Stands where the connection to S3 would: notes what is sent, and answers as it is told, with 200 at the end.
#[derive(Debug, Clone, Default)]
struct Wire {
    sent: Arc<Mutex<Vec<Sent>>>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
}

const ITS_OWN: [&str; 6] = [
    "authorization",
    "x-amz-date",
    "user-agent",
    "x-amz-user-agent",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
];

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let headers = request.headers();
        assert!(headers.get("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 "));
        let kept = headers.iter().filter(|(name, _)| !ITS_OWN.contains(name));
        let mut kept: Vec<_> =
            kept.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        kept.sort();
        let (method, uri) = (request.method().to_owned(), request.uri().to_owned());
        let by_sdk = headers.get("amz-sdk-request").is_some();
        self.sent.lock().unwrap().push(Sent { by_sdk, method, uri, headers: kept });
        let fate = self.fates.lock().unwrap().pop_front();
        let head = request.method() == "HEAD";
        HttpConnectorFuture::new(async move {
            let (status, body) = match fate.unwrap_or(Fate::Answer(200, "")) {
                Fate::Answer(status, body) => (status, body),
                Fate::Cut => return Err(ConnectorError::io("cut".into())),
                Fate::Silence => std::future::pending().await,
            };
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            let length = if head { 5 } else { body.len() };
            response.headers_mut().insert("content-length", length.to_string());
            response.headers_mut().insert("etag", "\"abc\"");
            Ok(response)
        })
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Wire {
    /// Who was asked since the last time: the SDK, or not.
    fn asked(&self) -> Vec<bool> {
        self.sent.lock().unwrap().drain(..).map(|sent| sent.by_sdk).collect()
    }

    fn fate(&self, fates: &[Fate]) {
        self.fates.lock().unwrap().extend(fates);
    }

    /// A storage that knows its way.
    async fn storage(&self, case: &Case) -> Storage {
        let storage = case.storage(&SharedHttpClient::new(self.clone()));
        storage.check_bucket().await.unwrap();
        assert_eq!(self.asked(), [true]);
        storage
    }
}

fn multipart(case: &Case, algorithm: Algorithm) -> Multipart {
    Multipart { key: case.key.clone(), upload_id: "an/id?=&".to_owned(), algorithm }
}

const COPIED: &str = "<?xml version=\"1.0\"?>\n<CopyPartResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
    <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;part&quot;</ETag>\
    <ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></CopyPartResult>";
const FAILED: &str =
    "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>no</Message></Error>";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_requests_are_those_of_the_sdk(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Wire::default();
            let storage = wire.storage(&case).await;
            let to = multipart(&case, Algorithm::Crc64Nvme);
            let from = ObjectKey::Chunk { upload_id: uuid::Uuid::nil(), index: 7 };
            for sdk in [false, true] {
                if sdk {
                    storage.direct.rest();
                }
                storage.head(&case.key).await.unwrap();
                storage.get(&case.key, "abc").await.unwrap();
                wire.fate(&[Fate::Answer(200, COPIED)]);
                storage.copy_part(&to, 17, &from, "abc").await.unwrap();
            }
            let mut sent = wire.sent.lock().unwrap().clone();
            let by_sdk: Vec<bool> = sent.iter().map(|sent| sent.by_sdk).collect();
            prop_assert_eq!(by_sdk, [false, false, false, true, true, true]);
            for sent in &mut sent {
                sent.by_sdk = false;
                let (path, query) = sent.uri.split_once('?').unwrap_or((&sent.uri, ""));
                let mut query: Vec<_> =
                    query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("x-id=")).collect();
                query.sort_unstable();
                sent.uri = format!("{path}?{}", query.join("&"));
            }
            prop_assert_eq!(&sent[..3], &sent[3..]);
            Ok(())
        })?;
    }
}

fn any_case() -> Case {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    case().new_tree(&mut runner).unwrap().current()
}

#[tokio::test]
async fn what_goes_well_is_not_asked_of_the_sdk() {
    let (wire, case) = (Wire::default(), any_case());
    let storage = wire.storage(&case).await;
    wire.fate(&[Fate::Answer(200, ""), Fate::Answer(404, ""), Fate::Answer(200, "bytes")]);
    let head = storage.head(&case.key).await.unwrap().unwrap();
    assert_eq!((head.size, head.etag.as_str()), (5, "abc"));
    assert!(storage.head(&case.key).await.unwrap().is_none());
    let mut body = storage.get(&case.key, "abc").await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "bytes");
    for (algorithm, checksum) in
        [(Algorithm::Crc64Nvme, Some("AAAAAAAAAAA=")), (Algorithm::Crc32c, None)]
    {
        wire.fate(&[Fate::Answer(200, COPIED)]);
        let to = multipart(&case, algorithm);
        let part = storage.copy_part(&to, 1, &case.key, "abc").await.unwrap();
        assert_eq!((part.etag.as_str(), part.checksum.as_deref()), ("\"part\"", checksum));
    }
    assert_eq!(wire.asked(), [false; 5]);
}

#[tokio::test]
async fn what_goes_wrong_is_asked_of_the_sdk_and_so_is_all_that_follows_for_a_while() {
    let case = any_case();
    for fate in [
        Fate::Answer(503, FAILED),
        Fate::Answer(403, FAILED),
        Fate::Answer(301, ""),
        Fate::Answer(200, FAILED),
        Fate::Answer(200, "<CopyPartResult><ETag></ETag></CopyPartResult>"),
        Fate::Answer(200, "<CopyPartResult><ETag>a"),
        Fate::Cut,
    ] {
        let wire = Wire::default();
        let storage = wire.storage(&case).await;
        let to = multipart(&case, Algorithm::Crc64Nvme);
        wire.fate(&[fate, Fate::Answer(200, COPIED), Fate::Answer(200, COPIED)]);
        for _ in 0..2 {
            let part = storage.copy_part(&to, 1, &case.key, "abc").await.unwrap();
            assert_eq!(part.etag, "\"part\"", "{fate:?}");
        }
        assert_eq!(wire.asked(), [false, true, true], "{fate:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_is_another_one_is_an_answer_and_no_trouble() {
    let (wire, case) = (Wire::default(), any_case());
    let storage = wire.storage(&case).await;
    let to = multipart(&case, Algorithm::Crc64Nvme);
    wire.fate(&[Fate::Answer(412, ""), Fate::Answer(412, ""), Fate::Answer(200, COPIED)]);
    let error = storage.copy_part(&to, 1, &case.key, "abc").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Precondition);
    storage.copy_part(&to, 1, &case.key, "abc").await.unwrap();
    assert_eq!(wire.asked(), [false, true, false]);
}

/// Tries are counted with the one that was made without it.
#[tokio::test]
async fn a_server_that_fails_is_asked_three_times_and_one_that_is_silent_for_two_timeouts() {
    let (wire, mut case) = (Wire::default(), any_case());
    let storage = wire.storage(&case).await;
    wire.fate(&[Fate::Answer(503, ""); 9]);
    storage.head(&case.key).await.unwrap_err();
    assert_eq!(wire.asked(), [false, true, true]);

    let wire = Wire::default();
    case.settings.timeout = Duration::from_millis(200);
    let storage = wire.storage(&case).await;
    wire.fate(&[Fate::Silence; 9]);
    let began = Instant::now();
    assert_eq!(storage.head(&case.key).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(wire.asked(), [false, true]);
    assert!(began.elapsed() >= 2 * case.settings.timeout);
}

#[tokio::test]
async fn buckets_that_are_signed_for_otherwise_are_left_to_the_sdk() {
    let (wire, mut case) = (Wire::default(), any_case());
    let settings = &mut case.settings;
    settings.bucket = "arn:aws:s3:eu-central-1:123456789012:accesspoint/a".to_owned();
    settings.region = "eu-central-1".to_owned();
    (settings.path_style, settings.endpoint) = (false, None);
    let storage = case.storage(&SharedHttpClient::new(wire.clone()));
    storage.check_bucket().await.unwrap();
    storage.head(&case.key).await.unwrap();
    assert_eq!(wire.asked(), [true, true]);
}
