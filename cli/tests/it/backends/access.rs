//! Who may do what: signatures, their life, what they have to cover, and how refusals are told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use reqwest::Method;
use upflow_core::config::StaticCredentials;

use super::difference::Difference;
use super::server::{Kind, Server, client, outcome, refused, success};
use super::signing::{Request, answer};
use super::{Tests, tests};

pub const TESTS: Tests = tests![
    nothing_is_done_without_a_signature,
    another_key_secret_or_region_is_refused,
    a_signature_is_for_one_request,
    a_presigned_url_lives_as_long_as_it_says,
    a_presigned_url_may_not_live_longer_than_seven_days,
    an_x_amz_header_has_to_be_signed,
    a_signed_body_is_what_was_signed,
    what_is_not_there_answers_not_implemented,
];

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn nothing_is_done_without_a_signature(s3: Arc<Server>) {
    s3.put(&s3.key("a"), "x").await;
    let url = format!("http://{}/{}/{}", s3.address, s3.bucket, s3.key("a"));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let found = answer(s3.http.request(method.clone(), &url)).await;
        s3.is(method.as_str(), found, refused(403, "AccessDenied"));
    }
    s3.is("object", s3.get(&s3.key("a")).await, Some("x".into()));
}

async fn another_key_secret_or_region_is_refused(s3: Arc<Server>) {
    let StaticCredentials { access_key, secret_key } = &s3.credentials;
    let list = async |access_key: &str, secret_key: &str, region: &str| {
        let keys = StaticCredentials {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        };
        let client = client(s3.address, &keys, region);
        outcome(&client.list_objects_v2().bucket(&s3.bucket).send().await)
    };
    let key = list("stranger", secret_key, &s3.region).await;
    s3.is("key", key, refused(403, "InvalidAccessKeyId"));
    let secret = list(access_key, "wrong", &s3.region).await;
    s3.is("secret", secret, refused(403, "SignatureDoesNotMatch"));
    let region = list(access_key, secret_key, "eu-central-1").await;
    let aws = refused(400, "AuthorizationHeaderMalformed");
    s3.differs(Difference::AnyRegionPasses, region, aws, success());
}

async fn a_signature_is_for_one_request(s3: Arc<Server>) {
    s3.put(&s3.key("a"), "a").await;
    s3.put(&s3.key("b"), "b").await;
    let key = s3.key("a");
    let url = Request::new(Method::GET, &key).url(&s3);
    let mismatch = refused(403, "SignatureDoesNotMatch");
    s3.is("itself", answer(s3.http.get(&url)).await.0, 200);
    s3.is("a method", answer(s3.http.delete(&url)).await, mismatch.clone());
    let other = url.replacen("/a?", "/b?", 1);
    s3.is("a key", answer(s3.http.get(other)).await, mismatch.clone());
    let query = format!("{url}&response-content-type=text%2Fhtml");
    s3.is("a parameter", answer(s3.http.get(query)).await, mismatch.clone());
    let header = Request { headers: &[("x-amz-meta-a", "1")], ..Request::new(Method::PUT, &key) };
    let changed = s3.http.put(header.url(&s3)).header("x-amz-meta-a", "2").body("x");
    s3.is("a header", answer(changed).await, mismatch.clone());
    let left_out = s3.http.put(header.url(&s3)).body("x");
    s3.is("a header left out", answer(left_out).await, mismatch);
    s3.is("object", s3.get(&key).await, Some("a".into()));
}

async fn a_presigned_url_lives_as_long_as_it_says(s3: Arc<Server>) {
    let key = s3.key("a");
    s3.put(&key, "x").await;
    let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
    let get = |signed_at, expires_in| {
        Request { signed_at, expires_in, ..Request::new(Method::GET, &key) }.build(&s3)
    };
    let dead = answer(get(now - 2 * minute, minute)).await;
    s3.is("two minutes later", dead, refused(403, "AccessDenied"));
    s3.is("a minute later", answer(get(now - minute, 2 * minute)).await.0, 200);
    let early = answer(get(now + 60 * minute, minute)).await;
    s3.differs(Difference::FutureSignaturePasses, early.0, 403, 200);
}

async fn a_presigned_url_may_not_live_longer_than_seven_days(s3: Arc<Server>) {
    let key = s3.key("a");
    s3.put(&key, "x").await;
    let get = |expires_in| Request { expires_in, ..Request::new(Method::GET, &key) }.build(&s3);
    s3.is("7 days", answer(get(7 * DAY)).await.0, 200);
    let longer = answer(get(7 * DAY + Duration::from_secs(1))).await;
    s3.is("a second more", longer, refused(400, "AuthorizationQueryParametersError"));
}

async fn an_x_amz_header_has_to_be_signed(s3: Arc<Server>) {
    let key = s3.key("a");
    let put = || Request::new(Method::PUT, &key).build(&s3).body("x");
    let metadata = answer(put().header("x-amz-meta-a", "1")).await;
    let (aws, there) = (refused(403, "AccessDenied"), refused(403, "SignatureDoesNotMatch"));
    let difference = Difference::UnsignedHeaderHasAnotherCode;
    s3.differs(difference, metadata, aws.clone(), there.clone());
    let checksum = answer(put().header("x-amz-checksum-crc32c", "uTja5A==")).await;
    s3.differs(difference, checksum, aws, there);
    s3.is("object", s3.get(&key).await, None);
    // What is not S3's own need not be signed.
    s3.is("another header", answer(put().header("x-other", "1")).await.0, 200);
}

/// Somebody between the client and the server.
#[derive(Debug)]
struct Tampering;

impl Intercept for Tampering {
    fn name(&self) -> &'static str {
        "tampering"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = SdkBody::from("jello");
        Ok(())
    }
}

async fn a_signed_body_is_what_was_signed(s3: Arc<Server>) {
    let put = s3.client.put_object().bucket(&s3.bucket).key(s3.key("a"));
    let put = put.body(ByteStream::from_static(b"hello"));
    let tampered = put.customize().interceptor(Tampering).send().await;
    let aws = refused(400, "XAmzContentSHA256Mismatch");
    let difference = Difference::SignedBodyIsNotChecked;
    s3.differs(difference, outcome(&tampered), aws, success());
    s3.differs(difference, s3.get(&s3.key("a")).await, None, Some("jello".into()));
}

/// For the local store alone: SeaweedFS has them.
async fn what_is_not_there_answers_not_implemented(s3: Arc<Server>) {
    if s3.kind != Kind::Local {
        return;
    }
    s3.put(&s3.key("a"), "x").await;
    let (client, bucket, key) = (&s3.client, &s3.bucket, s3.key("a"));
    let source = format!("{bucket}/{key}");
    let found = [
        outcome(&client.list_buckets().send().await),
        outcome(&client.delete_bucket().bucket(bucket).send().await),
        outcome(&client.list_objects().bucket(bucket).send().await),
        outcome(&client.copy_object().bucket(bucket).key("b").copy_source(source).send().await),
        outcome(&client.get_object_tagging().bucket(bucket).key(&key).send().await),
        outcome(&client.get_object_acl().bucket(bucket).key(&key).send().await),
        outcome(&client.get_bucket_versioning().bucket(bucket).send().await),
        outcome(&client.get_bucket_policy().bucket(bucket).send().await),
        outcome(&client.get_bucket_lifecycle_configuration().bucket(bucket).send().await),
        outcome(&client.list_object_versions().bucket(bucket).send().await),
    ];
    for found in found {
        s3.is("an operation", found, refused(501, "NotImplemented"));
    }
}
