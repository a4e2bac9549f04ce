//! What a server has to bear: requests that never end, words that would be headers or paths, pages that
//! may run nothing foreign.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use upflow_api::config::ServeSettings;
use upflow_api::limits::ClientLimits;

use crate::client::noise;
use crate::harness::{Options, Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "hardening":
    a_request_that_never_ends_is_cut,
    an_answer_that_nobody_reads_is_cut,
    answers_and_pages_say_what_may_be_done_with_them,
    neither_filename_nor_type_nor_metadata_become_a_header_or_a_path,
};

/// What the server says to `request`, sent byte by byte where it is `slow`, until it closes; and when.
async fn told(stack: &Stack, request: &str, slow: bool) -> (String, Duration) {
    let began = Instant::now();
    let address = stack.url("").replace("http://", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let bytes = request.as_bytes();
        for piece in bytes.chunks(if slow { 1 } else { bytes.len() }) {
            // An error means that the server has closed.
            if writer.write_all(piece).await.is_err() {
                break;
            }
            if slow {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut text = Vec::new();
        // Reset counts as closed.
        let _ = reader.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::select! {
        text = read => (text, began.elapsed()),
        () = write => unreachable!(),
    }
}

async fn a_request_that_never_ends_is_cut(stack: Stack) {
    let second = Duration::from_secs(1);
    let limits =
        ClientLimits { header_timeout: second, body_timeout: second, ..ClientLimits::default() };
    let options = Options { serve: ServeSettings::open(limits), ..Options::default() };
    let stack = stack.sibling(options).await;
    let head =
        "POST /uploads/init HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    // A head that drips for ever, a body that was promised, one in pieces without an end.
    let (text, took) = told(&stack, &head.repeat(3), true).await;
    assert!(!text.contains("200"), "{text}");
    assert!(took >= second && took < 8 * second, "{took:?}");
    for body in ["content-length: 100\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let (text, took) = told(&stack, &format!("{head}{body}"), false).await;
        assert!(text.starts_with("HTTP/1.1 408"), "{text}");
        assert!(text.contains("body_timeout"), "{text}");
        assert!(took < 8 * second, "{took:?}");
    }
    assert_eq!(stack.get("/uploads").await.expect(200)["uploads"], json!([]));
}

/// The state of the connection to this port from that one, as the kernel numbers them: 1 is an open one.
fn state_of(server: u16, client: u16) -> Option<u8> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let end = |port: u16| format!(":{port:04X}");
    let row = rows.find(|row| row[1].ends_with(&end(server)) && row[2].ends_with(&end(client)))?;
    u8::from_str_radix(row[3], 16).ok()
}

async fn an_answer_that_nobody_reads_is_cut(stack: Stack) {
    let limits = ClientLimits { header_timeout: Duration::from_secs(1), ..ClientLimits::default() };
    let options = Options { serve: ServeSettings::open(limits), ..Options::default() };
    let stack = stack.sibling(options).await;
    let server = url::Url::parse(&stack.url("/")).unwrap().port().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], server).into()).await.unwrap();
    let client = stream.local_addr().unwrap().port();
    // More than the kernel keeps for a peer that does not read.
    let requests = "GET /docs HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(8);
    stream.write_all(requests.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    assert_eq!(state_of(server, client), Some(1));
    eventually("the server has closed its end", || async {
        (state_of(server, client) != Some(1)).then_some(())
    })
    .await;
    // Not because all of it was sent.
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    let whole = stack.http().get(stack.url("/docs")).send().await.unwrap().bytes().await.unwrap();
    assert!(text.len() < 8 * whole.len(), "{} of {}", text.len(), 8 * whole.len());
}

async fn answers_and_pages_say_what_may_be_done_with_them(stack: Stack) {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    for path in ["/uploads", "/nowhere", "/openapi.json", "/docs", "/health/live"] {
        let answer = stack.get(path).await;
        assert_eq!(text(&answer.headers, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(text(&answer.headers, "referrer-policy"), "no-referrer", "{path}");
        let policy = text(&answer.headers, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("script-src 'unsafe"), "{path}: {policy}");
        assert_eq!(text(&answer.headers, "x-request-id").len(), 36, "{path}");
    }
    let first = text(&stack.get("/uploads").await.headers, "x-request-id");
    assert_ne!(first, text(&stack.get("/uploads").await.headers, "x-request-id"));
}

async fn neither_filename_nor_type_nor_metadata_become_a_header_or_a_path(stack: Stack) {
    // What is refused.
    for (field, value) in [
        ("filename", json!("a\r\nx-evil: 1")),
        ("filename", json!("../../chunks/0")),
        ("filename", json!("..\\a")),
        ("content_type", json!("text/html\r\nx-evil: 1")),
        ("content_type", json!("text/html; a=\"\u{0}\"")),
        ("metadata", json!({ "a": "\u{0}" })),
    ] {
        let mut body = json!({ "filename": "a", "file_size": 1 });
        body[field] = value;
        stack.post("/uploads/init", body).await.expect_problem(422, "invalid_request");
    }
    // What is taken, and stays what it is.
    let filename = "a\"; filename=evil.exe; x=%0d%0ax-evil: 1 #?&.txt";
    let metadata = json!({ "x-amz-acl": "public-read", "note": "a\r\nx-evil: 1" });
    let bytes = noise(10);
    let upload = stack
        .init(json!({
            "filename": filename, "file_size": 10, "content_type": "text/html",
            "metadata": metadata,
        }))
        .await;
    upload.send_all(&bytes).await;
    let whole = upload.complete_and_wait().await;
    assert_eq!(whole["metadata"], metadata);
    let key = whole["final_s3_key"].as_str().unwrap();
    assert!(key.ends_with(&format!("uploads/{}/final/{filename}", upload.id)), "{key}");
    let (found, headers) = upload.download().await;
    assert_eq!(found, bytes);
    assert!(!headers.contains_key("x-evil"));
    let disposition = headers["content-disposition"].to_str().unwrap();
    // A quoted name that nothing ends but its last quote.
    assert!(disposition.starts_with("attachment; filename=\""), "{disposition}");
    let (quoted, rest) = disposition["attachment; filename=\"".len()..].split_once("\"; ").unwrap();
    assert!(!quoted.replace("\\\"", "").contains('"'), "{disposition}");
    assert!(rest.starts_with("filename*=UTF-8''") && !rest.contains(' '), "{disposition}");
}
