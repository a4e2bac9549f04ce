//! `upflow` without a command, as people run it: everything in one process.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use upflow_core::config::{StaticCredentials, StorageSettings};
use upflow_core::metrics::Metrics;
use upflow_core::storage::{Storage, chunks, finals};

use crate::client::{MIB, noise};
use crate::command::{downloaded, file, upload, uploads};
use crate::harness::{Stack, Suite, eventually};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "bare":
    the_bare_command_says_what_to_open_and_works,
    ctrl_c_ends_it_with_0_and_a_restart_goes_on_where_it_was,
    killed_with_9_it_goes_on_where_it_was,
    it_goes_on_when_nobody_reads_what_it_says,
    a_lost_database_before_a_full_store_loses_nothing,
    a_taken_port_is_a_clear_error,
};

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
    let bytes = noise(48 * MIB);
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
    let bytes = noise(120 * MIB);
    let path = file(&stack, "file.bin", &bytes);
    let mut running = Running::start(&mut bare(&stack, port, s3_port));
    running.says("Ctrl-C").await;
    let mut command = upload(&stack, &server, &[&path]);
    let mut sending = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "1"]));
    // Killed again and again while the client goes on trying: each time once more has been confirmed.
    let mut confirmed = 0;
    for _ in 0..3 {
        confirmed = eventually("more chunks are confirmed", || async {
            let answer = stack.http().get(format!("{server}/uploads")).send().await.ok()?;
            let page: Value = answer.json().await.ok()?;
            let count = page["uploads"][0]["uploaded_chunks_count"].as_i64()?;
            (count > confirmed).then_some(count)
        })
        .await;
        running.kill().await;
        running = Running::start(&mut bare(&stack, port, s3_port));
        running.says("Ctrl-C").await;
    }
    assert!(confirmed < 120, "the last kill came after the last chunk");
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

async fn it_goes_on_when_nobody_reads_what_it_says(stack: Stack) {
    let (port, s3_port) = (free_port(), free_port());
    let mut command = bare(&stack, port, s3_port);
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // What it says comes to a closed pipe.
    drop(running.stdout.take());
    serves(stack.http(), port).await;
    let bytes = noise(MIB);
    let path = file(&stack, "file.bin", &bytes);
    let server = format!("http://127.0.0.1:{port}");
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    running.kill().await.unwrap();
}

/// The S3 server of a bare command, as a client with its keys sees it.
async fn store_of_bare(stack: &Stack, s3_port: u16) -> Storage {
    let keys = std::fs::read(stack.dir().join("own data/s3-credentials.json")).unwrap();
    let keys: Value = serde_json::from_slice(&keys).unwrap();
    let key = |name: &str| keys[name].as_str().unwrap().to_owned();
    let endpoint: url::Url = format!("http://127.0.0.1:{s3_port}").parse().unwrap();
    let settings = StorageSettings {
        region: "us-east-1".to_owned(),
        bucket: "upflow".to_owned(),
        endpoint: Some(endpoint.clone()),
        public_endpoint: Some(endpoint),
        path_style: true,
        key_prefix: String::new(),
        chunk_tag: None,
        timeout: Duration::from_secs(10),
        max_calls: 16,
        credentials: Some(StaticCredentials {
            access_key: key("access_key"),
            secret_key: key("secret_key"),
        }),
    };
    Storage::connect(&settings, &Metrics::default()).await
}

async fn a_lost_database_before_a_full_store_loses_nothing(stack: Stack) {
    let (port, s3_port) = (free_port(), free_port());
    let server = format!("http://127.0.0.1:{port}");
    let start = || {
        let mut command = bare(&stack, port, s3_port);
        command.env("UPFLOW_JANITOR_INTERVAL", "100ms").env("UPFLOW_ORPHAN_INTERVAL", "1s");
        Running::start(&mut command)
    };
    let mut running = start();
    running.says("Ctrl-C").await;
    let (done, open) = (noise(12 * MIB), vec![7; 150 * MIB]);
    let path = file(&stack, "done.bin", &done);
    let ended = run(&mut upload(&stack, &server, &[&path])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let done_id: uuid::Uuid =
        uploads(&stack, &server).await[0]["upload_id"].as_str().unwrap().parse().unwrap();
    let path = file(&stack, "open.bin", &open);
    let mut command = upload(&stack, &server, &[&path]);
    let half = Running::start(command.args(["--chunk-size", "1MiB", "--parallel", "1"]));
    let open_id: uuid::Uuid = eventually("some chunks are confirmed", || async {
        let newest = uploads(&stack, &server).await.remove(0);
        let count = newest["uploaded_chunks_count"].as_i64()?;
        (newest["filename"] == "open.bin" && count >= 2)
            .then(|| newest["upload_id"].as_str().unwrap().parse().unwrap())
    })
    .await;
    half.kill().await;
    running.signal("TERM").await;
    assert_eq!(running.ended().await.0, Some(0));
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(stack.dir().join(format!("own data/upflow.db{end}")));
    }

    let mut running = start();
    running.says("that this database does not know").await;
    assert!(uploads(&stack, &server).await.is_empty());
    let storage = store_of_bare(&stack, s3_port).await;
    let chunks = storage.list(&chunks(open_id), None).await.unwrap().objects;
    assert!(chunks.len() >= 2, "{chunks:?}");
    let finals = storage.list(&finals(done_id), None).await.unwrap().objects;
    assert_eq!((finals.len(), finals[0].size), (1, done.len() as i64));
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
