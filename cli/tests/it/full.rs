//! A local S3 store that is full: what does not fit is refused, and all goes on once there is room.

use serde_json::{Value, json};

use crate::client::{MIB, noise, sent};
use crate::harness::{Stack, Suite, eventually};
use crate::programs::{Running, free_port, program, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "full":
    a_full_store_refuses_what_does_not_fit_and_goes_on_once_there_is_room,
};

async fn a_full_store_refuses_what_does_not_fit_and_goes_on_once_there_is_room(stack: Stack) {
    let [port, s3] = [free_port(), free_port()].map(|port| port.to_string());
    let mut command = program("upflow");
    command.current_dir(stack.dir()).env("UPFLOW_S3_MAX_BYTES", "12MiB");
    command.env("UPFLOW_METRICS_ADDR", "off").env("UPFLOW_JANITOR_INTERVAL", "200ms");
    command.args(["--data-dir", "full", "--port", &port, "--s3-port", &s3]);
    let bare = Running::start(&mut command);
    serves(stack.http(), port.parse().unwrap()).await;
    let call = |method: &'static str, path: String, body: Option<Value>| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let mut request = stack.http().request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let init = |size: usize| {
        let chunks: Vec<Value> =
            (0..size / MIB).map(|index| json!({ "chunk_index": index })).collect();
        let init =
            json!({ "filename": "a", "file_size": size, "chunk_size": MIB, "chunks": chunks });
        call("POST", "/uploads/init".to_owned(), Some(init))
    };
    let path = |upload: &Value| format!("/uploads/{}", upload["upload_id"].as_str().unwrap());
    let http = stack.http();
    let put = |upload: &Value, index: usize| {
        let presigned = upload["presigned"][index].clone();
        async move { sent(http, &presigned, noise(MIB)).await }
    };
    // Four unfinished MiB, then five that are to be assembled: their parts are five more, and do not fit.
    let (open, file) = (init(4 * MIB).await, init(5 * MIB).await);
    for index in 0..4 {
        assert_eq!(put(&open, index).await, 200);
    }
    for index in 0..5 {
        assert_eq!(put(&file, index).await, 200);
    }
    let assembling = call("POST", format!("{}/complete", path(&file)), None).await;
    assert_eq!(assembling["status"], "pending_assembly", "{assembling:#}");
    eventually("an attempt failed for want of room", || async {
        let events = call("GET", format!("{}/events", path(&file)), None).await;
        events.to_string().contains("InsufficientStorage").then_some(())
    })
    .await;
    // A client that wants more is told, each time.
    let more = init(4 * MIB).await;
    for _ in 0..5 {
        for index in 0..4 {
            let status = put(&more, index).await;
            assert!([200, 507].contains(&status.as_u16()), "{status}");
        }
    }
    assert_eq!(put(&more, 3).await, 507);
    let rejected = call("PUT", format!("{}/chunks/3", path(&more)), None).await;
    assert_eq!(rejected["code"], "chunk_missing");
    // Whoever gives up makes room, and the file goes on by itself.
    for upload in [&open, &more] {
        assert_eq!(call("DELETE", path(upload), None).await["status"], "aborted");
    }
    eventually("the file is complete", || async {
        let upload = call("GET", path(&file), None).await;
        (upload["status"] == "completed").then_some(())
    })
    .await;
    let again = init(4 * MIB).await;
    for index in 0..4 {
        assert_eq!(put(&again, index).await, 200);
    }
    bare.signal("TERM").await;
    let (code, said) = bare.ended().await;
    assert_eq!(code, Some(0));
    let told = said.matches("the store is full").count();
    // Once for each time that it filled up again: what was freed meanwhile is little.
    assert!((1..=3).contains(&told), "{said}");
}
