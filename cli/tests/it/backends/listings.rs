//! ListObjectsV2, ListParts and ListMultipartUploads: pages, prefixes, delimiters, spelling.

use std::sync::Arc;

use aws_sdk_s3::types::EncodingType;
use futures::stream::{self, StreamExt as _};

use super::difference::Difference;
use super::multipart::Upload;
use super::server::{Server, outcome, refused, success};
use super::{Tests, tests};
use crate::client::noise;

pub const TESTS: Tests = tests![
    a_page_has_a_thousand_keys_at_most_and_they_are_in_order,
    a_delimiter_rolls_up_and_pages_go_on_behind_it,
    a_listing_begins_behind_a_key,
    keys_are_spelt_as_asked_for,
    what_a_listing_says_of_an_object_is_so,
    a_listing_that_cannot_be_is_refused,
    parts_are_listed_in_pages,
    uploads_are_listed_in_pages_in_the_order_of_their_keys,
];

async fn put_all(s3: &Server, names: impl IntoIterator<Item = String>) {
    stream::iter(names)
        .for_each_concurrent(8, |name| async move { drop(s3.put(&s3.key(&name), "x").await) })
        .await;
}

/// Keys and common prefixes of each page, without the test's own prefix.
async fn pages(s3: &Server, delimiter: Option<&str>, size: Option<i32>) -> Vec<Vec<String>> {
    let (mut pages, mut token) = (Vec::new(), None::<String>);
    loop {
        let list = s3.client.list_objects_v2().bucket(&s3.bucket).prefix(&s3.prefix);
        let list = list.set_delimiter(delimiter.map(str::to_owned)).set_max_keys(size);
        let page = list.set_continuation_token(token.take()).send().await.unwrap();
        let keys = page.contents().iter().map(|object| object.key().unwrap());
        let prefixes = page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap());
        let mut names: Vec<String> =
            keys.chain(prefixes).map(|name| name[s3.prefix.len()..].to_owned()).collect();
        s3.is("key count", page.key_count(), Some(names.len() as i32));
        s3.is("truncated", page.is_truncated(), Some(page.next_continuation_token().is_some()));
        names.sort_unstable();
        pages.push(names);
        token = page.next_continuation_token;
        if token.is_none() || pages.len() > 20 {
            return pages;
        }
    }
}

async fn a_page_has_a_thousand_keys_at_most_and_they_are_in_order(s3: Arc<Server>) {
    let mut names: Vec<String> = (0..1_100).map(|n| format!("n/{n}")).collect();
    put_all(&s3, names.clone()).await;
    names.sort_unstable();
    let listed = pages(&s3, None, None).await;
    s3.is("pages", listed.iter().map(Vec::len).collect(), vec![1_000, 100]);
    assert!(listed.concat() == names);
    let more = pages(&s3, None, Some(5_000)).await;
    let sizes = more.iter().map(Vec::len).collect();
    s3.differs(Difference::PagesMayBeLarger, sizes, vec![1_000, 100], vec![1_100]);
}

async fn a_delimiter_rolls_up_and_pages_go_on_behind_it(s3: Arc<Server>) {
    let names = ["a/1", "a/2", "b c/1", "b c/2", "b c/d/3", "c+d", "d/1", "é/1"];
    put_all(&s3, names.map(str::to_owned)).await;
    let expected = ["a/", "b c/", "c+d", "d/", "é/"].map(str::to_owned).to_vec();
    for size in [1, 2, 4] {
        let listed = pages(&s3, Some("/"), Some(size)).await;
        s3.is("names", listed.concat(), expected.clone());
        s3.is("page size", listed.iter().all(|page| page.len() <= size as usize), true);
    }
    let listed = pages(&s3, Some("/1"), None).await.concat();
    s3.is("a longer delimiter", listed, names.map(str::to_owned).to_vec());
    // A hyphen comes before a slash.
    put_all(&s3, ["a-1".to_owned()]).await;
    let listed = pages(&s3, Some("/"), Some(1)).await.concat();
    let first = listed.first().map(String::as_str);
    s3.differs(Difference::FoldersComeInOrder, first, Some("a-1"), Some("a/"));
}

async fn a_listing_begins_behind_a_key(s3: Arc<Server>) {
    put_all(&s3, ["a", "b", "b/1", "c"].map(str::to_owned)).await;
    let list = s3.client.list_objects_v2().bucket(&s3.bucket).prefix(&s3.prefix);
    let listed = list.start_after(s3.key("b")).send().await.unwrap();
    let keys: Vec<_> = listed.contents().iter().map(|object| object.key().unwrap()).collect();
    let (below, next) = (s3.key("b/1"), s3.key("c"));
    let difference = Difference::StartAfterSkipsWhatIsBelow;
    s3.differs(difference, keys, vec![below.as_str(), &next], vec![&next]);
    let start_after = s3.key("b");
    s3.is("repeated", listed.start_after(), Some(start_after.as_str()));
}

async fn keys_are_spelt_as_asked_for(s3: Arc<Server>) {
    put_all(&s3, ["b c/ü+&.txt".to_owned()]).await;
    let list = || s3.client.list_objects_v2().bucket(&s3.bucket).prefix(s3.key("b c/"));
    let plain = list().send().await.unwrap();
    s3.is("plain", plain.contents()[0].key().map(str::to_owned), Some(s3.key("b c/ü+&.txt")));
    let url = list().encoding_type(EncodingType::Url).send().await.unwrap();
    // A space may be + or %20, as both are decoded alike.
    let key = url.contents()[0].key().unwrap().replace('+', "%20");
    s3.is("as in a URL", key, s3.key("b%20c/%C3%BC%2B%26.txt"));
    let prefix = url.prefix().unwrap().replace('+', "%20");
    s3.differs(Difference::PrefixIsNotEncoded, prefix, s3.key("b%20c/"), s3.key("b c/"));
    s3.is("said", url.encoding_type(), Some(&EncodingType::Url));
}

async fn what_a_listing_says_of_an_object_is_so(s3: Arc<Server>) {
    let etag = s3.put(&s3.key("a"), noise(1234)).await;
    let listed = s3.client.list_objects_v2().bucket(&s3.bucket).prefix(&s3.prefix);
    let listed = listed.send().await.unwrap();
    let object = &listed.contents()[0];
    s3.is("size", object.size(), Some(1234));
    s3.is("ETag", object.e_tag(), Some(etag.as_str()));
    s3.is("class", object.storage_class().map(|class| class.as_str()), Some("STANDARD"));
    let head = s3.client.head_object().bucket(&s3.bucket).key(s3.key("a")).send().await.unwrap();
    let seconds = |time: Option<&aws_sdk_s3::primitives::DateTime>| time.map(|time| time.secs());
    s3.is("time", seconds(object.last_modified()), seconds(head.last_modified()));
    s3.is("name", listed.name(), Some(s3.bucket.as_str()));
}

async fn a_listing_that_cannot_be_is_refused(s3: Arc<Server>) {
    let list = || s3.client.list_objects_v2().bucket(&s3.bucket).prefix(&s3.prefix);
    let negative = list().max_keys(-1).send().await;
    s3.is("less than nothing", outcome(&negative), refused(400, "InvalidArgument"));
    let token = list().continuation_token("made up").send().await;
    let aws = refused(400, "InvalidArgument");
    s3.differs(Difference::AnyTokenPasses, outcome(&token), aws, success());
    s3.put(&s3.key("a"), "x").await;
    let none = list().max_keys(0).send().await.unwrap();
    s3.is("nothing asked for", (none.key_count(), none.is_truncated()), (Some(0), Some(false)));
}

async fn parts_are_listed_in_pages(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    for number in [1, 2, 3, 5, 8] {
        upload.put(number, &noise(number as usize)).await;
    }
    let (mut seen, mut marker) = (Vec::new(), None::<String>);
    loop {
        let list = s3.client.list_parts().bucket(&s3.bucket).key(&upload.key);
        let list = list.upload_id(&upload.id).max_parts(2);
        let page = list.set_part_number_marker(marker.take()).send().await.unwrap();
        s3.is("page size", page.parts().len() <= 2, true);
        seen.extend(page.parts().iter().map(|part| (part.part_number(), part.size())));
        if page.is_truncated() != Some(true) {
            break;
        }
        marker = page.next_part_number_marker;
    }
    let expected = [1, 2, 3, 5, 8].map(|number| (Some(number), Some(i64::from(number))));
    s3.is("parts", seen, expected.to_vec());
}

async fn uploads_are_listed_in_pages_in_the_order_of_their_keys(s3: Arc<Server>) {
    let mut begun = Vec::new();
    let names = ["c", "b/2", "a", "b/1", "a"].map(str::to_owned);
    for name in names.into_iter().chain((0..10).map(|n| format!("d{n}"))) {
        let upload = Upload::begin(&s3, &name).await;
        begun.push((upload.key, upload.id));
    }
    begun.sort();
    let (mut seen, mut marker) = (Vec::new(), (None, None));
    loop {
        let list = s3.client.list_multipart_uploads().bucket(&s3.bucket).prefix(&s3.prefix);
        let list = list.max_uploads(4).set_key_marker(marker.0).set_upload_id_marker(marker.1);
        let page = list.send().await.unwrap();
        let shown = page.uploads().iter();
        seen.extend(
            shown.map(|one| (one.key().unwrap().to_owned(), one.upload_id().unwrap().to_owned())),
        );
        marker = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || seen.len() > 100 {
            break;
        }
    }
    let keys: Vec<_> = seen.iter().map(|one| one.0.clone()).collect();
    let sorted: Vec<_> = begun.iter().map(|one| one.0.clone()).collect();
    s3.differs(Difference::UploadsAreInNoOrder, keys == sorted, true, false);
    seen.sort();
    s3.is("each once", seen, begun);
    let list = || s3.client.list_multipart_uploads().bucket(&s3.bucket);
    let rolled = list().prefix(&s3.prefix).delimiter("/").send().await.unwrap();
    let rolled = (rolled.uploads().len(), rolled.common_prefixes().len());
    s3.differs(Difference::UploadsAreNotRolledUp, rolled, (13, 1), (15, 0));
    let some = list().prefix(s3.key("b/")).send().await.unwrap();
    s3.is("with a prefix", some.uploads().len(), 2);
}
