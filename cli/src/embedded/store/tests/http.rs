//! What is in front of the store: signatures, guards, CORS, and connections that break.

use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Sends raw bytes and reads what comes back until the server closes.
async fn raw(rig: &Rig, request: &[u8], close: bool) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    if close {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn presigned_put(rig: &Rig, key: &str, body: &[u8]) -> PresignedRequest {
    let put = rig.client.put_object().bucket(BUCKET).key(key).content_length(body.len() as i64);
    put.checksum_crc64_nvme(crc64(body)).presigned(presigning()).await.unwrap()
}

/// The head of a presigned request, with the Content-Length it says.
fn head(rig: &Rig, presigned: &PresignedRequest, length: usize) -> String {
    let path = presigned.uri().split_once(&rig.address.to_string()).unwrap().1;
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: {}\r\n", presigned.method(), rig.address);
    for (name, value) in
        presigned.headers().filter(|(name, _)| *name != "content-length" && *name != "host")
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + &format!("content-length: {length}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_off_leaves_the_old_object_and_no_file() {
    let rig = Rig::start().await;
    rig.put("a", "old").await;
    let body = noise(3 * MIB, 1);
    let presigned = presigned_put(&rig, "a", &body).await;
    let mut request = head(&rig, &presigned, body.len()).into_bytes();
    request.extend_from_slice(&body[..2 * MIB]);
    raw(&rig, &request, true).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    drop(stream);
    until(|| rig.blobs() == 1).await;
    assert_eq!(rig.get("a").await, Some(b"old".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_readable_although_the_body_was_not_read() {
    let rig = Rig::start().await;
    let body = noise(8 * MIB, 1);
    let presigned = presigned_put(&rig, "a", &body).await.uri().replace("/a?", "/b?");
    for _ in 0..5 {
        let answer = web().put(&presigned).header("origin", "http://page").body(body.clone());
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert!(answer.text().await.unwrap().contains("<Code>"));
    }
    until(|| rig.blobs() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_is_refused() {
    let rig = Rig::start().await;
    let get = rig.client.get_object().bucket(BUCKET).key("a");
    let presigned = get.presigned(presigning()).await.unwrap();
    let http = web();
    let text = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert!(text(http.get(presigned.uri())).await.1.contains("NoSuchKey"));

    let long = presigned.uri().replace("X-Amz-Expires=600", "X-Amz-Expires=604801");
    let (status, body) = text(http.get(&long)).await;
    assert_eq!((status, body.contains("AuthorizationQueryParametersError")), (400, true));
    let hidden = presigned.uri().replace("X-Amz-Expires=600", "X%2DAmz-Expires=604801");
    assert_eq!(text(http.get(&hidden)).await.0, 400);

    let (status, body) =
        text(http.get(presigned.uri()).header("x-amz-checksum-mode", "ENABLED")).await;
    assert_eq!(
        (status, body.contains("AccessDenied"), body.contains("x-amz-checksum-mode")),
        (403, true, true)
    );
    let (status, body) =
        text(http.get(format!("{}&x-amz-checksum-crc32=AAAAAA==", presigned.uri()))).await;
    assert_eq!((status, body.contains("NotImplemented")), (501, true));
    assert_eq!(text(http.get(format!("http://{}/{BUCKET}/a", rig.address))).await.0, 403);
    let old = format!(
        "http://{}/{BUCKET}/a?AWSAccessKeyId=key&Signature=x&Expires=9999999999",
        rig.address
    );
    assert_eq!(text(http.get(old)).await.0, 400);
    let form = http.post(format!("http://{}/{BUCKET}", rig.address));
    let form = form.header("content-type", "multipart/form-data; boundary=x").body("--x--");
    assert_eq!(text(form).await.0, 501);

    let encrypted = rig.client.put_object().bucket(BUCKET).key("a").ssekms_key_id("k");
    let encrypted = encrypted
        .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
        .send()
        .await;
    assert_eq!(code(&encrypted.unwrap_err()), (501, "NotImplemented".into()));
    let public = rig.client.put_object().bucket(BUCKET).key("a");
    let public =
        public.acl(aws_sdk_s3::types::ObjectCannedAcl::PublicRead).send().await.unwrap_err();
    assert_eq!(code(&public), (400, "AccessControlListNotSupported".into()));
    let stranger = client(rig.address, "stranger", "secret", "us-east-1");
    let refused = stranger.put_object().bucket(BUCKET).key("a").send().await.unwrap_err();
    assert_eq!(code(&refused), (403, "InvalidAccessKeyId".into()));
    let wrong = client(rig.address, "key", "wrong", "us-east-1");
    let refused = wrong.put_object().bucket(BUCKET).key("a").send().await.unwrap_err();
    assert_eq!(code(&refused), (403, "SignatureDoesNotMatch".into()));
    let elsewhere = client(rig.address, "key", "secret", "eu-central-1");
    let refused = elsewhere.put_object().bucket(BUCKET).key("a").send().await.unwrap_err();
    assert_eq!(code(&refused), (400, "AuthorizationHeaderMalformed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_may_ask_by_default_and_a_buckets_rules_are_kept() {
    let rig = Rig::start().await;
    let http = web();
    let url = format!("http://{}/{BUCKET}/a", rig.address);
    let preflight = |origin: &str, method: &str| {
        let request = http.request(reqwest::Method::OPTIONS, &url).header("origin", origin);
        let request = request.header("access-control-request-method", method);
        request
            .header("access-control-request-headers", "content-type, x-amz-checksum-crc64nvme")
            .send()
    };
    let allowed = preflight("https://page.example", "PUT").await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "*");
    assert_eq!(
        allowed.headers()["access-control-allow-headers"],
        "content-type, x-amz-checksum-crc64nvme"
    );
    let refused =
        http.put(&url).header("origin", "https://page.example").body("x").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
    let exposed = refused.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("ETag") && exposed.contains("x-amz-checksum-crc64nvme"));

    let none = rig.client.get_bucket_cors().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(code(&none), (404, "NoSuchCORSConfiguration".into()));
    let rule = CorsRule::builder().allowed_origins("https://*.example").allowed_methods("PUT");
    let rule =
        rule.allowed_headers("x-amz-*").allowed_headers("Content-Type").expose_headers("ETag");
    let cors = CorsConfiguration::builder()
        .cors_rules(rule.max_age_seconds(60).build().unwrap())
        .build()
        .unwrap();
    rig.client.put_bucket_cors().bucket(BUCKET).cors_configuration(cors).send().await.unwrap();
    let rig = rig.restart().await;
    let url = format!("http://{}/{BUCKET}/a", rig.address);
    let preflight = |origin: &str, method: &str| {
        let request = http.request(reqwest::Method::OPTIONS, &url).header("origin", origin);
        let request = request.header("access-control-request-method", method);
        request
            .header("access-control-request-headers", "content-type, x-amz-checksum-crc64nvme")
            .send()
    };
    let allowed = preflight("https://page.example", "PUT").await.unwrap();
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://page.example");
    assert_eq!(allowed.headers()["access-control-max-age"], "60");
    for (origin, method) in [("https://page.other", "PUT"), ("https://page.example", "GET")] {
        let refused = preflight(origin, method).await.unwrap();
        assert_eq!(refused.status(), 403);
        assert!(!refused.headers().contains_key("access-control-allow-origin"));
    }
    rig.client.delete_bucket_cors().bucket(BUCKET).send().await.unwrap();
    assert_eq!(preflight("https://page.other", "GET").await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_ends_although_a_client_stands_still() {
    let rig = Rig::start().await;
    rig.put("a", vec![7; 64 * MIB]).await;
    // One reads a response no further, one sends a request no further, one idles.
    let reading = rig.client.get_object().bucket(BUCKET).key("a").send().await.unwrap();
    let body = noise(3 * MIB, 1);
    let presigned = presigned_put(&rig, "b", &body).await;
    let mut sending = TcpStream::connect(rig.address).await.unwrap();
    sending.write_all(head(&rig, &presigned, body.len()).as_bytes()).await.unwrap();
    let idle = TcpStream::connect(rig.address).await.unwrap();
    let started = std::time::Instant::now();
    rig.stop().await;
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    drop((reading, sending, idle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_finished_when_the_server_stops() {
    let rig = Rig::start().await;
    let body = noise(4 * MIB, 1);
    let presigned = presigned_put(&rig, "a", &body).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(head(&rig, &presigned, body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body[..MIB]).await.unwrap();
    until(|| rig.blobs() == 1).await;
    let client = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(&body[MIB..]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    });
    let folder = rig.stop().await;
    client.await.unwrap();
    let rig = Rig::start_in(folder).await;
    assert!(rig.get("a").await.is_some());
}
