//! `upflow admin` and the operations behind it: an operator sees and mends everybody's uploads.

use std::time::Duration;

use reqwest::Method;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::process::Command;
use upflow_api::limits::ClientLimits;
use upflow_core::lifecycle::Status;
use upflow_core::storage::chunks;
use upflow_core::uploads;

use crate::client::{KIB, MIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::locked::Locked;
use crate::programs::{Ended, program, run};
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "admin":
    an_operator_lists_and_sees_the_uploads_of_all_owners_and_others_do_not,
    admin_lists_shows_and_aborts_with_the_key_of_operators_alone,
    admin_retries_an_upload_that_has_failed,
    requeue_ends_the_pause_after_an_error,
    stats_tell_what_unfinished_uploads_hold_and_cost,
    orphans_go_by_an_explicit_flag_with_an_age,
    what_is_wrong_is_told_in_a_line_with_another_code,
};

fn admin(stack: &Stack, key: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = program("upflow");
    command.current_dir(stack.dir()).env("UPFLOW_SERVER", stack.url("")).arg("admin");
    if let Some(key) = key {
        command.env("UPFLOW_API_KEY", key);
    }
    command.args(arguments);
    command
}

async fn says(stack: &Stack, key: Option<&str>, arguments: &[&str]) -> String {
    let ended = run(&mut admin(stack, key, arguments)).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended.out
}

async fn says_json(stack: &Stack, key: Option<&str>, arguments: &[&str]) -> Value {
    let said = says(stack, key, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("no JSON: {said}"))
}

async fn an_operator_lists_and_sees_the_uploads_of_all_owners_and_others_do_not(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let (ours, token) = locked.upload(&locked.shop).await;
    let (theirs, _) = locked.upload(&locked.other).await;
    let listed = |key: String, query: &'static str| {
        let locked = &locked;
        async move {
            let path = format!("/uploads{query}");
            let page = locked.call(Some(&key), Method::GET, &path, None).await.expect(200);
            let uploads = page["uploads"].as_array().unwrap().iter();
            let seen = |upload: &Value| (upload["upload_id"].clone(), upload["owner"].clone());
            uploads.map(seen).collect::<Vec<(Value, Value)>>()
        }
    };
    let (ours, theirs) = (json!(ours.to_string()), json!(theirs.to_string()));
    let of_shop = (ours.clone(), json!("shop"));
    let all = listed(locked.admin.clone(), "").await;
    assert_eq!(all, [(theirs, json!("other")), of_shop.clone()]);
    assert_eq!(listed(locked.admin.clone(), "?owner=shop").await, [of_shop]);
    // An owner sees its own, and is not told what it knows.
    let unnamed = [(ours.clone(), Value::Null)];
    assert_eq!(listed(locked.shop.clone(), "").await, unnamed);
    assert_eq!(listed(locked.shop.clone(), "?owner=shop").await, unnamed);
    let answer = locked.call(Some(&locked.shop), Method::GET, "/uploads?owner=other", None).await;
    answer.expect_problem(403, "admin_required");
    let path = format!("/uploads/{}", ours.as_str().unwrap());
    let seen = |bearer: String| {
        let (locked, path) = (&locked, path.clone());
        async move { locked.call(Some(&bearer), Method::GET, &path, None).await.expect(200) }
    };
    assert_eq!(seen(locked.admin.clone()).await["owner"], "shop");
    assert_eq!(seen(locked.shop.clone()).await["owner"], Value::Null);
    assert_eq!(seen(token).await["owner"], Value::Null);
    // And acts on them.
    let ended = locked.call(Some(&locked.admin), Method::DELETE, &path, None).await.expect(200);
    assert_eq!(ended["status"], "aborted");
}

async fn admin_lists_shows_and_aborts_with_the_key_of_operators_alone(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let (id, _) = locked.upload(&locked.shop).await;
    let (stack, key) = (&locked.stack, Some(locked.admin.as_str()));
    let id = id.to_string();
    let said = says(stack, key, &["list", "--owner", "shop"]).await;
    assert!(said.contains(&id) && said.contains("0 B of 5 B"), "{said}");
    assert_eq!(says(stack, key, &["list", "--status", "failed"]).await, "no uploads\n");
    assert_eq!(says_json(stack, key, &["list", "--limit", "1"]).await[0]["upload_id"], *id);
    let said = says(stack, key, &["abort", &id]).await;
    assert_eq!(said, format!("{id} is aborted\n"));
    let said = says(stack, key, &["show", &id]).await;
    let timeline: Vec<&str> = said.lines().filter(|line| line.contains("initialized")).collect();
    assert_eq!(timeline.len(), 2, "{said}");
    assert!(timeline[1].contains("initialized -> aborted"), "{said}");
    assert!(said.contains("owner        shop"), "{said}");
    let shown = says_json(stack, key, &["show", &id]).await;
    assert_eq!(shown["upload"]["status"], "aborted");
    assert_eq!(shown["events"][0]["event"], "initialized");
    // Another key gets no further than its own uploads.
    let ended = run(&mut admin(stack, Some(&locked.other), &["show", &id])).await;
    assert!(ended.code == Some(1) && ended.err.contains("upload_not_found"), "{ended:?}");
    for (key, arguments, why) in [
        (Some(&locked.shop), ["stats"], "admin_required"),
        (None, ["stats"], "credentials_missing"),
    ] {
        let ended = run(&mut admin(stack, key.map(String::as_str), &arguments)).await;
        assert!(ended.code == Some(1) && ended.err.contains(why), "{ended:?}");
    }
}

/// A stack whose S3 does not complete uploads, and an upload that waits for it.
async fn stuck(stack: &Stack, attempts: i32) -> (Stack, crate::client::Upload, bytes::Bytes) {
    let mut options = Options { proxied: true, ..Options::default() };
    options.worker.attempts = attempts;
    let stack = stack.sibling(options).await;
    stack.proxy().rule(|call| {
        let ends = call.operation == Operation::CompleteMultipartUpload;
        ends.then_some(Fault::Refuse(500, "InternalError"))
    });
    let bytes = noise(100);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_all(&bytes).await;
    upload.complete().await.expect(202);
    (stack, upload, bytes)
}

async fn admin_retries_an_upload_that_has_failed(stack: Stack) {
    let (stack, upload, bytes) = stuck(&stack, 1).await;
    upload.wait_for("failed").await;
    let id = upload.id.to_string();
    let said = says(&stack, None, &["show", &id]).await;
    assert!(said.contains("failure      assembly_failed: "), "{said}");
    assert!(said.contains("pending_assembly -> failed"), "{said}");
    stack.proxy().pass_all();
    let said = says(&stack, None, &["retry", &id]).await;
    assert_eq!(said, format!("{id} is pending_assembly again\n"));
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
    let ended = run(&mut admin(&stack, None, &["retry", &id])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("is completed: only one that has failed"), "{}", ended.err);
}

async fn requeue_ends_the_pause_after_an_error(stack: Stack) {
    let (stack, upload, bytes) = stuck(&stack, 100).await;
    let db = stack.ctx().db.clone();
    let row = || async { uploads::find(&db, upload.id).await.unwrap() };
    let pauses = |row: &uploads::Upload| {
        row.lease_id.is_none() && row.lease_until.is_some_and(|until| until > chrono::Utc::now())
    };
    eventually("an attempt failed, and the next one is to wait", || async {
        let row = row().await;
        (pauses(&row) && row.attempts >= 3).then_some(())
    })
    .await;
    stack.stop_workers().await;
    // However long it was to wait.
    let later =
        "UPDATE upload_sessions SET lease_id = NULL, lease_until = '2999-01-01T00:00:00+00:00'";
    db.execute_unprepared(later).await.unwrap();
    stack.proxy().pass_all();
    stack.start_worker();
    let id = upload.id.to_string();
    let said = says(&stack, None, &["requeue", &id]).await;
    assert!(said.contains("which is pending_assembly"), "{said}");
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn stats_tell_what_unfinished_uploads_hold_and_cost(stack: Stack) {
    let bytes = noise(11 * MIB);
    let done = stack.plan("done", &bytes, 5 * MIB).await;
    done.send_all(&bytes).await;
    done.complete_and_wait().await;
    let open = stack.plan("open", &bytes, 5 * MIB).await;
    open.send_and_confirm(&bytes, [0, 2]).await;
    eventually("what is confirmed is copied ahead", || async {
        (open.get().await["assembled_chunks"] == 2).then_some(())
    })
    .await;
    let stats = says_json(&stack, None, &["stats", "--price", "1024"]).await;
    // Two chunks, in the bucket as chunks and as parts.
    assert_eq!(stats["unfinished"]["held_bytes"], 2 * 6 * MIB, "{stats:#}");
    assert_eq!(stats["unfinished"]["uploads"], 1);
    assert_eq!(stats["unfinished"]["cost_per_month"], 12.0);
    let statuses = stats["stats"]["statuses"].as_array().unwrap();
    let completed = statuses.iter().find(|row| row["status"] == "completed").unwrap();
    assert_eq!((&completed["uploads"], &completed["held_bytes"]), (&json!(1), &json!(0)));
    assert!(stats["stats"]["queue_jobs"].is_u64());
    let said = says(&stack, None, &["stats", "--price", "1024"]).await;
    assert!(
        said.contains("1 unfinished uploads hold 12.00 MiB in the bucket: 12.00 a month"),
        "{said}"
    );
    assert!(said.contains("jobs in the queue"), "{said}");
}

async fn orphans_go_by_an_explicit_flag_with_an_age(stack: Stack) {
    let bytes = noise(11 * MIB);
    let known = stack.plan("known", &bytes, 5 * MIB).await;
    known.send_and_confirm(&bytes, [0]).await;
    let lost = stack.plan("lost", &bytes, 5 * MIB).await;
    lost.send_and_confirm(&bytes, [0, 1]).await;
    eventually("parts are there, too", || async {
        (lost.get().await["assembled_chunks"] == 2).then_some(())
    })
    .await;
    stack.stop_workers().await;
    let forget = "DELETE FROM upload_sessions WHERE filename = 'lost'";
    stack.ctx().db.execute_unprepared(forget).await.unwrap();
    let id = lost.id.to_string();
    let found = says_json(&stack, None, &["orphans"]).await;
    let orphans = found["orphans"].as_array().unwrap();
    assert_eq!(orphans.len(), 1, "{found:#}");
    assert_eq!(orphans[0]["upload_id"], *id);
    assert_eq!((&orphans[0]["chunks"], &orphans[0]["multiparts"]), (&json!(2), &json!(1)));
    assert_eq!(orphans[0]["bytes"], 10 * MIB);
    let said = says(&stack, None, &["orphans"]).await;
    assert!(said.contains("2 chunks, 10.00 MiB, 1 multipart uploads"), "{said}");
    assert!(said.contains("nothing was removed"), "{said}");
    let ended = run(&mut admin(&stack, None, &["orphans", "--delete"])).await;
    assert!(ended.code == Some(2) && ended.err.contains("--older-than"), "{ended:?}");
    // Too young: not even asked for, and the server would not do it either.
    let said = says(&stack, None, &["orphans", "--delete", "--older-than", "1h"]).await;
    assert!(said.starts_with("0 uploads"), "{said}");
    let path = format!("/orphans/{id}?older_than_seconds=3600");
    stack.call(Method::DELETE, &path).await.expect_problem(409, "orphan_kept");
    // One with a row is none, however old.
    let path = format!("/orphans/{}?older_than_seconds=1", known.id);
    stack.call(Method::DELETE, &path).await.expect_problem(409, "orphan_kept");
    let path = format!("/orphans/{}?older_than_seconds=1", uuid::Uuid::new_v4());
    stack.call(Method::DELETE, &path).await.expect_problem(404, "upload_not_found");
    // S3 keeps whole seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gone = says_json(&stack, None, &["orphans", "--delete", "--older-than", "1s"]).await;
    assert_eq!(gone["removed"], json!([id]), "{gone:#}");
    lost.assert_nothing_left().await;
    assert_eq!(says_json(&stack, None, &["orphans"]).await["orphans"], json!([]));
    let kept = stack.ctx().storage.list(&chunks(known.id), None).await.unwrap();
    assert_eq!(kept.objects.len(), 1);
    assert_eq!(uploads::find(&stack.ctx().db, known.id).await.unwrap().status, Status::Uploading);
}

async fn what_is_wrong_is_told_in_a_line_with_another_code(stack: Stack) {
    let nowhere = format!("http://127.0.0.1:{}", crate::programs::free_port());
    let fails = |arguments: Vec<String>| {
        let stack = &stack;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let Ended { code, out, err } = run(&mut admin(stack, None, &arguments)).await;
            assert_eq!(out, "", "{arguments:?}");
            (code, err)
        }
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let (code, err) = fails(words(&format!("stats --server {nowhere}"))).await;
    assert!(code == Some(1) && err.contains("no answer from"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let (code, err) = fails(words("stats --server nonsense")).await;
    assert_eq!(code, Some(2), "{err}");
    let (code, err) = fails(words("list --status done")).await;
    assert!(code == Some(2) && err.contains("pending_assembly"), "{err}");
    let (code, err) = fails(words("show nothing")).await;
    assert!(code == Some(1) && err.contains("upload_not_found"), "{err}");
}
