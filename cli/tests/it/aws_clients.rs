//! Strangers at the door of `upflow s3`: the Python SDK and the AWS command line, as they come from PyPI, with
//! the settings that it prints.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use libtest_mimic::Trial;
use tokio::process::Command;
use upflow_core::config::StaticCredentials;

use crate::backends::client;
use crate::client::{MIB, noise};
use crate::harness::{Backend, Stack, Suite};
use crate::programs::{Running, program, run};
use crate::suite;

const SUITE: Suite = suite! { "aws_clients":
    boto3_sends_a_file_in_parts_and_lists_2500_keys,
    the_aws_command_line_sends_a_file_in_parts_and_lists_2500_keys,
};

const KEYS: usize = 2_500;

/// Ignored where no Python with both is named, but never by `scripts/test`.
pub fn trials() -> impl Iterator<Item = Trial> {
    let required = std::env::var_os("TEST_REQUIRE_SERVICES").is_some();
    let ignored = python().is_none() && !required;
    SUITE.trials(Backend::Embedded).into_iter().map(move |trial| trial.with_ignored_flag(ignored))
}

fn python() -> Option<PathBuf> {
    std::env::var_os("TEST_AWS_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A server, and what it prints for a shell.
async fn start(stack: &Stack) -> (Running, Vec<(String, String)>) {
    let mut command = program("upflow");
    command.args(["s3", "--show-keys", "--s3-port", "0", "--data-dir"]).arg(stack.dir().join("s3"));
    let mut running = Running::start(&mut command);
    let said = running.says("Ctrl-C").await;
    let exports = said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let unquoted = |value: &str| value.trim_matches('\'').to_owned();
    let exports = exports.map(|(name, value)| (name.to_owned(), unquoted(value))).collect();
    (running, exports)
}

/// Python with these settings and no others.
fn sdk(stack: &Stack, settings: &[(String, String)]) -> Command {
    let python = python().expect("TEST_AWS_PYTHON is not set: use scripts/test");
    let mut command = Command::new(python);
    command.env_clear().env("HOME", stack.dir()).env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    command.env("LC_ALL", "C.UTF-8").env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

async fn boto3_sends_a_file_in_parts_and_lists_2500_keys(stack: Stack) {
    let (_running, settings) = start(&stack).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/aws_clients/boto3_client.py");
    let ended = run(sdk(&stack, &settings).arg(script).arg(stack.dir())).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
}

async fn the_aws_command_line_sends_a_file_in_parts_and_lists_2500_keys(stack: Stack) {
    let (_running, settings) = start(&stack).await;
    let aws = async |arguments: &[&str]| {
        let mut command = sdk(&stack, &settings);
        command.current_dir(stack.dir()).args(["-m", "awscli"]).args(arguments);
        let ended = run(&mut command).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.out, ended.err);
        ended.out
    };
    // Above 8 MiB it sends parts.
    let bytes = noise(20 * MIB);
    std::fs::write(stack.dir().join("film.mp4"), &bytes).unwrap();
    aws(&["s3", "cp", "film.mp4", "s3://upflow/dir/a film.mp4"]).await;
    let head =
        aws(&["s3api", "head-object", "--bucket", "upflow", "--key", "dir/a film.mp4"]).await;
    let head: serde_json::Value = serde_json::from_str(&head).unwrap();
    assert_eq!(head["ContentLength"], bytes.len());
    assert!(head["ETag"].as_str().unwrap().ends_with("-3\""), "{head}");
    aws(&["s3", "cp", "s3://upflow/dir/a film.mp4", "got.mp4"]).await;
    assert!(std::fs::read(stack.dir().join("got.mp4")).unwrap() == bytes);

    // Sending 2,500 files takes it half a minute, most of it in Python.
    put_keys(&settings).await;
    let listed = aws(&["s3", "ls", "s3://upflow/keys/"]).await;
    let names: Vec<&str> = listed.lines().map(|line| line.split_once(" 1 ").unwrap().1).collect();
    let expected: Vec<String> = (0..KEYS).map(name).collect();
    assert_eq!(names, expected);
    aws(&["s3", "rm", "s3://upflow/dir/a film.mp4"]).await;
    let left =
        aws(&["s3api", "list-objects-v2", "--bucket", "upflow", "--query", "length(Contents)"]);
    assert_eq!(left.await.trim(), KEYS.to_string());
}

fn name(number: usize) -> String {
    format!("{number:04} ü&+.txt")
}

async fn put_keys(settings: &[(String, String)]) {
    let setting = |name: &str| settings.iter().find(|one| one.0 == name).unwrap().1.clone();
    let address = setting("AWS_ENDPOINT_URL_S3").replace("http://", "").parse().unwrap();
    let keys = StaticCredentials {
        access_key: setting("AWS_ACCESS_KEY_ID"),
        secret_key: setting("AWS_SECRET_ACCESS_KEY"),
    };
    let client = client(address, &keys, &setting("AWS_DEFAULT_REGION"));
    stream::iter(0..KEYS)
        .for_each_concurrent(16, |number| {
            let put = client.put_object().bucket("upflow").key(format!("keys/{}", name(number)));
            async move { drop(put.body(Bytes::from_static(b"x").into()).send().await.unwrap()) }
        })
        .await;
}
