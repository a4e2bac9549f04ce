//! What must hold of an upload once it is calm.

use serde_json::Value;
use upflow_core::lifecycle::{EDGES, Status};
use upflow_core::storage::{chunk_index, chunks, finals};

use super::client::Tracked;
use crate::harness::{Stack, eventually};

pub async fn upload(stack: &Stack, tracked: &Tracked, seed: u64) {
    let id = tracked.id;
    let told = format!("TEST_SEED={seed}, upload {id}");
    let upload = stack.get(&format!("/uploads/{id}")).await.expect(200);
    let status: Status = upload["status"].as_str().unwrap().parse().unwrap();
    moved_along_the_table(stack, tracked, status, &told).await;
    let storage = &stack.ctx().storage;
    if status.is_final() {
        eventually(&format!("{told}: no chunk is left"), || async {
            let page = storage.list(&chunks(id), None).await.unwrap();
            page.objects.is_empty().then_some(())
        })
        .await;
        let key = format!("{}chaos.bin", finals(id));
        eventually(&format!("{told}: no multipart upload is left"), || async {
            let page = storage.list_multiparts(&key, None).await.unwrap();
            page.uploads.is_empty().then_some(())
        })
        .await;
    }
    let finals = storage.list(&finals(id), None).await.unwrap().objects;
    match (status, &tracked.left_open) {
        (Status::Completed, None) => {
            assert_eq!(finals.len(), 1, "{told}");
            let download = stack.get(&format!("/uploads/{id}/download")).await.expect(200);
            let url = download["url"].as_str().unwrap();
            let found = stack.http().get(url).send().await.unwrap().bytes().await.unwrap();
            assert!(found == tracked.bytes, "{told}: other bytes");
        }
        (Status::Aborted, None) => assert!(finals.is_empty(), "{told}"),
        (Status::Initialized | Status::Uploading, Some(confirmed)) => {
            still_there(stack, tracked, &upload, confirmed, &told).await;
        }
        (status, left) => panic!("{told}: {status}, {left:?}"),
    }
}

/// Every step is in the table, and begins where the one before ended.
async fn moved_along_the_table(stack: &Stack, tracked: &Tracked, status: Status, told: &str) {
    let events = stack.get(&format!("/uploads/{}/events", tracked.id)).await.expect(200);
    let mut at = Status::Initialized;
    for event in events["events"].as_array().unwrap() {
        let name = event["event"].as_str().unwrap();
        let (Some(from), Some(to)) = (event["from_status"].as_str(), event["to_status"].as_str())
        else {
            continue;
        };
        let (from, to): (Status, Status) = (from.parse().unwrap(), to.parse().unwrap());
        let edge = EDGES.iter().find(|edge| edge.event.name() == name);
        let edge = edge.unwrap_or_else(|| panic!("{told}: {event:#}"));
        assert!(edge.from.contains(&from) && edge.to == to, "{told}: {event:#}");
        assert_eq!(from, at, "{told}: {:#}", events["events"]);
        at = to;
    }
    assert_eq!(at, status, "{told}: {:#}", events["events"]);
}

/// Nothing confirmed is lost of an upload that its client may come back to.
async fn still_there(
    stack: &Stack,
    tracked: &Tracked,
    upload: &Value,
    confirmed: &[i64],
    told: &str,
) {
    let known: Vec<i64> = serde_json::from_value(upload["uploaded_chunks"].clone()).unwrap();
    assert!(confirmed.iter().all(|index| known.contains(index)), "{told}: {known:?}");
    let page = stack.ctx().storage.list(&chunks(tracked.id), None).await.unwrap();
    let stored = page.objects.iter().filter_map(|object| chunk_index(tracked.id, &object.key));
    let stored: Vec<i64> = stored.map(i64::from).collect();
    assert!(known.iter().all(|index| stored.contains(index)), "{told}: {known:?} of {stored:?}");
}
