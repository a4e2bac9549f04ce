//! `upflow upload` as people run it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::client::{MIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::programs::{Running, free_port, program, run};
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "command":
    upload_sends_files_and_ends_with_0_once_they_are_complete,
    upload_speaks_json_to_scripts_and_tells_no_secret,
    upload_gets_fresh_urls_when_one_has_died_on_the_way,
    upload_of_an_empty_file_completes,
    upload_killed_in_the_middle_resumes_when_run_again,
    upload_of_a_file_that_changed_since_begins_anew,
    upload_says_what_is_wrong_and_ends_with_another_code,
};

pub fn file(stack: &Stack, name: &str, bytes: &[u8]) -> PathBuf {
    let path = stack.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub fn upload(stack: &Stack, server: &str, files: &[&Path]) -> Command {
    let mut command = program("upflow");
    command
        .current_dir(stack.dir())
        .env("UPFLOW_STATE_DIR", stack.dir().join("state"))
        .args(["upload", "--server", server])
        .args(files);
    command
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The uploads of the server at `server`.
pub async fn uploads(stack: &Stack, server: &str) -> Vec<Value> {
    let page: Value =
        stack.http().get(format!("{server}/uploads")).send().await.unwrap().json().await.unwrap();
    page["uploads"].as_array().unwrap().clone()
}

pub async fn downloaded(stack: &Stack, server: &str, id: &str) -> bytes::Bytes {
    let url = format!("{server}/uploads/{id}/download");
    let download: Value = stack.http().get(url).send().await.unwrap().json().await.unwrap();
    let url = download["url"].as_str().unwrap();
    stack.http().get(url).send().await.unwrap().bytes().await.unwrap()
}

async fn upload_sends_files_and_ends_with_0_once_they_are_complete(stack: Stack) {
    let (small, large) = (noise(100), noise(21 * MIB));
    let paths = [file(&stack, "small file.txt", &small), file(&stack, "größe.bin", &large)];
    let server = stack.url("");
    let ended = run(&mut upload(&stack, &server, &[&paths[0], &paths[1]])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found = uploads(&stack, &server).await;
    assert_eq!(found.len(), 2);
    for upload in found {
        assert_eq!(upload["status"], "completed");
        assert_ne!(upload["integrity"]["level"], "size_only");
        let expected = if upload["filename"] == "größe.bin" { &large } else { &small };
        let id = upload["upload_id"].as_str().unwrap();
        assert!(downloaded(&stack, &server, id).await == *expected);
    }
}

async fn upload_speaks_json_to_scripts_and_tells_no_secret(stack: Stack) {
    let bytes = noise(21 * MIB);
    let path = file(&stack, "größe.bin", &bytes);
    let server = stack.url("");
    let ended = run(upload(&stack, &server, &[&path]).arg("--json")).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.out.contains("X-Amz-") && !ended.err.contains("X-Amz-"), "{ended:?}");
    let events = lines(&ended.out);
    let (started, completed) = (&events[0], events.last().unwrap());
    for event in &events {
        assert!(event["file"].as_str().unwrap().ends_with("größe.bin"), "{event}");
    }
    assert_eq!(started["event"], "started");
    assert_eq!(started["total_chunks"], 3);
    assert_eq!(started["chunk_size"], 8 * MIB);
    assert_eq!(started["sent_bytes"], 0);
    assert_eq!(completed["event"], "completed");
    assert_eq!(completed["upload_id"], started["upload_id"]);
    assert_eq!(completed["file_size"], 21 * MIB);
    assert_eq!(completed["sent_bytes"], 21 * MIB);
    assert_eq!(completed["resumed"], false);
    assert_eq!(completed["integrity"]["value"], crate::client::crc64(&bytes));
    assert!(completed["final_s3_key"].as_str().unwrap().ends_with("/final/größe.bin"));
    assert!(completed["duration_seconds"].is_number() && completed["bytes_per_second"].is_number());
    // What goes wrong is an event too.
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let ended = run(upload(&stack, &nobody, &[&path]).args(["--json", "--quiet"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = lines(&ended.out).pop().unwrap();
    assert_eq!(failed["event"], "failed");
    assert!(failed["code"].is_string() && failed["detail"].is_string(), "{failed}");
}

async fn upload_gets_fresh_urls_when_one_has_died_on_the_way(stack: Stack) {
    let mut options = Options { proxied: true, ..Options::default() };
    options.limits.url_life = Duration::from_secs(2);
    let stack = stack.sibling(options).await;
    // The first two chunks come to S3 when their URLs are dead.
    let count = AtomicUsize::new(0);
    stack.proxy().rule(move |call| {
        let put = call.operation == Operation::PutObject;
        (put && count.fetch_add(1, Ordering::Relaxed) < 2)
            .then_some(Fault::Delay(Duration::from_millis(3_500)))
    });
    let bytes = noise(6 * MIB);
    let path = file(&stack, "late.bin", &bytes);
    let server = stack.url("");
    let mut command = upload(&stack, &server, &[&path]);
    let ended = run(command.args(["--chunk-size", "1MiB", "--parallel", "2"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let puts = stack.proxy().count(Operation::PutObject);
    assert!(puts >= 8, "6 chunks, 2 of them refused once: {puts}");
    let found = uploads(&stack, &server).await;
    assert!(downloaded(&stack, &server, found[0]["upload_id"].as_str().unwrap()).await == bytes);
}

async fn upload_of_an_empty_file_completes(stack: Stack) {
    let path = file(&stack, "empty", b"");
    let server = stack.url("");
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(uploads(&stack, &server).await[0]["status"], "completed");
}

async fn upload_killed_in_the_middle_resumes_when_run_again(stack: Stack) {
    let bytes = noise(96 * MIB);
    let path = file(&stack, "resume.bin", &bytes);
    let server = stack.url("");
    let mut command = upload(&stack, &server, &[&path]);
    let killed = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "2"]));
    eventually("some chunks are confirmed", || async {
        let found = uploads(&stack, &server).await;
        let count = found.first()?["uploaded_chunks_count"].as_i64()?;
        (count >= 4).then_some(())
    })
    .await;
    killed.kill().await;
    let before = uploads(&stack, &server).await[0].clone();
    let sent = before["uploaded_chunks_count"].as_i64().unwrap();
    assert!(sent < 96, "it was killed too late to tell");

    let mut command = upload(&stack, &server, &[&path]);
    let ended = run(command.args(["--chunk-size", "1MiB", "--json"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found = uploads(&stack, &server).await;
    assert_eq!(found.len(), 1, "the same upload goes on");
    assert_eq!(found[0]["upload_id"], before["upload_id"]);
    assert!(ended.out.contains("resumed"), "{}", ended.out);
    let id = found[0]["upload_id"].as_str().unwrap();
    assert!(downloaded(&stack, &server, id).await == bytes);
    // The state of a finished upload is gone.
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(uploads(&stack, &server).await.len(), 2);
}

async fn upload_of_a_file_that_changed_since_begins_anew(stack: Stack) {
    let path = file(&stack, "changed.bin", &noise(32 * MIB));
    let server = stack.url("");
    let mut command = upload(&stack, &server, &[&path]);
    let killed = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "1"]));
    eventually("a chunk is confirmed", || async {
        let found = uploads(&stack, &server).await;
        (found.first()?["uploaded_chunks_count"].as_i64()? >= 1).then_some(())
    })
    .await;
    killed.kill().await;
    let new = noise(3 * MIB);
    file(&stack, "changed.bin", &new);
    let ended = run(upload(&stack, &server, &[&path]).args(["--chunk-size", "1MiB"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found = uploads(&stack, &server).await;
    let statuses: Vec<&str> = found.iter().map(|u| u["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["completed", "aborted"], "newest first");
    let id = found[0]["upload_id"].as_str().unwrap();
    assert!(downloaded(&stack, &server, id).await == new);
}

async fn upload_says_what_is_wrong_and_ends_with_another_code(stack: Stack) {
    let server = stack.url("");
    let good = file(&stack, "good", b"good");
    let missing = stack.dir().join("missing");
    let ended = run(&mut upload(&stack, &server, &[&good, &missing])).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("missing"), "{}", ended.err);
    let ended = run(&mut upload(&stack, &server, &[stack.dir()])).await;
    assert_eq!(ended.code, Some(2), "a folder: {ended:?}");
    assert!(uploads(&stack, &server).await.is_empty(), "checked before anything is sent");
    let ended = run(upload(&stack, &server, &[&good]).args(["--chunk-size", "1KiB"])).await;
    assert_ne!(ended.code, Some(0));
    assert!(ended.err.contains("chunk"), "{}", ended.err);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let ended = run(&mut upload(&stack, &nobody, &[&good])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("127.0.0.1"), "{}", ended.err);
}
