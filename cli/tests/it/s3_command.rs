//! `upflow s3`: the local store alone, as people run it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use aws_sdk_s3::Client;
use serde_json::Value;
use tokio::process::Command;
use upflow_core::config::StaticCredentials;

use crate::backends::client;
use crate::client::noise;
use crate::harness::{Stack, Suite};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "s3":
    it_says_where_it_is_and_keeps_its_keys_to_itself,
    it_prints_the_keys_when_asked_as_lines_for_a_shell,
    keys_bucket_and_region_are_those_of_the_environment,
    one_key_without_the_other_is_refused_by_the_bare_command_too,
    ctrl_c_and_term_end_it_with_0_and_what_was_put_is_there_again,
    a_taken_port_and_a_folder_in_use_are_clear_errors,
    the_bare_command_goes_on_with_its_folder,
};

/// `upflow s3` on any free port, in a folder of the test's own.
fn s3(stack: &Stack) -> Command {
    let mut command = program("upflow");
    command.current_dir(stack.dir()).args(["s3", "--s3-port", "0", "--data-dir", "own data"]);
    command
}

fn address(said: &str) -> SocketAddr {
    let address = said.split_once("Endpoint     http://").unwrap().1;
    address.split_whitespace().next().unwrap().parse().unwrap()
}

/// The keys that the folder has.
fn stored(stack: &Stack) -> StaticCredentials {
    let text = std::fs::read(stack.dir().join("own data/s3-credentials.json")).unwrap();
    let stored: Value = serde_json::from_slice(&text).unwrap();
    let key = |name: &str| stored[name].as_str().unwrap().to_owned();
    StaticCredentials { access_key: key("access_key"), secret_key: key("secret_key") }
}

async fn put(client: &Client, bucket: &str, key: &str) {
    let put = client.put_object().bucket(bucket).key(key).body(noise(1_000).into());
    put.send().await.unwrap();
}

async fn is_there(client: &Client, bucket: &str, key: &str) -> bool {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    got.body.collect().await.unwrap().into_bytes() == noise(1_000)
}

async fn it_says_where_it_is_and_keeps_its_keys_to_itself(stack: Stack) {
    let mut running = Running::start(&mut s3(&stack));
    let said = running.says("Ctrl-C").await;
    let keys = stored(&stack);
    let lines: Vec<Vec<&str>> =
        said.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [["Bucket", "upflow"], ["Region", "us-east-1"]] {
        assert!(lines.iter().any(|found| found == &line), "{line:?}: {said}");
    }
    assert!(said.contains("own data/s3-credentials.json"), "{said}");
    assert!(!said.contains(&keys.access_key) && !said.contains(&keys.secret_key), "{said}");
    let file = std::fs::metadata(stack.dir().join("own data/s3-credentials.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o077, 0, "readable by its owner only");
    put(&client(address(&said), &keys, "us-east-1"), "upflow", "a").await;
    // The keys are made once.
    running.kill().await;
    let mut again = Running::start(&mut s3(&stack));
    let said = again.says("Ctrl-C").await;
    assert!(is_there(&client(address(&said), &keys, "us-east-1"), "upflow", "a").await);
}

async fn it_prints_the_keys_when_asked_as_lines_for_a_shell(stack: Stack) {
    let mut running = Running::start(s3(&stack).arg("--show-keys"));
    let said = running.says("Ctrl-C").await;
    let exports: Vec<&str> = said.lines().filter(|line| line.starts_with("export ")).collect();
    let script = format!("{}\nenv", exports.join("\n"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).env_clear().env("PATH", "/usr/bin:/bin");
    let read = run(&mut shell).await.out;
    let keys = stored(&stack);
    for (name, value) in [
        ("AWS_ENDPOINT_URL_S3", format!("http://{}", address(&said))),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", keys.access_key),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_key),
    ] {
        assert!(read.lines().any(|line| line == format!("{name}={value}")), "{name}: {read}");
    }
}

async fn keys_bucket_and_region_are_those_of_the_environment(stack: Stack) {
    let keys = StaticCredentials {
        access_key: "my-key".to_owned(),
        secret_key: "it's/my+secret".to_owned(),
    };
    let mut command = s3(&stack);
    command
        .env("UPFLOW_S3_ACCESS_KEY", &keys.access_key)
        .env("UPFLOW_S3_SECRET_KEY", &keys.secret_key)
        .env("UPFLOW_S3_BUCKET", "my-bucket")
        .env("UPFLOW_S3_REGION", "eu-test-1");
    let mut running = Running::start(command.arg("--show-keys"));
    let said = running.says("Ctrl-C").await;
    assert!(said.contains("my-bucket") && said.contains("eu-test-1"), "{said}");
    assert!(said.contains(r"export AWS_SECRET_ACCESS_KEY='it'\''s/my+secret'"), "{said}");
    let right = client(address(&said), &keys, "eu-test-1");
    put(&right, "my-bucket", "a").await;
    assert!(is_there(&right, "my-bucket", "a").await);
    let elsewhere = client(address(&said), &keys, "us-east-1");
    assert!(elsewhere.list_objects_v2().bucket("my-bucket").send().await.is_err());
    assert!(right.head_bucket().bucket("upflow").send().await.is_err(), "only the one asked for");
    assert!(!stack.dir().join("own data/s3-credentials.json").exists(), "none are made");
}

async fn one_key_without_the_other_is_refused_by_the_bare_command_too(stack: Stack) {
    let mut bare = program("upflow");
    bare.current_dir(stack.dir()).args(["--data-dir", "own data"]);
    for mut command in [s3(&stack), bare] {
        let ended = run(command.env("UPFLOW_S3_SECRET_KEY", "hush-hush")).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("UPFLOW_S3_ACCESS_KEY is not set"), "{}", ended.err);
        assert!(!ended.err.contains("hush-hush"), "{}", ended.err);
    }
    let mut command = s3(&stack);
    command.env("UPFLOW_S3_BUCKET", "My_Bucket").env("UPFLOW_S3_REGION", "");
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for text in ["UPFLOW_S3_BUCKET must be", "My_Bucket", "UPFLOW_S3_REGION must be"] {
        assert!(ended.err.contains(text), "{text}: {}", ended.err);
    }
    assert!(!stack.dir().join("own data").exists(), "nothing is made before all is checked");
}

async fn ctrl_c_and_term_end_it_with_0_and_what_was_put_is_there_again(stack: Stack) {
    for (signal, key) in [("INT", "a"), ("TERM", "b")] {
        let mut running = Running::start(&mut s3(&stack));
        let said = running.says("Ctrl-C").await;
        let client = client(address(&said), &stored(&stack), "us-east-1");
        put(&client, "upflow", key).await;
        assert!(is_there(&client, "upflow", "a").await);
        running.signal(signal).await;
        let (code, said) = running.ended().await;
        assert_eq!(code, Some(0), "{said}");
    }
}

async fn a_taken_port_and_a_folder_in_use_are_clear_errors(stack: Stack) {
    let mut running = Running::start(&mut s3(&stack));
    let port = address(&running.says("Ctrl-C").await).port();
    let mut command = program("upflow");
    command
        .args(["s3", "--s3-port", &port.to_string(), "--data-dir"])
        .arg(stack.dir().join("other"));
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let taken = format!("port {port} on 127.0.0.1 is taken");
    assert!(ended.err.contains(&taken) && ended.err.contains("--s3-port"), "{}", ended.err);
    let ended = run(&mut s3(&stack)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("own data is in use by another upflow"), "{}", ended.err);
    assert!(ended.err.contains("--data-dir"), "{}", ended.err);
}

async fn the_bare_command_goes_on_with_its_folder(stack: Stack) {
    let mut running = Running::start(&mut s3(&stack));
    let said = running.says("Ctrl-C").await;
    put(&client(address(&said), &stored(&stack), "us-east-1"), "upflow", "a").await;
    running.signal("TERM").await;
    assert_eq!(running.ended().await.0, Some(0));
    let (port, s3_port) = (free_port(), free_port());
    let mut bare = program("upflow");
    bare.current_dir(stack.dir()).args(["--data-dir", "own data"]);
    bare.args(["--port", &port.to_string(), "--s3-port", &s3_port.to_string()]);
    let _running = Running::start(&mut bare);
    serves(stack.http(), port).await;
    let address = SocketAddr::from(([127, 0, 0, 1], s3_port));
    assert!(is_there(&client(address, &stored(&stack), "us-east-1"), "upflow", "a").await);
}
