//! Whole uploads: what goes in comes out, byte for byte, whatever its size and name.

use serde_json::json;

use crate::client::{KIB, MIB, crc64, noise};
use crate::harness::{Stack, Suite};
use crate::suite;

pub const SUITE: Suite = suite! { "flow":
    an_empty_file_completes,
    a_file_of_one_byte_comes_out_whole,
    a_file_of_exactly_two_small_chunks_comes_out_whole,
    a_file_of_many_64_kib_chunks_with_a_short_last_one_comes_out_whole,
    a_file_of_5_mib_chunks_is_copied_inside_s3_and_comes_out_whole,
    a_file_of_exactly_three_5_mib_chunks_comes_out_whole,
    a_file_sent_without_checksums_says_so,
    a_file_with_crc32c_comes_out_whole,
    a_file_with_the_whole_checksum_given_at_init_comes_out_whole,
    a_file_unlike_the_checksum_given_at_init_fails_and_can_be_mended,
    a_file_unlike_its_checksum_fails_too_where_its_chunks_have_none,
    a_chunk_declared_anew_without_a_checksum_takes_other_bytes,
    a_file_with_a_checksum_counts_as_compared_also_where_its_chunks_have_none,
    filenames_of_every_kind_come_out_as_they_went_in,
    urls_that_ride_along_with_init_work,
    complete_finds_chunks_that_were_sent_and_never_confirmed,
};

async fn round_trip(stack: &Stack, len: usize, chunk_size: usize) -> serde_json::Value {
    let bytes = noise(len);
    let upload = stack.plan("file.bin", &bytes, chunk_size).await;
    assert_eq!(upload.total(), len.div_ceil(chunk_size));
    upload.send_all(&bytes).await;
    let done = upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
    assert_eq!(done["uploaded_chunks_count"], upload.total());
    assert_eq!(done["assembled_chunks"], upload.total());
    assert_eq!(done["uploaded_bytes"], len);
    if len > 0 {
        assert_eq!(done["integrity"]["value"], crc64(&bytes));
        assert_ne!(done["integrity"]["level"], "size_only");
    }
    done
}

async fn an_empty_file_completes(stack: Stack) {
    let upload = stack.init(json!({ "filename": "empty", "file_size": 0 })).await;
    assert_eq!(upload.total(), 0);
    upload.complete_and_wait().await;
    upload.assert_whole(&noise(0)).await;
}

async fn a_file_of_one_byte_comes_out_whole(stack: Stack) {
    round_trip(&stack, 1, 64 * KIB).await;
}

async fn a_file_of_exactly_two_small_chunks_comes_out_whole(stack: Stack) {
    round_trip(&stack, 128 * KIB, 64 * KIB).await;
}

async fn a_file_of_many_64_kib_chunks_with_a_short_last_one_comes_out_whole(stack: Stack) {
    // Three parts of up to 128 chunks.
    round_trip(&stack, 17 * MIB + 12_345, 64 * KIB).await;
}

async fn a_file_of_5_mib_chunks_is_copied_inside_s3_and_comes_out_whole(stack: Stack) {
    round_trip(&stack, 12 * MIB + 1, 5 * MIB).await;
}

async fn a_file_of_exactly_three_5_mib_chunks_comes_out_whole(stack: Stack) {
    round_trip(&stack, 15 * MIB, 5 * MIB).await;
}

async fn a_file_sent_without_checksums_says_so(stack: Stack) {
    let bytes = noise(100 * KIB);
    let upload = stack.plan("plain.bin", &bytes, 64 * KIB).await;
    for index in 0..upload.total() {
        let presigned = upload.presign(index, None).await;
        assert_eq!(upload.put(&presigned, upload.cut(&bytes, index)).await, 200);
    }
    let done = upload.complete_and_wait().await;
    assert_eq!(done["integrity"]["level"], "size_only");
    upload.assert_whole(&bytes).await;
}

async fn a_file_with_crc32c_comes_out_whole(stack: Stack) {
    use base64::Engine as _;
    let bytes = noise(6 * MIB);
    let crc32c = |bytes: &[u8]| {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
        base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
    };
    let upload = stack
        .init(json!({
            "filename": "c.bin",
            "file_size": bytes.len(),
            "chunk_size": 5 * MIB,
            "checksum_algorithm": "crc32c",
        }))
        .await;
    for index in 0..2 {
        let chunk = upload.cut(&bytes, index);
        let presigned = upload.presign(index, Some(crc32c(&chunk))).await;
        assert_eq!(upload.put(&presigned, chunk).await, 200);
        upload.confirm(index).await.expect(200);
    }
    let done = upload.complete_and_wait().await;
    assert_eq!(done["integrity"]["algorithm"], "crc32c");
    assert_eq!(done["integrity"]["value"], crc32c(&bytes));
    upload.assert_whole(&bytes).await;
}

async fn a_file_with_the_whole_checksum_given_at_init_comes_out_whole(stack: Stack) {
    let bytes = noise(200 * KIB);
    let body = json!({
        "filename": "whole.bin", "file_size": bytes.len(), "chunk_size": 64 * KIB,
        "checksum": crc64(&bytes),
    });
    let upload = stack.init(body).await;
    upload.send_all(&bytes).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn a_file_unlike_the_checksum_given_at_init_fails_and_can_be_mended(stack: Stack) {
    let right = noise(200 * KIB);
    let mut wrong = right.to_vec();
    wrong[70_000] ^= 1;
    let wrong = bytes::Bytes::from(wrong);
    let body = json!({
        "filename": "whole.bin", "file_size": right.len(), "chunk_size": 64 * KIB,
        "checksum": crc64(&right),
    });
    let upload = stack.init(body).await;
    upload.send_all(&wrong).await;
    upload.complete().await.expect(202);
    let failed = upload.wait_for("failed").await;
    assert_eq!(failed["failure"]["code"], "checksum_mismatch");
    let finals = upflow_core::storage::finals(upload.id);
    assert!(stack.ctx().storage.list(&finals, None).await.unwrap().objects.is_empty());

    upload.send_and_confirm(&right, [1]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&right).await;
    assert!(upload.get().await.get("failure").is_none());
}

/// In one call with a chunk that has one.
async fn a_chunk_declared_anew_without_a_checksum_takes_other_bytes(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    for index in 0..2 {
        upload.presign(index, Some(crc64(b"other bytes"))).await;
    }
    let anew = json!({ "chunks": [
        { "chunk_index": 0 },
        { "chunk_index": 1, "checksum": crc64(&upload.cut(&bytes, 1)) },
    ] });
    let answer = stack.post(&upload.path("/chunks/presign"), anew).await.expect(200);
    for index in 0..2 {
        let sent = upload.put(&answer["chunks"][index], upload.cut(&bytes, index)).await;
        assert_eq!(sent, 200);
        upload.confirm(index).await.expect(200);
    }
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

/// Forty are confirmed by a listing where there is nothing to compare; and `complete` finds them so.
async fn a_file_unlike_its_checksum_fails_too_where_its_chunks_have_none(stack: Stack) {
    for (chunks, chunk_size, confirms) in
        [(40, 64 * KIB, true), (40, 64 * KIB, false), (2, 5 * MIB, true)]
    {
        let wrong = noise(chunks * chunk_size);
        let body = json!({
            "filename": "whole.bin", "file_size": wrong.len(), "chunk_size": chunk_size,
            "checksum": crc64(b"other bytes"),
        });
        let upload = stack.init(body).await;
        for index in 0..chunks {
            let presigned = upload.presign(index, None).await;
            assert_eq!(upload.put(&presigned, upload.cut(&wrong, index)).await, 200);
        }
        if confirms {
            let indexes: Vec<usize> = (0..chunks).collect();
            let path = upload.path("/chunks/confirm");
            stack.post(&path, json!({ "chunks": indexes })).await.expect(200);
        }
        upload.complete().await.expect(202);
        let failed = upload.wait_for("failed").await;
        assert_eq!(failed["failure"]["code"], "checksum_mismatch");
    }
}

async fn a_file_with_a_checksum_counts_as_compared_also_where_its_chunks_have_none(stack: Stack) {
    for (chunks, chunk_size) in [(40, 64 * KIB), (2, 5 * MIB)] {
        let bytes = noise(chunks * chunk_size);
        let body = json!({
            "filename": "whole.bin", "file_size": bytes.len(), "chunk_size": chunk_size,
            "checksum": crc64(&bytes),
        });
        let upload = stack.init(body).await;
        for index in 0..chunks {
            let presigned = upload.presign(index, None).await;
            assert_eq!(upload.put(&presigned, upload.cut(&bytes, index)).await, 200);
        }
        let done = upload.complete_and_wait().await;
        assert_eq!(done["integrity"]["level"], "client_checksums");
        assert_eq!(done["integrity"]["value"], crc64(&bytes));
        upload.assert_whole(&bytes).await;
    }
}

async fn filenames_of_every_kind_come_out_as_they_went_in(stack: Stack) {
    let names = [
        "two words.txt",
        "a+b%20c#d?e&f=g;h,i@j$k!.txt",
        "quotes \" ' ` .txt",
        "Ünïcödé — naïve.pdf",
        "日本語のファイル名.mov",
        "ملف عربي.jpg",
        "цирк 🎪.png",
        "..hidden..",
        "100% [draft] {final} (1) ~*.bin",
    ];
    for name in names {
        let bytes = noise(10);
        let upload = stack.plan(name, &bytes, 64 * KIB).await;
        upload.send_all(&bytes).await;
        let done = upload.complete_and_wait().await;
        assert_eq!(done["filename"], name);
        let (found, headers) = upload.download().await;
        assert_eq!(found, bytes, "{name}");
        let disposition = headers["content-disposition"].to_str().unwrap();
        let encoded = disposition.split("filename*=UTF-8''").nth(1).expect(disposition);
        let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap();
        assert_eq!(decoded, name);
        assert!(disposition.starts_with("attachment; filename=\""), "{disposition}");
    }
}

async fn urls_that_ride_along_with_init_work(stack: Stack) {
    let bytes = noise(1_000);
    let body = json!({
        "filename": "one.bin", "file_size": 1_000,
        "chunks": [{ "chunk_index": 0, "checksum": crc64(&bytes) }],
    });
    let upload = stack.init(body).await;
    let presigned = upload.body["presigned"][0].clone();
    assert_eq!(presigned["size_bytes"], 1_000);
    assert_eq!(upload.put(&presigned, bytes.clone()).await, 200);
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn complete_finds_chunks_that_were_sent_and_never_confirmed(stack: Stack) {
    // Enough of them that the bucket is listed, and not each asked for.
    let bytes = noise(40 * 64 * KIB);
    let upload = stack.plan("unconfirmed.bin", &bytes, 64 * KIB).await;
    for index in 0..39 {
        upload.send(&bytes, index).await;
    }
    let problem = upload.complete().await.expect_problem(409, "upload_incomplete");
    assert_eq!(problem["missing_chunks"], json!([39]));
    assert_eq!(upload.get().await["uploaded_chunks_count"], 39);
    upload.send(&bytes, 39).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}
