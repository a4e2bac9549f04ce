//! Random sequences of operations, against a model in memory that says what S3 would do.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const KEYS: [&str; 5] = ["a", "a/b", "../x", "ü %+", "a/b/c"];
const SIZES: [usize; 4] = [0, 1, 70_000, 5 * MIB];

#[derive(Debug, Clone)]
enum Step {
    Put { key: usize, size: usize, seed: u64, only_new: bool },
    Get { key: usize, from: usize, length: usize },
    Delete { keys: Vec<usize> },
    Begin { key: usize },
    PutPart { upload: usize, number: i32, size: usize, seed: u64 },
    CopyPart { upload: usize, number: i32, source: usize, half: bool },
    Complete { upload: usize, skip: i32, only_new: bool },
    Abort { upload: usize },
    List { prefix: usize, delimiter: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let size = (0..SIZES.len()).prop_map(|index| SIZES[index]);
    let upload = 0..4_usize;
    let number = 1..4_i32;
    prop_oneof![
        4 => (key.clone(), size.clone(), any::<u64>(), prop::bool::weighted(0.2))
            .prop_map(|(key, size, seed, only_new)| Step::Put { key, size, seed, only_new }),
        2 => (key.clone(), 0..80_000_usize, 1..80_000_usize)
            .prop_map(|(key, from, length)| Step::Get { key, from, length }),
        2 => prop::collection::vec(key.clone(), 1..3).prop_map(|keys| Step::Delete { keys }),
        3 => key.clone().prop_map(|key| Step::Begin { key }),
        6 => (upload.clone(), number.clone(), size, any::<u64>())
            .prop_map(|(upload, number, size, seed)| Step::PutPart { upload, number, size, seed }),
        6 => (upload.clone(), number, key.clone(), any::<bool>())
            .prop_map(|(upload, number, source, half)| Step::CopyPart { upload, number, source, half }),
        4 => (upload.clone(), 0..8_i32, prop::bool::weighted(0.2))
            .prop_map(|(upload, skip, only_new)| Step::Complete { upload, skip, only_new }),
        1 => upload.prop_map(|upload| Step::Abort { upload }),
        2 => (key, any::<bool>()).prop_map(|(prefix, delimiter)| Step::List { prefix, delimiter }),
        1 => Just(Step::Restart),
    ]
}

type Part = (Vec<u8>, String);

struct ModelUpload {
    key: &'static str,
    id: String,
    parts: BTreeMap<i32, Part>,
    open: bool,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<&'static str, Vec<u8>>,
    uploads: Vec<ModelUpload>,
}

#[test]
fn random_sequences_do_what_s3_would_do() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..40), |steps| {
            runtime.block_on(run(steps));
            Ok(())
        })
        .unwrap();
}

async fn run(steps: Vec<Step>) {
    let mut rig = Rig::start().await;
    let mut model = Model::default();
    for step in steps {
        rig = model.step(rig, step).await;
    }
    rig = rig.restart().await;
    for key in KEYS {
        assert_eq!(rig.get(key).await.as_ref(), model.objects.get(key), "{key}");
        rig.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    for upload in model.uploads.iter().filter(|upload| upload.open) {
        let abort = rig
            .client
            .abort_multipart_upload()
            .bucket(BUCKET)
            .key(upload.key)
            .upload_id(&upload.id);
        abort.send().await.unwrap();
    }
    // Whatever happened before: nothing is left to pay for.
    until(|| rig.blobs() == 0).await;
    assert_eq!(files(&rig.folder.path().join("buckets/upflow")), 1);
}

impl Model {
    async fn step(&mut self, rig: Rig, step: Step) -> Rig {
        match step {
            Step::Put { key, size, seed, only_new } => {
                self.put(&rig, KEYS[key], noise(size, seed), only_new).await
            }
            Step::Get { key, from, length } => self.get(&rig, KEYS[key], from, length).await,
            Step::Delete { keys } => {
                let named = keys.iter().map(|key| {
                    aws_sdk_s3::types::ObjectIdentifier::builder().key(KEYS[*key]).build().unwrap()
                });
                let delete =
                    aws_sdk_s3::types::Delete::builder().set_objects(Some(named.collect()));
                let delete =
                    rig.client.delete_objects().bucket(BUCKET).delete(delete.build().unwrap());
                assert!(delete.send().await.unwrap().errors().is_empty());
                keys.iter().for_each(|key| drop(self.objects.remove(KEYS[*key])));
            }
            Step::Begin { key } => {
                let id = rig.begin(KEYS[key]).await;
                self.uploads.push(ModelUpload {
                    key: KEYS[key],
                    id,
                    parts: BTreeMap::new(),
                    open: true,
                });
            }
            Step::PutPart { upload, number, size, seed } => {
                self.put_part(&rig, upload, number, noise(size, seed)).await
            }
            Step::CopyPart { upload, number, source, half } => {
                self.copy_part(&rig, upload, number, KEYS[source], half).await;
            }
            Step::Complete { upload, skip, only_new } => {
                self.complete(&rig, upload, skip, only_new).await
            }
            Step::Abort { upload } => {
                let Some(upload) = self.uploads.get_mut(upload) else { return rig };
                let abort = rig
                    .client
                    .abort_multipart_upload()
                    .bucket(BUCKET)
                    .key(upload.key)
                    .upload_id(&upload.id);
                match abort.send().await {
                    Ok(_) => assert!(std::mem::replace(&mut upload.open, false)),
                    Err(error) => {
                        assert_eq!(
                            (code(&error), upload.open),
                            ((404, "NoSuchUpload".into()), false)
                        );
                    }
                }
            }
            Step::List { prefix, delimiter } => self.list(&rig, KEYS[prefix], delimiter).await,
            Step::Restart => return rig.restart().await,
        }
        rig
    }

    async fn put(&mut self, rig: &Rig, key: &'static str, body: Vec<u8>, only_new: bool) {
        let put =
            rig.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from(body.clone()));
        let put = put
            .checksum_crc64_nvme(crc64(&body))
            .set_if_none_match(only_new.then(|| "*".to_owned()));
        match put.send().await {
            Ok(_) => {
                assert!(!only_new || !self.objects.contains_key(key));
                self.objects.insert(key, body);
            }
            Err(error) => {
                assert_eq!(code(&error), (412, "PreconditionFailed".into()));
                assert!(only_new && self.objects.contains_key(key));
            }
        }
    }

    async fn get(&self, rig: &Rig, key: &'static str, from: usize, length: usize) {
        let range = format!("bytes={from}-{}", from + length - 1);
        let got = rig.client.get_object().bucket(BUCKET).key(key).range(range).send().await;
        match (got, self.objects.get(key)) {
            (Ok(got), Some(body)) => {
                assert_eq!(bytes(got).await, body[from..body.len().min(from + length)])
            }
            (Err(error), Some(body)) => {
                assert_eq!((code(&error).0, from >= body.len()), (416, true))
            }
            (Err(error), None) => assert_eq!(code(&error), (404, "NoSuchKey".into())),
            (Ok(_), None) => panic!("{key} should not be there"),
        }
    }

    async fn put_part(&mut self, rig: &Rig, upload: usize, number: i32, body: Vec<u8>) {
        let Some(upload) = self.uploads.get_mut(upload) else { return };
        let put = rig
            .client
            .upload_part()
            .bucket(BUCKET)
            .key(upload.key)
            .upload_id(&upload.id)
            .part_number(number);
        match put.body(ByteStream::from(body.clone())).send().await {
            Ok(put) => {
                assert!(upload.open);
                upload.parts.insert(number, (body, put.e_tag.unwrap()));
            }
            Err(error) => {
                assert_eq!((code(&error), upload.open), ((404, "NoSuchUpload".into()), false))
            }
        }
    }

    async fn copy_part(
        &mut self,
        rig: &Rig,
        upload: usize,
        number: i32,
        source: &'static str,
        half: bool,
    ) {
        let Some(upload) = self.uploads.get_mut(upload) else { return };
        let path =
            percent_encoding::utf8_percent_encode(source, percent_encoding::NON_ALPHANUMERIC);
        let copy =
            rig.client.upload_part_copy().bucket(BUCKET).key(upload.key).upload_id(&upload.id);
        let copy = copy.part_number(number).copy_source(format!("{BUCKET}/{path}"));
        let body = self.objects.get(source);
        let half = half && body.is_some_and(|body| body.len() > 1);
        let range = body.map(|body| if half { body.len() / 2..body.len() } else { 0..body.len() });
        let header = range
            .clone()
            .filter(|_| half)
            .map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        match copy.set_copy_source_range(header).send().await {
            Ok(copied) => {
                assert!(upload.open);
                let body = body.unwrap()[range.unwrap()].to_vec();
                upload
                    .parts
                    .insert(number, (body, copied.copy_part_result.unwrap().e_tag.unwrap()));
            }
            Err(error) => {
                let expected = if upload.open { "NoSuchKey" } else { "NoSuchUpload" };
                assert_eq!(code(&error), (404, expected.into()));
                assert!(!upload.open || body.is_none());
            }
        }
    }

    async fn complete(&mut self, rig: &Rig, upload: usize, skip: i32, only_new: bool) {
        let Some(upload) = self.uploads.get_mut(upload).filter(|upload| upload.open) else {
            return;
        };
        let chosen: Vec<(i32, Part)> = upload
            .parts
            .iter()
            .filter(|(number, _)| **number != skip)
            .map(|(n, part)| (*n, part.clone()))
            .collect();
        let parts = chosen
            .iter()
            .map(|(n, (_, etag))| CompletedPart::builder().part_number(*n).e_tag(etag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let whole: Vec<u8> =
            chosen.iter().flat_map(|(_, (body, _))| body.iter().copied()).collect();
        let done = rig
            .client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key(upload.key)
            .upload_id(&upload.id);
        let done = done.multipart_upload(parts).checksum_crc64_nvme(crc64(&whole));
        let too_small = chosen.iter().rev().skip(1).any(|(_, (body, _))| body.len() < 5 * MIB);
        match done.set_if_none_match(only_new.then(|| "*".to_owned())).send().await {
            Ok(_) => {
                assert!(!chosen.is_empty() && !too_small);
                assert!(!only_new || !self.objects.contains_key(upload.key));
                upload.open = false;
                self.objects.insert(upload.key, whole);
            }
            Err(error) => match code(&error).1.as_str() {
                "MalformedXML" => assert!(chosen.is_empty()),
                "EntityTooSmall" => assert!(too_small),
                "PreconditionFailed" => assert!(only_new && self.objects.contains_key(upload.key)),
                other => panic!("{other}"),
            },
        }
    }

    async fn list(&self, rig: &Rig, prefix: &'static str, delimiter: bool) {
        let list = rig.client.list_objects_v2().bucket(BUCKET).prefix(prefix);
        let listed = list.set_delimiter(delimiter.then(|| "/".to_owned())).send().await.unwrap();
        let mut seen: BTreeMap<String, Option<i64>> = listed
            .contents()
            .iter()
            .map(|object| (object.key().unwrap().to_owned(), object.size()))
            .collect();
        seen.extend(
            listed
                .common_prefixes()
                .iter()
                .map(|prefix| (prefix.prefix().unwrap().to_owned(), None)),
        );
        let mut expected = BTreeMap::new();
        for (key, body) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            match key[prefix.len()..].find('/').filter(|_| delimiter) {
                Some(at) => expected.insert(key[..=prefix.len() + at].to_owned(), None),
                None => expected.insert((*key).to_owned(), Some(body.len() as i64)),
            };
        }
        assert_eq!(seen, expected);
    }
}
