//! What a crash can leave behind, and what must be there after one.

use std::fs;
use std::io::Write as _;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_removed_and_what_was_acknowledged_stays() {
    let rig = Rig::start().await;
    rig.put("a", "acknowledged").await;
    let upload = rig.begin("f").await;
    let etag = rig.put_part("f", &upload, 1, b"part".to_vec()).await;
    let folder = rig.stop().await;
    let root = folder.path();
    // A body that never got a record, drafts of a record and of a bucket, and a torn line of a log.
    fs::write(root.join("blobs/ab/ab000000000000000000000000000000"), "orphan").unwrap();
    fs::write(root.join("blobs/.DS_Store"), "not ours").unwrap();
    fs::write(root.join("buckets/.DS_Store"), "not ours").unwrap();
    fs::write(root.join("buckets/upflow/objects/00/.DS_Store"), "not ours").unwrap();
    fs::write(root.join("drafts/1234"), "{\"key\":").unwrap();
    fs::create_dir_all(root.join("drafts/5678/objects/00")).unwrap();
    let log = root.join(format!("buckets/upflow/uploads/{upload}.jsonl"));
    let whole = fs::metadata(&log).unwrap().len();
    fs::OpenOptions::new()
        .append(true)
        .open(&log)
        .unwrap()
        .write_all(b"{\"number\":2,\"si")
        .unwrap();

    let rig = Rig::start_in(folder).await;
    assert_eq!(rig.blobs(), 3);
    fs::remove_file(rig.folder.path().join("blobs/.DS_Store")).unwrap();
    assert_eq!(rig.blobs(), 2);
    assert_eq!(files(&rig.folder.path().join("drafts")), 0);
    assert_eq!(
        fs::metadata(rig.folder.path().join(format!("buckets/upflow/uploads/{upload}.jsonl")))
            .unwrap()
            .len(),
        whole
    );
    assert_eq!(rig.get("a").await, Some(b"acknowledged".to_vec()));
    rig.put_part("f", &upload, 2, b"another".to_vec()).await;
    let rig = rig.restart().await;
    let parts =
        rig.client.list_parts().bucket(BUCKET).key("f").upload_id(&upload).send().await.unwrap();
    assert_eq!(parts.parts().len(), 2);
    assert_eq!(parts.parts()[0].e_tag(), Some(etag.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_outlived_its_completed_upload_is_removed() {
    let rig = Rig::start().await;
    let upload = rig.begin("f").await;
    let etag = rig.put_part("f", &upload, 1, b"part".to_vec()).await;
    let log = rig.folder.path().join(format!("buckets/upflow/uploads/{upload}.jsonl"));
    let saved = fs::read(&log).unwrap();
    let part = aws_sdk_s3::types::CompletedPart::builder().part_number(1).e_tag(etag).build();
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part).build();
    let done = rig.client.complete_multipart_upload().bucket(BUCKET).key("f").upload_id(&upload);
    done.multipart_upload(parts).send().await.unwrap();
    let folder = rig.stop().await;
    fs::write(&log, saved).unwrap();
    let rig = Rig::start_in(folder).await;
    assert!(!log.exists());
    assert!(
        rig.client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap()
            .uploads()
            .is_empty()
    );
    rig.client.delete_object().bucket(BUCKET).key("f").send().await.unwrap();
    until(|| rig.blobs() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_swept_while_a_record_cannot_be_read() {
    let rig = Rig::start().await;
    rig.put("a", "precious").await;
    rig.put("b", "fine").await;
    let path = rig.store.bucket(BUCKET).unwrap().record_path("a");
    let folder = rig.stop().await;
    let saved = fs::read(&path).unwrap();
    fs::write(&path, &saved[..10]).unwrap();
    let rig = Rig::start_in(folder).await;
    assert_eq!((rig.get("a").await, rig.get("b").await), (None, Some(b"fine".to_vec())));
    let folder = rig.stop().await;
    fs::write(&path, saved).unwrap();
    let rig = Rig::start_in(folder).await;
    assert_eq!(rig.get("a").await, Some(b"precious".to_vec()));
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("layout"), "upflow local store, layout 2\n").unwrap();
    assert_eq!(Store::open(folder.path()).err().unwrap().kind(), std::io::ErrorKind::InvalidData);
}
