//! How few round trips to the database a request of the API takes.

use reqwest::Method;
use serde_json::json;

use crate::client::{KIB, crc64, noise};
use crate::gate::Gate;
use crate::harness::{Options, Stack, Suite};
use crate::suite;

pub const SUITE: Suite = suite! { "round_trips":
    a_request_asks_the_database_no_more_often_than_it_has_to,
};

/// Times that the API asks the database, by request. The upload is read before S3 is asked for a chunk, what the chunk
/// is to be meanwhile, and what was seen is written after that.
const ASKED: [(&str, usize); 10] = [
    ("init with URLs", 1),
    ("presign", 2),
    ("presign without a checksum", 2),
    ("first confirm", 3),
    ("another confirm", 3),
    ("complete, all confirmed", 1),
    ("get", 1),
    ("get, waiting until the time is over", 2),
    ("init", 1),
    ("complete, nothing confirmed", 4),
];

async fn a_request_asks_the_database_no_more_often_than_it_has_to(stack: Stack) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    stack.stop_workers().await;
    let gate = stack.production(|production| production.gates.clone()).unwrap().database;
    // Each connection prepares each statement once, and something else may ask meanwhile: the fewest count.
    let mut fewest = [usize::MAX; ASKED.len()];
    let known = ASKED.map(|(_, times)| times);
    for _ in 0..60 {
        for (fewest, asked) in fewest.iter_mut().zip(each_request(&stack, &gate).await) {
            *fewest = asked.min(*fewest);
        }
        if fewest == known {
            break;
        }
    }
    let names = ASKED.map(|(name, _)| name);
    assert_eq!(names.into_iter().zip(fewest).collect::<Vec<_>>(), ASKED);
}

/// How often each request of [`ASKED`] has asked.
async fn each_request(stack: &Stack, gate: &Gate) -> [usize; ASKED.len()] {
    let (bytes, size) = (noise(2 * 64 * KIB), 64 * KIB);
    let chunks = json!([{ "chunk_index": 0, "checksum": crc64(&bytes[..size]) }]);
    let with_urls =
        json!({ "filename": "a", "file_size": bytes.len(), "chunk_size": size, "chunks": chunks });
    let (init_with_urls, upload) = asked(gate, stack.init(with_urls)).await;
    let (presign, _) = asked(gate, upload.presign(0, Some(crc64(&bytes[..size])))).await;
    let (without, _) = asked(gate, upload.presign(1, None)).await;
    upload.send(&bytes, 0).await;
    upload.send(&bytes, 1).await;
    let (first, answer) = asked(gate, upload.confirm(0)).await;
    answer.expect(200);
    let (another, answer) = asked(gate, upload.confirm(1)).await;
    answer.expect(200);
    let (complete, answer) = asked(gate, upload.complete()).await;
    answer.expect(202);
    let (get, _) = asked(gate, upload.get()).await;
    let wait = upload.path("?wait_for=completed&timeout_seconds=1");
    let (wait, answer) = asked(gate, stack.call(Method::GET, &wait)).await;
    assert_eq!(answer.expect(200)["status"], "pending_assembly");
    let (init, small) = asked(gate, stack.plan("a", &bytes, size)).await;
    small.send(&bytes, 0).await;
    small.send(&bytes, 1).await;
    let (complete_all, answer) = asked(gate, small.complete()).await;
    answer.expect(202);
    [init_with_urls, presign, without, first, another, complete, get, wait, init, complete_all]
}

async fn asked<T>(gate: &Gate, request: impl Future<Output = T>) -> (usize, T) {
    let before = gate.asked();
    let answer = request.await;
    (gate.asked() - before, answer)
}
