//! Listings of objects and of uploads.

use super::super::listing::{After, Query, page};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_thousand_of_2500_keys() {
    let rig = Rig::start().await;
    let bucket = rig.store.bucket(BUCKET).unwrap();
    // Records without a body, written as the store writes them, but without a request for each.
    let template = {
        rig.put("chunks/0", "").await;
        bucket.read("chunks/0").unwrap().unwrap()
    };
    let mut expected: Vec<String> = (0..2500).map(|n| format!("chunks/{n}")).collect();
    tokio::task::spawn_blocking({
        let (bucket, keys) = (bucket.clone(), expected.clone());
        move || {
            for key in keys {
                let mut record = template.clone();
                record.key = key;
                let held = bucket.blobs().hold(&[]).unwrap();
                bucket.publish(record, held, &super::super::bucket::Condition::Always).unwrap();
            }
        }
    })
    .await
    .unwrap();
    expected.sort_unstable();
    let (mut keys, mut pages, mut token) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let list = rig.client.list_objects_v2().bucket(BUCKET).prefix("chunks/");
        let page = list.set_continuation_token(token.take()).send().await.unwrap();
        pages.push(page.key_count().unwrap());
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        assert_eq!(page.is_truncated(), Some(page.next_continuation_token().is_some()));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages, [1000, 1000, 500]);
    assert_eq!(keys, expected);
    let after =
        rig.client.list_objects_v2().bucket(BUCKET).start_after("chunks/998").send().await.unwrap();
    assert_eq!(after.contents()[0].key(), Some("chunks/999"));
    let rolled = rig.client.list_objects_v2().bucket(BUCKET).delimiter("/").send().await.unwrap();
    assert_eq!(rolled.common_prefixes()[0].prefix(), Some("chunks/"));
    assert_eq!((rolled.contents().len(), rolled.key_count()), (0, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_listed_in_pages() {
    let rig = Rig::start().await;
    let mut begun = Vec::new();
    for key in ["a", "a", "b/1", "b/2", "c"] {
        begun.push((key.to_owned(), rig.begin(key).await));
    }
    let rig = rig.restart().await;
    let (mut seen, mut marker) = (Vec::new(), (None, None));
    loop {
        let list = rig.client.list_multipart_uploads().bucket(BUCKET).max_uploads(2);
        let list = list.set_key_marker(marker.0).set_upload_id_marker(marker.1);
        let page = list.send().await.unwrap();
        let shown = page.uploads().iter();
        seen.extend(
            shown.map(|one| (one.key().unwrap().to_owned(), one.upload_id().unwrap().to_owned())),
        );
        marker = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(seen, begun);
    let rolled =
        rig.client.list_multipart_uploads().bucket(BUCKET).delimiter("/").send().await.unwrap();
    assert_eq!((rolled.uploads().len(), rolled.common_prefixes().len()), (3, 1));
    let prefixed =
        rig.client.list_multipart_uploads().bucket(BUCKET).prefix("b/").send().await.unwrap();
    assert_eq!(prefixed.uploads().len(), 2);
}

#[test]
fn what_is_behind_a_prefix_is_found_at_the_edges_of_unicode() {
    let keys =
        ["a\u{d7ff}/1", "a\u{e000}/1", "a\u{10ffff}/1", "b"].map(|key| (key.to_owned(), ())).into();
    let mut query =
        Query { prefix: "", delimiter: Some("\u{10ffff}"), after: After::Nothing, limit: 10 };
    let rolled = page(&keys, &query);
    assert_eq!((rolled.items.len(), rolled.prefixes), (3, vec!["a\u{10ffff}".to_owned()]));
    query.after = After::Prefix("a\u{d7ff}".into());
    assert_eq!(page(&keys, &query).items[0].0, "a\u{e000}/1");
    query.after = After::Prefix("a\u{10ffff}".into());
    assert_eq!(page(&keys, &query).items[0].0, "b");
    query.after = After::Prefix("\u{10ffff}".into());
    assert!(page(&keys, &query).items.is_empty());
    for after in [After::Key("k".into()), After::Prefix("p/é".into())] {
        assert_eq!(After::from_token(&after.to_token()), Some(after));
    }
}
