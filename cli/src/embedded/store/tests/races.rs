//! Many clients on one key or one upload.

use aws_sdk_s3::primitives::ByteStream;

use super::multipart::complete;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_conditional_puts_wins() {
    let rig = Rig::start().await;
    for round in 0..5 {
        let key = format!("round-{round}");
        let puts = (0..16_u8).map(|n| {
            let put = rig.client.put_object().bucket(BUCKET).key(&key).if_none_match("*");
            async move { (n, put.body(ByteStream::from(vec![n; 1000])).send().await.is_ok()) }
        });
        let winners: Vec<u8> = futures::future::join_all(puts)
            .await
            .into_iter()
            .filter(|(_, won)| *won)
            .map(|(n, _)| n)
            .collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(rig.get(&key).await, Some(vec![winners[0]; 1000]));
    }
    assert_eq!(rig.blobs(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_and_deletes_of_one_key_end_in_one_whole_object() {
    let rig = Rig::start().await;
    let work = (0..40_u8).map(|n| {
        let client = rig.client.clone();
        async move {
            if n % 5 == 4 {
                client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
            } else {
                let put = client
                    .put_object()
                    .bucket(BUCKET)
                    .key("a")
                    .body(ByteStream::from(vec![n; 200_000]));
                put.send().await.unwrap();
            }
            match client.get_object().bucket(BUCKET).key("a").send().await {
                Ok(found) => {
                    let body = bytes(found).await;
                    assert_eq!(body.len(), 200_000);
                    assert!(body.iter().all(|byte| *byte == body[0]));
                }
                Err(error) => assert_eq!(code(&error), (404, "NoSuchKey".into())),
            }
        }
    });
    futures::future::join_all(work).await;
    let there = rig.get("a").await.is_some();
    let rig = rig.restart().await;
    assert_eq!(rig.get("a").await.is_some(), there);
    assert_eq!(rig.blobs(), usize::from(there));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_the_whole_object_although_it_is_deleted_meanwhile() {
    let rig = Rig::start().await;
    let body = noise(24 * MIB, 5);
    rig.put("a", body.clone()).await;
    let reading = rig.client.get_object().bucket(BUCKET).key("a").send().await.unwrap();
    rig.client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
    assert_eq!(rig.get("a").await, None);
    assert_eq!(bytes(reading).await, body);
    until(|| rig.blobs() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_arrive_while_others_complete_and_abort() {
    let rig = Rig::start().await;
    for round in 0..4 {
        let key = format!("f{round}");
        let upload = rig.begin(&key).await;
        let etag = rig.put_part(&key, &upload, 1, noise(100_000, 1)).await;
        let mut work: Vec<futures::future::BoxFuture<'_, bool>> = Vec::new();
        for number in 2..10 {
            let put = rig
                .client
                .upload_part()
                .bucket(BUCKET)
                .key(&key)
                .upload_id(&upload)
                .part_number(number);
            let put = put.body(ByteStream::from(noise(100_000, number as u64)));
            work.push(Box::pin(async move {
                if let Err(error) = put.send().await {
                    assert_eq!(code(&error), (404, "NoSuchUpload".into()));
                }
                false
            }));
        }
        for _ in 0..3 {
            let done = complete(&rig, &key, &upload, [(1, etag.clone())]);
            work.push(Box::pin(async move {
                match done.send().await {
                    Ok(_) => true,
                    Err(error) => {
                        assert_eq!(code(&error), (404, "NoSuchUpload".into()));
                        false
                    }
                }
            }));
        }
        if round % 2 == 1 {
            let abort =
                rig.client.abort_multipart_upload().bucket(BUCKET).key(&key).upload_id(&upload);
            work.push(Box::pin(async move {
                // It may come too late.
                drop(abort.send().await);
                false
            }));
        }
        let completed =
            futures::future::join_all(work).await.into_iter().any(|completed| completed);
        assert_eq!(rig.get(&key).await, completed.then(|| noise(100_000, 1)));
        rig.client.delete_object().bucket(BUCKET).key(&key).send().await.unwrap();
        until(|| rig.blobs() == 0).await;
    }
}
