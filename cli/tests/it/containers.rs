//! `docker-compose.yml`, `Dockerfile` and `deploy/`, without containers: what they start is started with their
//! commands and settings, on the servers of the tests. Where the compose plugin is at hand, it reads them too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use crate::client::{KIB, MIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::processes::{drop_database, empty_database, environment};
use crate::programs::{Ended, Running, free_port, program, run};
use crate::proxy::Operation;
use crate::suite;

pub const SUITE: Suite = suite! { "containers":
    what_compose_starts_serves_and_is_open_without_keys_and_closed_with_them,
    compose_publishes_to_this_machine_alone_and_starts_in_order,
    the_image_is_built_of_every_crate_and_holds_every_program,
    the_least_privileges_are_those_of_the_calls_that_are_made,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The variables of an env file.
fn variables(path: &str) -> BTreeMap<String, String> {
    let text = text(path);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `${NAME}`, `${NAME:-default}` and `${NAME:+instead}`, as compose fills them in; `${NAME:?fault}` is one.
fn filled_in(text: &str, variables: &BTreeMap<String, String>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (inside, after) = rest.split_once('}').unwrap();
    let name = inside.split(':').next().unwrap();
    let value = variables.get(name).cloned().unwrap_or_default();
    let value = match inside[name.len()..].split_at_checked(2) {
        Some((":-", default)) if value.is_empty() => default.to_owned(),
        Some((":+", instead)) if !value.is_empty() => instead.to_owned(),
        Some((":+", _)) => String::new(),
        Some((":?", fault)) if value.is_empty() => panic!("{name} {fault}"),
        _ => value,
    };
    format!("{before}{value}{}", filled_in(after, variables))
}

/// `docker-compose.yml` with these variables.
fn compose(variables: &BTreeMap<String, String>) -> Value {
    let text = text("docker-compose.yml");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text: Vec<String> = lines.map(|line| filled_in(line, variables)).collect();
    let mut yaml: serde_yaml::Value = serde_yaml::from_str(&text.join("\n")).unwrap();
    yaml.apply_merge().unwrap();
    // Merged within what was merged.
    yaml.apply_merge().unwrap();
    serde_json::to_value(yaml).unwrap()
}

/// A list, or the words of a command line.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(line) => line.split_whitespace().collect(),
        list => list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect(),
    }
}

/// A program of the stack as compose would start it, but with the servers of the test.
fn started(words: &[&str], service: &Value, here: &BTreeMap<&'static str, String>) -> Command {
    let mut command = program(words[0]);
    for (name, value) in service["environment"].as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    command.args(&words[1..]).envs(here);
    command
}

async fn what_compose_starts_serves_and_is_open_without_keys_and_closed_with_them(stack: Stack) {
    let mut variables = variables("deploy/local-s3.env");
    let services = &compose(&variables)["services"];
    variables.insert("UPFLOW_PUBLISH".to_owned(), "0.0.0.0".to_owned());
    let published = &compose(&variables)["services"]["api"];
    let (url, admin) = empty_database(&stack, "compose").await;
    let port = free_port();
    let mut here = environment(&stack);
    here.insert("DATABASE_URL", url.clone());
    here.insert("REDIS_URL", stack.production(|production| production.queue.url.clone()));
    here.insert("REDIS_STREAM", format!("{}-compose", here["REDIS_STREAM"]));
    let prefix = format!("{}/compose", here["S3_KEY_PREFIX"].trim_end_matches('/'));
    here.insert("S3_KEY_PREFIX", prefix.trim_start_matches('/').to_owned());
    here.insert("S3_PUBLIC_ENDPOINT_URL", here["S3_ENDPOINT_URL"].clone());
    here.insert("UPFLOW_PORT", port.to_string());
    let mut beside = here.clone();
    beside.insert("UPFLOW_METRICS_ADDR", format!("127.0.0.1:{}", free_port()));
    here.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    let start = |name: &str, here: &BTreeMap<&'static str, String>| {
        let mut command = started(&words(&services[name]["command"]), &services[name], here);
        command.current_dir(stack.dir());
        command
    };
    // Published to everybody, it does not start without keys.
    let mut open = started(&words(&published["command"]), published, &here);
    let ended = run(open.current_dir(stack.dir())).await;
    assert!(ended.code == Some(1) && ended.err.contains("there are no keys"), "{ended:?}");
    let ended = run(&mut start("migration", &here)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let healthy = async |here: &BTreeMap<&'static str, String>| -> Ended {
        let check = dockerfile_words("HEALTHCHECK");
        let check: Vec<&str> = check.iter().map(String::as_str).collect();
        run(started(&check, &services["api"], here).current_dir(stack.dir())).await
    };
    let before = healthy(&here).await;
    assert_eq!(before.code, Some(1), "nothing serves yet: {before:?}");

    let check = &words(&services["worker"]["healthcheck"]["test"])[1..];
    let mut asked = started(check, &services["worker"], &beside);
    assert_eq!(run(asked.current_dir(stack.dir())).await.code, Some(1));
    let mut worker = Running::start(&mut start("worker", &beside));
    worker.says("the worker runs").await;
    let ended = run(&mut asked).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut api = Running::start(&mut start("api", &here));
    api.says("it is OPEN").await;
    let ended = healthy(&here).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let bytes = noise(300 * KIB);
    let path = stack.dir().join("compose.bin");
    std::fs::write(&path, &bytes).unwrap();
    let server = format!("http://127.0.0.1:{port}");
    let upload = async |key: Option<&str>| {
        let mut command = program("upflow");
        command.current_dir(stack.dir()).env("UPFLOW_STATE_DIR", stack.dir().join("state"));
        if let Some(key) = key {
            command.env("UPFLOW_API_KEY", key);
        }
        run(command.arg("upload").arg(&path).args(["--server", &server])).await
    };
    let ended = upload(None).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    api.kill().await;

    let (key, entry) = upflow_api::auth::new_key("shop", false).unwrap();
    here.insert("UPFLOW_API_KEYS", entry);
    here.insert("UPFLOW_TOKEN_KEYS", format!("a:{}", "A".repeat(43) + "="));
    let mut closed = started(&words(&published["command"]), published, &here);
    let mut api = Running::start(closed.current_dir(stack.dir()));
    api.says("it asks for keys").await;
    let ended = healthy(&here).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = upload(None).await;
    assert_ne!(ended.code, Some(0));
    let ended = upload(Some(&key)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    drop((api, worker));
    drop_database(&url, admin).await;
}

async fn compose_publishes_to_this_machine_alone_and_starts_in_order(stack: Stack) {
    ask_the_plugin(&stack).await;
    let compose = compose(&variables("deploy/local-s3.env"));
    let services = compose["services"].as_object().unwrap();
    let names: BTreeSet<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["api", "db", "migration", "redis", "s3", "worker"]));
    for (name, service) in services {
        let published = service.get("ports").map(words).unwrap_or_default();
        assert!(published.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        assert_eq!(published.is_empty(), !["api", "s3"].contains(&name.as_str()), "{name}");
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(limits["memory"].is_string() && limits["cpus"].is_string(), "{name}");
        let restart = if name == "migration" { "on-failure" } else { "unless-stopped" };
        assert_eq!(service["restart"], restart, "{name}");
        assert_eq!(service["profiles"].is_array(), name == "s3", "{name}");
    }
    let after =
        |service: &str, other: &str| compose["services"][service]["depends_on"][other].clone();
    assert_eq!(after("migration", "db")["condition"], "service_healthy");
    for service in ["api", "worker"] {
        assert_eq!(after(service, "migration")["condition"], "service_completed_successfully");
        assert_eq!(after(service, "redis")["condition"], "service_healthy");
        assert_eq!(after(service, "s3")["required"], false);
        assert!(compose["services"][service]["build"].is_string());
        // The longest that a program takes to end is cut short by nobody.
        assert_eq!(compose["services"][service]["stop_grace_period"], "60s");
    }
    assert!(words(&services["redis"]["command"]).join(" ").contains("--appendonly yes"));
    for (service, volume) in [("db", "db"), ("redis", "redis"), ("s3", "s3")] {
        assert!(words(&services[service]["volumes"])[0].starts_with(&format!("{volume}:/")));
        assert!(compose["volumes"].as_object().unwrap().contains_key(volume));
        assert!(services[service]["healthcheck"]["test"].is_array());
    }
    // Each variable that the stack takes is one that the programs have.
    let known = text(".env.example") + &text("deploy/local-s3.env");
    for name in compose["services"]["api"]["environment"].as_object().unwrap().keys() {
        assert!(known.contains(&format!("{name}=")), "{name} is in no example");
    }
}

/// Where the plugin is at hand, it accepts both ways to start, and refuses to start without a bucket.
async fn ask_the_plugin(stack: &Stack) {
    let there = Command::new("docker").args(["compose", "version"]).output().await;
    if !there.is_ok_and(|output| output.status.success()) {
        return;
    }
    let bucket = stack.dir().join("bucket.env");
    std::fs::write(&bucket, "AWS_S3_BUCKET=my-bucket\n").unwrap();
    let nothing = stack.dir().join("nothing.env");
    std::fs::write(&nothing, "").unwrap();
    let local = root().join("deploy/local-s3.env");
    for (file, accepted) in [(&bucket, true), (&local, true), (&nothing, false)] {
        let mut command = Command::new("docker");
        command.args(["compose", "--env-file"]).arg(file).args(["config", "--quiet"]);
        let ended = run(command.current_dir(root()).env_remove("AWS_S3_BUCKET")).await;
        assert_eq!(ended.code == Some(0), accepted, "{}: {}", file.display(), ended.err);
    }
}

/// The words of the list in the last line of the Dockerfile that has this instruction.
fn dockerfile_words(instruction: &str) -> Vec<String> {
    let text = text("Dockerfile");
    let line = text.lines().rfind(|line| line.starts_with(instruction)).unwrap();
    serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
}

async fn the_image_is_built_of_every_crate_and_holds_every_program(_: Stack) {
    let ignore = text(".dockerignore");
    let sent: BTreeSet<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &sent {
        assert!(root().join(path).exists(), "{path} is not there");
    }
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members = ")).unwrap();
    for member in serde_json::from_str::<Vec<String>>(&members["members = ".len()..]).unwrap() {
        assert!(sent.contains(member.as_str()), "{member} does not reach the builder");
    }
    let dockerfile = text("Dockerfile");
    for name in ["upflow-api", "upflow-worker", "upflow-migration", "upflow"] {
        assert!(dockerfile.contains(&format!(" target/release/{name}")), "{name}");
        let ended = run(program(name).arg("--version")).await;
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
    }
    assert_eq!(dockerfile_words("CMD"), ["upflow-api"]);
    let last = dockerfile.rfind("\nFROM ").unwrap();
    assert!(dockerfile[last..].contains("\nUSER 10001\n"), "it runs as root");
}

/// What AWS asks for each call ("Actions, resources, and condition keys for Amazon S3").
fn action(operation: Operation) -> &'static str {
    match operation {
        Operation::HeadBucket | Operation::ListObjects => "s3:ListBucket",
        Operation::HeadObject | Operation::GetObject => "s3:GetObject",
        Operation::PutObject
        | Operation::CreateMultipartUpload
        | Operation::UploadPart
        | Operation::UploadPartCopy
        | Operation::CompleteMultipartUpload => "s3:PutObject",
        Operation::DeleteObject | Operation::DeleteObjects => "s3:DeleteObject",
        Operation::AbortMultipartUpload => "s3:AbortMultipartUpload",
        Operation::ListParts => "s3:ListMultipartUploadParts",
        Operation::ListMultipartUploads => "s3:ListBucketMultipartUploads",
        Operation::Other => "another call",
    }
}

async fn the_least_privileges_are_those_of_the_calls_that_are_made(stack: Stack) {
    let stack = stack.sibling(Options { proxied: true, ..Options::default() }).await;
    // Copied, streamed, and given up in the middle of its assembly.
    for (size, chunk) in [(5 * MIB + 5 * KIB, 5 * MIB), (300 * KIB, 64 * KIB)] {
        let bytes = noise(size);
        let upload = stack.plan("file.bin", &bytes, chunk).await;
        upload.send_all(&bytes).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&bytes).await;
        upload.assert_nothing_left().await;
    }
    let bytes = noise(10 * MIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    upload.send_and_confirm(&bytes, [0]).await;
    eventually("a chunk is copied", || async {
        (upload.get().await["assembled_chunks"] == 1).then_some(())
    })
    .await;
    stack.call(reqwest::Method::DELETE, &upload.path("")).await.expect(200);
    upload.assert_nothing_left().await;

    let policy: Value = serde_json::from_str(&text("deploy/iam-policy.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let allowed: BTreeSet<_> = statements.iter().flat_map(|one| words(&one["Action"])).collect();
    let used: BTreeSet<_> =
        stack.proxy().calls().into_iter().map(|call| action(call.operation)).collect();
    assert_eq!(used, allowed);
    for statement in statements {
        let objects = words(&statement["Action"]).contains(&"s3:PutObject");
        let resource = statement["Resource"].as_str().unwrap();
        assert_eq!(resource.ends_with("/uploads/*"), objects, "{resource}");
    }
    let readme = text("README.md");
    for action in allowed {
        assert!(readme.contains(action), "{action} is not in the README");
    }
}
