use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::checksum::Algorithm;
use crate::metrics::Metrics;

proptest! {
    #[test]
    fn no_filename_ends_its_header_or_adds_to_it(name in any::<String>()) {
        if let Ok(filename) = Filename::parse(&name) {
            let header = content_disposition(&filename);
            prop_assert!(header.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{header}");
            let rest = header.strip_prefix("attachment; filename=\"").unwrap();
            let (fallback, exact) = rest.split_once('"').unwrap();
            prop_assert!(!fallback.contains(['\\', '%']));
            let exact = exact.strip_prefix("; filename*=UTF-8''").unwrap();
            prop_assert!(!exact.contains([';', '"', ' ', ',']), "{header}");
            let read = percent_encoding::percent_decode_str(exact).decode_utf8().unwrap();
            prop_assert_eq!(read, name);
        }
    }
}

#[test]
fn the_origin_of_a_url_ends_before_its_path() {
    assert_eq!(origin("http://127.0.0.1:8001/upflow/uploads/x"), "http://127.0.0.1:8001");
    assert_eq!(
        origin("https://bucket.s3.eu-central-1.amazonaws.com/"),
        "https://bucket.s3.eu-central-1.amazonaws.com"
    );
    assert_eq!(origin("http://[::1]:9000/"), "http://[::1]:9000");
}

#[test]
fn a_download_keeps_its_name_in_old_and_new_programs() {
    let header = |name| content_disposition(&Filename::parse(name).unwrap());
    assert_eq!(
        header("été \"1\" 50%.pdf"),
        "attachment; filename=\"_t_ _1_ 50_.pdf\"; filename*=UTF-8''%C3%A9t%C3%A9%20%221%22%2050%25.pdf"
    );
    assert!(header("日本.mov").ends_with("filename*=UTF-8''%E6%97%A5%E6%9C%AC.mov"));
}

/// What a URL is signed for, and by whom.
#[derive(Debug, Clone)]
pub struct Case {
    pub settings: StorageSettings,
    keys: (String, String, Option<String>),
    pub key: ObjectKey,
    len: i64,
    checksum: Option<Checksum>,
    now: DateTime<Utc>,
    life: Duration,
}

fn endpoint() -> impl Strategy<Value = Option<Url>> {
    let host = prop_oneof![
        Just("127.0.0.1:9000".to_owned()),
        Just("[::1]:9000".to_owned()),
        Just("localhost".to_owned()),
        "[a-z]{1,8}\\.example\\.com(:[1-9][0-9]{2,3})?",
    ];
    let url = ("https?", host, "(/[a-z]{1,5})?");
    let url =
        url.prop_map(|(scheme, host, path)| format!("{scheme}://{host}{path}/").parse().unwrap());
    proptest::option::of(url)
}

fn settings() -> impl Strategy<Value = StorageSettings> {
    let region = prop_oneof![Just("us-east-1"), Just("eu-central-1"), Just("cn-north-1")];
    let bucket = "[a-z][a-z0-9-]{1,20}[a-z0-9]";
    let prefix = prop_oneof![Just(String::new()), "[a-zA-Z0-9!_.*'()=-]{1,10}/"];
    let tag = proptest::option::of(("[A-Za-z0-9_.-]{1,8}", "[A-Za-z0-9_.-]{1,8}"));
    (region, bucket, endpoint(), any::<bool>(), prefix, tag).prop_map(
        |(region, bucket, endpoint, path_style, key_prefix, chunk_tag)| StorageSettings {
            region: region.to_owned(),
            bucket,
            // A bucket cannot stand before an address, nor before a path.
            path_style: path_style
                || endpoint.as_ref().is_some_and(|url| url.path() != "/" || url.domain().is_none()),
            public_endpoint: endpoint.clone(),
            endpoint,
            key_prefix,
            chunk_tag,
            timeout: Duration::from_secs(1),
            max_calls: 1,
            credentials: None,
        },
    )
}

pub fn case() -> impl Strategy<Value = Case> {
    let keys =
        ("[A-Z0-9]{16,20}", "[A-Za-z0-9/+]{40}", proptest::option::of("[A-Za-z0-9/+=]{1,400}"));
    let filename = prop_oneof!["[ -~]{1,40}", any::<String>()];
    let filename =
        filename.prop_filter_map("no name of a file", |name| Filename::parse(&name).ok());
    let key = (any::<u128>(), 0..10_000, filename, any::<bool>()).prop_map(
        |(id, index, filename, chunk)| {
            let upload_id = Uuid::from_u128(id);
            match chunk {
                true => ObjectKey::Chunk { upload_id, index },
                false => ObjectKey::Final { upload_id, filename },
            }
        },
    );
    let checksum = proptest::option::of(any::<[u8; 8]>()).prop_map(|bytes| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes?);
        Some(Algorithm::Crc64Nvme.parse(&text).unwrap())
    });
    // To the year 2100, in milliseconds.
    let now = (0..4_102_444_800_000i64).prop_map(|ms| DateTime::from_timestamp_millis(ms).unwrap());
    let numbers = (0..5 * 1024 * 1024 * 1024i64, checksum, now, 1..604_800u64);
    (settings(), keys, key, numbers).prop_map(|(settings, keys, key, numbers)| {
        let (len, checksum, now, life) = numbers;
        Case { settings, keys, key, len, checksum, now, life: Duration::from_secs(life) }
    })
}

impl Case {
    pub fn storage(&self, http: &aws_sdk_s3::config::SharedHttpClient) -> Storage {
        let (id, secret, token) = self.keys.clone();
        let keys = Keys::new(id, secret, token, None, "test");
        let keys = SharedCredentialsProvider::new(keys);
        Storage::with(&self.settings, http.clone(), keys, &Metrics::default())
    }

    fn presigning(&self) -> PresigningConfig {
        let config = PresigningConfig::builder().start_time(self.now.into());
        config.expires_in(self.life).build().unwrap()
    }
}

/// Of a URL everything but the order of its query.
fn pieces(url: &str) -> (String, Vec<String>) {
    let (before, query) = url.split_once('?').unwrap();
    let mut query: Vec<String> = query.split('&').map(str::to_owned).collect();
    query.sort();
    (before.to_owned(), query)
}

/// The SDK adds the name of the operation to the query, which no server asks for.
fn without_name(request: &mut aws_sdk_s3::config::http::HttpRequest) {
    let uri = request.uri().to_owned();
    let (before, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("x-id=")).collect();
    let query =
        if kept.concat().is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    request.set_uri(format!("{before}{query}")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_url_is_the_one_that_the_sdk_signs(case in case(), name in "[ -~]{1,20}|é{1,3}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = aws_smithy_http_client::Builder::new();
        let http = http.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let storage = case.storage(&http);
        let signer = runtime.block_on(storage.signer(case.now)).unwrap();
        let (bucket, whole_key) = (&case.settings.bucket, storage.key(&case.key));

        let ours = signer
            .put_chunk(&case.key, case.len, case.checksum, case.life, DateTime::<Utc>::MAX_UTC)
            .unwrap();
        let put = storage.client.put_object().bucket(bucket).key(&whole_key).content_length(case.len);
        let put = put.set_checksum_crc64_nvme(case.checksum.map(|checksum| checksum.to_string()));
        let tag = case.settings.chunk_tag.as_ref().map(|(tag, value)| format!("{tag}={value}"));
        let put = put.set_tagging(tag).customize().mutate_request(without_name);
        let theirs = runtime.block_on(put.presigned(case.presigning())).unwrap();
        prop_assert_eq!(pieces(&ours.url), pieces(theirs.uri()));
        prop_assert_eq!(ours.method, theirs.method());
        let mut headers = ours.headers;
        headers.push(("content-length".to_owned(), case.len.to_string()));
        headers.sort();
        let mut signed: Vec<(String, String)> =
            theirs.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        signed.sort();
        prop_assert_eq!(headers, signed);

        let Ok(filename) = Filename::parse(&name) else { return Ok(()) };
        let ours = signer.get_final(&whole_key, &filename, case.life).unwrap();
        let get = storage.client.get_object().bucket(bucket).key(&whole_key);
        let get = get.response_content_disposition(content_disposition(&filename));
        let get = get.customize().mutate_request(without_name);
        let theirs = runtime.block_on(get.presigned(case.presigning())).unwrap();
        prop_assert_eq!(pieces(&ours.url), pieces(theirs.uri()));
        prop_assert!(ours.headers.is_empty() && theirs.headers().next().is_none());
    }
}
