//! Which web pages may ask: a bucket's own rules, and what a bucket without rules allows.

use std::sync::Arc;

use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::difference::Difference;
use super::server::{Server, outcome, refused};
use super::{Tests, tests};

pub const TESTS: Tests = tests![
    a_preflight_is_answered_by_the_rules_of_the_bucket,
    an_answer_says_which_page_may_read_it,
    rules_come_back_as_they_were_set,
    a_bucket_without_rules_on_loopback_is_open_to_any_page,
];

/// A bucket whose rules let pages under `.example` put, with some headers.
async fn bucket_with_rules(s3: &Server) -> String {
    let bucket = s3.own_bucket().await;
    let rule = CorsRule::builder()
        .allowed_origins("https://*.example")
        .allowed_methods("PUT")
        .allowed_headers("x-amz-*")
        .allowed_headers("Content-Type")
        .expose_headers("ETag")
        .max_age_seconds(60);
    let cors = CorsConfiguration::builder().cors_rules(rule.build().unwrap()).build().unwrap();
    let put = s3.client.put_bucket_cors().bucket(&bucket).cors_configuration(cors);
    put.send().await.unwrap();
    bucket
}

async fn preflight(
    s3: &Server,
    bucket: &str,
    origin: &str,
    method: &str,
    headers: &str,
) -> (StatusCode, HeaderMap) {
    let url = format!("http://{}/{bucket}/a", s3.address);
    let request = s3.http.request(Method::OPTIONS, url).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    let answer = request.header("access-control-request-headers", headers).send().await.unwrap();
    (answer.status(), answer.headers().clone())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

async fn a_preflight_is_answered_by_the_rules_of_the_bucket(s3: Arc<Server>) {
    let bucket = bucket_with_rules(&s3).await;
    let asked = "content-type,x-amz-checksum-crc64nvme";
    let page = "https://page.example";
    let (status, headers) = preflight(&s3, &bucket, page, "PUT", asked).await;
    s3.is("allowed", status.as_u16(), 200);
    s3.is("origin", text(&headers, "access-control-allow-origin"), Some(page));
    s3.is("seconds", text(&headers, "access-control-max-age"), Some("60"));
    let methods = text(&headers, "access-control-allow-methods").unwrap_or_default();
    s3.is("method", methods.contains("PUT"), true);
    let allowed = text(&headers, "access-control-allow-headers").unwrap_or_default().to_lowercase();
    s3.is("headers", allowed.contains("x-amz-checksum-crc64nvme"), true);
    let (status, headers) = preflight(&s3, &bucket, "https://page.other", "PUT", asked).await;
    s3.is("another page", status.as_u16(), 403);
    s3.is("another page", text(&headers, "access-control-allow-origin"), None);
    for (method, headers) in [("GET", asked), ("PUT", "x-other")] {
        let (status, headers) = preflight(&s3, &bucket, page, method, headers).await;
        let origin = text(&headers, "access-control-allow-origin");
        let found = (status.as_u16(), origin);
        s3.differs(Difference::PreflightLooksAtOriginOnly, found, (403, None), (200, Some(page)));
    }
}

async fn an_answer_says_which_page_may_read_it(s3: Arc<Server>) {
    let bucket = bucket_with_rules(&s3).await;
    let url = format!("http://{}/{bucket}/a", s3.address);
    // Refused for want of a signature: a page must be able to read that too.
    let put = |origin: &str| s3.http.put(&url).header("origin", origin).body("x").send();
    let answer = put("https://page.example").await.unwrap();
    s3.is("status", answer.status().as_u16(), 403);
    let origin = text(answer.headers(), "access-control-allow-origin");
    s3.is("origin", origin, Some("https://page.example"));
    let exposed = text(answer.headers(), "access-control-expose-headers").unwrap_or_default();
    s3.is("exposed", exposed, "ETag");
    let other = put("https://page.other").await.unwrap();
    s3.is("another page", text(other.headers(), "access-control-allow-origin"), None);
}

async fn rules_come_back_as_they_were_set(s3: Arc<Server>) {
    let bucket = bucket_with_rules(&s3).await;
    let get = || s3.client.get_bucket_cors().bucket(&bucket).send();
    let found = get().await.unwrap();
    let rule = &found.cors_rules()[0];
    s3.is("origins", rule.allowed_origins(), &["https://*.example".to_owned()][..]);
    s3.is("methods", rule.allowed_methods(), &["PUT".to_owned()][..]);
    s3.is("headers", rule.allowed_headers().len(), 2);
    s3.is("seconds", rule.max_age_seconds(), Some(60));
    let bad = CorsRule::builder().allowed_origins("*").allowed_methods("PATCH").build().unwrap();
    let bad = CorsConfiguration::builder().cors_rules(bad).build().unwrap();
    let put = s3.client.put_bucket_cors().bucket(&bucket).cors_configuration(bad).send().await;
    s3.is("a method that S3 has not", outcome(&put), refused(400, "InvalidRequest"));
    s3.client.delete_bucket_cors().bucket(&bucket).send().await.unwrap();
    s3.is("none", outcome(&get().await), refused(404, "NoSuchCORSConfiguration"));
}

/// No rule of AWS, where such a bucket is closed: what makes a page work against a server on this machine.
async fn a_bucket_without_rules_on_loopback_is_open_to_any_page(s3: Arc<Server>) {
    let page = "http://localhost:8000";
    let asked = "content-type,x-amz-checksum-crc64nvme";
    let (status, headers) = preflight(&s3, &s3.bucket, page, "PUT", asked).await;
    s3.is("allowed", status.as_u16(), 200);
    let origin = text(&headers, "access-control-allow-origin");
    s3.is("origin", origin.is_some_and(|origin| origin == "*" || origin == page), true);
    let url = format!("http://{}/{}/{}", s3.address, s3.bucket, s3.key("a"));
    let answer = s3.http.get(url).header("origin", page).send().await.unwrap();
    let exposed = text(answer.headers(), "access-control-expose-headers").unwrap_or_default();
    s3.is("the ETag", exposed.to_lowercase().contains("etag"), true);
    let checksums = exposed.contains("x-amz-checksum-crc64nvme");
    s3.differs(Difference::ChecksumsAreNotExposed, checksums, true, false);
}
