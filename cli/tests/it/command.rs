//! `upflow` as people run it: the bare command, and `upflow upload`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::client::{MIB, noise};
use crate::harness::{Stack, Suite, eventually};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "command":
    upload_sends_files_and_ends_with_0_once_they_are_complete,
    upload_of_an_empty_file_completes,
    upload_killed_in_the_middle_resumes_when_run_again,
    upload_of_a_file_that_changed_since_begins_anew,
    upload_says_what_is_wrong_and_ends_with_another_code,
};

/// Everything in one process.
pub const BARE: Suite = suite! { "bare":
    the_bare_command_says_what_to_open_and_works,
    ctrl_c_ends_it_with_0_and_a_restart_goes_on_where_it_was,
    killed_with_9_it_goes_on_where_it_was,
    a_taken_port_is_a_clear_error,
};

fn file(stack: &Stack, name: &str, bytes: &[u8]) -> PathBuf {
    let path = stack.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn upload(stack: &Stack, server: &str, files: &[&Path]) -> Command {
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
async fn uploads(stack: &Stack, server: &str) -> Vec<Value> {
    let page: Value =
        stack.http().get(format!("{server}/uploads")).send().await.unwrap().json().await.unwrap();
    page["uploads"].as_array().unwrap().clone()
}

async fn downloaded(stack: &Stack, server: &str, id: &str) -> bytes::Bytes {
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
    // For scripts: a JSON object a line, without anything secret.
    let ended = run(upload(&stack, &server, &[&paths[1]]).arg("--json")).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!lines(&ended.out).is_empty());
    assert!(!ended.out.contains("X-Amz-Signature"), "{}", ended.out);
}

async fn upload_of_an_empty_file_completes(stack: Stack) {
    let path = file(&stack, "empty", b"");
    let server = stack.url("");
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(uploads(&stack, &server).await[0]["status"], "completed");
}

async fn upload_killed_in_the_middle_resumes_when_run_again(stack: Stack) {
    let bytes = noise(48 * MIB);
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
    assert!(sent < 48, "it was killed too late to tell");

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

/// The bare command on free ports, with its own data folder.
fn bare(stack: &Stack, port: u16, s3_port: u16) -> Command {
    let mut command = program("upflow");
    command
        .current_dir(stack.dir())
        .env("UPFLOW_PORT", port.to_string())
        .env("UPFLOW_LEASE", "2s")
        .args(["--s3-port", &s3_port.to_string(), "--data-dir", "own data"]);
    command
}

async fn the_bare_command_says_what_to_open_and_works(stack: Stack) {
    let (port, s3_port) = (free_port(), free_port());
    let mut running = Running::start(&mut bare(&stack, port, s3_port));
    let said = running.says("Ctrl-C").await;
    let server = format!("http://127.0.0.1:{port}");
    for text in [&format!("{server}/"), &format!("{server}/docs"), "own data", "upload FILE"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let bytes = noise(17 * MIB);
    let path = file(&stack, "file.bin", &bytes);
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found = uploads(&stack, &server).await;
    let id = found[0]["upload_id"].as_str().unwrap();
    assert!(downloaded(&stack, &server, id).await == bytes);
    let keys = stack.dir().join("own data/s3-credentials.json");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(keys).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "readable by its owner only");
}

async fn ctrl_c_ends_it_with_0_and_a_restart_goes_on_where_it_was(stack: Stack) {
    let (port, s3_port) = (free_port(), free_port());
    let server = format!("http://127.0.0.1:{port}");
    let mut running = Running::start(&mut bare(&stack, port, s3_port));
    running.says("Ctrl-C").await;
    let bytes = noise(24 * MIB);
    let path = file(&stack, "file.bin", &bytes);
    let mut command = upload(&stack, &server, &[&path]);
    let half = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "1"]));
    eventually("some chunks are confirmed", || async {
        let count = uploads(&stack, &server).await.first()?["uploaded_chunks_count"].as_i64()?;
        (count >= 2).then_some(())
    })
    .await;
    half.kill().await;
    running.signal("INT").await;
    let (code, said) = running.ended().await;
    assert_eq!(code, Some(0), "{said}");
    let again = Running::start(&mut bare(&stack, port, s3_port));
    serves(stack.http(), port).await;
    let ended = run(upload(&stack, &server, &[&path]).args(["--chunk-size", "1MiB"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}\n{}", again.said());
    let found = uploads(&stack, &server).await;
    assert_eq!(found.len(), 1);
    let id = found[0]["upload_id"].as_str().unwrap();
    assert!(downloaded(&stack, &server, id).await == bytes);
}

async fn killed_with_9_it_goes_on_where_it_was(stack: Stack) {
    let (port, s3_port) = (free_port(), free_port());
    let server = format!("http://127.0.0.1:{port}");
    let bytes = noise(30 * MIB);
    let path = file(&stack, "file.bin", &bytes);
    let mut running = Running::start(&mut bare(&stack, port, s3_port));
    running.says("Ctrl-C").await;
    let mut command = upload(&stack, &server, &[&path]);
    let mut sending = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "2"]));
    // Killed again and again while the client goes on trying.
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        running.kill().await;
        running = Running::start(&mut bare(&stack, port, s3_port));
        running.says("Ctrl-C").await;
    }
    let status = sending.child.wait().await.unwrap();
    if !status.success() {
        // It may have given up meanwhile; running it again is all it takes.
        let ended = run(upload(&stack, &server, &[&path]).args(["--chunk-size", "1MiB"])).await;
        assert_eq!(ended.code, Some(0), "{ended:?}\n{}", running.said());
    }
    let found = uploads(&stack, &server).await;
    let done = found.iter().find(|upload| upload["status"] == "completed").unwrap();
    assert!(downloaded(&stack, &server, done["upload_id"].as_str().unwrap()).await == bytes);
}

async fn a_taken_port_is_a_clear_error(stack: Stack) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (mut command, flag) in [
        (bare(&stack, port, free_port()), "--port"),
        (bare(&stack, free_port(), port), "--s3-port"),
    ] {
        let ended = run(&mut command).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let text = format!("port {port} on 127.0.0.1 is taken");
        assert!(ended.err.contains(&text) && ended.err.contains(flag), "{}", ended.err);
    }
    let ended = run(&mut bare(&stack, port, port)).await;
    assert!(ended.err.contains("choose two ports"), "{}", ended.err);
}
