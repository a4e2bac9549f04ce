//! Random sequences of operations, against a model in memory that says what S3 would do.

mod objects;
mod uploads;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const KEYS: [&str; 6] = ["a", "a/b", "../x", "ü %+", "a/b/c", "a-b"];
/// The last is large enough for a part before the last, and for a range of it to be copied.
const SIZES: [usize; 4] = [0, 1, 70_000, 5 * MIB + 1];

/// What a write demands of the object that is there, or a copy of its source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Demand {
    Nothing,
    /// If-None-Match: *
    Absent,
    /// If-Match, with the ETag that the object has.
    Same,
    /// If-Match, with another.
    Another,
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: usize,
        size: usize,
        seed: u64,
        demand: Demand,
    },
    /// With the checksum of another body.
    PutDamaged {
        key: usize,
    },
    Get {
        key: usize,
        from: usize,
        length: usize,
    },
    Delete {
        key: usize,
        demand: Demand,
    },
    DeleteMany {
        keys: Vec<usize>,
    },
    List {
        prefix: usize,
        delimiter: bool,
        page: i32,
        after: Option<usize>,
    },
    Begin {
        key: usize,
    },
    PutPart {
        upload: usize,
        number: i32,
        size: usize,
        seed: u64,
    },
    CopyPart {
        upload: usize,
        number: i32,
        source: usize,
        half: bool,
        demand: Demand,
    },
    ListParts {
        upload: usize,
    },
    Complete {
        upload: usize,
        skip: i32,
        demand: Demand,
    },
    Abort {
        upload: usize,
    },
    ListUploads {
        page: i32,
    },
    Restart,
}

fn demand() -> impl Strategy<Value = Demand> {
    prop_oneof![
        5 => Just(Demand::Nothing),
        1 => Just(Demand::Absent),
        1 => Just(Demand::Same),
        1 => Just(Demand::Another),
    ]
}

/// A source cannot be demanded to be absent.
fn source_demand() -> impl Strategy<Value = Demand> {
    prop_oneof![4 => Just(Demand::Nothing), 1 => Just(Demand::Same), 1 => Just(Demand::Another)]
}

fn object_step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let size = (0..SIZES.len()).prop_map(|index| SIZES[index]);
    prop_oneof![
        6 => (key.clone(), size, any::<u64>(), demand())
            .prop_map(|(key, size, seed, demand)| Step::Put { key, size, seed, demand }),
        1 => key.clone().prop_map(|key| Step::PutDamaged { key }),
        3 => (key.clone(), 0..80_000_usize, 1..80_000_usize)
            .prop_map(|(key, from, length)| Step::Get { key, from, length }),
        1 => (key.clone(), source_demand()).prop_map(|(key, demand)| Step::Delete { key, demand }),
        1 => prop::collection::vec(key.clone(), 1..3).prop_map(|keys| Step::DeleteMany { keys }),
        3 => (key.clone(), any::<bool>(), 1..4_i32, prop::option::weighted(0.3, key))
            .prop_map(|(prefix, delimiter, page, after)| Step::List { prefix, delimiter, page, after }),
    ]
}

fn upload_step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let size = (0..SIZES.len()).prop_map(|index| SIZES[index]);
    let upload = 0..4_usize;
    let number = 1..4_i32;
    prop_oneof![
        3 => key.clone().prop_map(|key| Step::Begin { key }),
        6 => (upload.clone(), number.clone(), size, any::<u64>())
            .prop_map(|(upload, number, size, seed)| Step::PutPart { upload, number, size, seed }),
        6 => (upload.clone(), number, key, any::<bool>(), source_demand())
            .prop_map(|(upload, number, source, half, demand)| {
                Step::CopyPart { upload, number, source, half, demand }
            }),
        1 => upload.clone().prop_map(|upload| Step::ListParts { upload }),
        5 => (upload.clone(), 0..8_i32, demand())
            .prop_map(|(upload, skip, demand)| Step::Complete { upload, skip, demand }),
        1 => upload.prop_map(|upload| Step::Abort { upload }),
        1 => (1..4_i32).prop_map(|page| Step::ListUploads { page }),
    ]
}

struct ModelObject {
    body: Vec<u8>,
    etag: String,
    /// The upload that made it.
    made_by: Option<usize>,
}

struct ModelUpload {
    key: &'static str,
    id: String,
    /// Bytes and ETag.
    parts: BTreeMap<i32, (Vec<u8>, String)>,
    open: bool,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<&'static str, ModelObject>,
    uploads: Vec<ModelUpload>,
}

#[test]
fn random_sequences_do_what_s3_would_do() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let step = prop_oneof![5 => object_step(), 7 => upload_step(), 1 => Just(Step::Restart)];
    TestRunner::new(config)
        .run(&prop::collection::vec(step, 1..50), |steps| {
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
        let body = model.objects.get(key).map(|object| &object.body);
        assert_eq!(rig.get(key).await.as_ref(), body, "{key}");
        rig.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    for upload in model.uploads.iter().filter(|upload| upload.open) {
        let abort = rig.client.abort_multipart_upload().bucket(BUCKET).key(upload.key);
        abort.upload_id(&upload.id).send().await.unwrap();
    }
    // Whatever happened before: nothing is left to pay for.
    until(|| rig.blobs() == 0).await;
    assert_eq!(files(&rig.folder.path().join("buckets/upflow")), 1);
}

impl Model {
    async fn step(&mut self, rig: Rig, step: Step) -> Rig {
        match step {
            Step::Put { key, size, seed, demand } => {
                self.put(&rig, KEYS[key], noise(size, seed), demand).await
            }
            Step::PutDamaged { key } => self.put_damaged(&rig, KEYS[key]).await,
            Step::Get { key, from, length } => self.get(&rig, KEYS[key], from, length).await,
            Step::Delete { key, demand } => self.delete(&rig, KEYS[key], demand).await,
            Step::DeleteMany { keys } => self.delete_many(&rig, &keys).await,
            Step::List { prefix, delimiter, page, after } => {
                self.list(&rig, KEYS[prefix], delimiter, page, after.map(|key| KEYS[key])).await
            }
            Step::Begin { key } => {
                let (key, parts) = (KEYS[key], BTreeMap::new());
                self.uploads.push(ModelUpload { key, id: rig.begin(key).await, parts, open: true });
            }
            Step::PutPart { upload, number, size, seed } => {
                self.put_part(&rig, upload, number, noise(size, seed)).await
            }
            Step::CopyPart { upload, number, source, half, demand } => {
                self.copy_part(&rig, upload, number, KEYS[source], half, demand).await;
            }
            Step::ListParts { upload } => self.list_parts(&rig, upload).await,
            Step::Complete { upload, skip, demand } => {
                self.complete(&rig, upload, skip, demand).await
            }
            Step::Abort { upload } => self.abort(&rig, upload).await,
            Step::ListUploads { page } => self.list_uploads(&rig, page).await,
            Step::Restart => return rig.restart().await,
        }
        rig
    }

    /// The If-Match that a demand makes of the object under a key.
    fn if_match(&self, key: &str, demand: Demand) -> Option<String> {
        let etag = self.objects.get(key).map(|object| object.etag.clone());
        match demand {
            Demand::Same => Some(etag.unwrap_or_else(|| "\"none\"".to_owned())),
            Demand::Another => Some("\"another\"".to_owned()),
            Demand::Nothing | Demand::Absent => None,
        }
    }

    /// The code with which a write is refused, if it is.
    fn refusal(&self, key: &str, demand: Demand) -> Option<(u16, String)> {
        let failed = Some((412, "PreconditionFailed".to_owned()));
        match (demand, self.objects.contains_key(key)) {
            (Demand::Nothing, _) | (Demand::Absent, false) | (Demand::Same, true) => None,
            (Demand::Absent, true) | (Demand::Another, true) => failed,
            (Demand::Same | Demand::Another, false) => Some((404, "NoSuchKey".to_owned())),
        }
    }
}

fn if_none_match(demand: Demand) -> Option<String> {
    (demand == Demand::Absent).then(|| "*".to_owned())
}
