//! `upflow s3` killed with `kill -9` in the midst of parallel writes, again and again in one folder: what was
//! acknowledged is there, and nothing else takes up space.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use upflow_core::config::StaticCredentials;

use crate::backends::client;
use crate::client::{MIB, noise};
use crate::harness::{Stack, Suite};
use crate::programs::{Running, program};
use crate::suite;

pub const SUITE: Suite = suite! { "crash":
    killed_again_and_again_the_store_keeps_what_it_acknowledged_and_nothing_else,
};

const BUCKET: &str = "upflow";
const ROUNDS: u64 = 6;
const WRITERS: usize = 3;
const ASSEMBLERS: usize = 3;
const SOURCES: [usize; 2] = [5 * MIB + 1, 5 * MIB + 1_000];
/// Where the second part begins in its source.
const FROM: usize = 333;

/// What the clients know, which is what must be so after a crash.
#[derive(Default)]
struct Known {
    /// The length of each object, which tells its bytes; none where a deletion was acknowledged.
    objects: BTreeMap<String, Option<usize>>,
    /// What was asked for and not answered: it may be so instead.
    asked: BTreeMap<String, Option<usize>>,
    uploads: BTreeMap<String, Assembly>,
    /// Lengths, each used once.
    used: usize,
}

#[derive(Debug, Clone, Default)]
struct Assembly {
    id: String,
    /// The parts that were acknowledged: number, ETag.
    parts: BTreeMap<i32, String>,
    /// How long the last part is.
    tail: usize,
    completing: bool,
    completed: bool,
}

/// One run of the program, with the clients that work on it.
#[derive(Clone)]
struct Run {
    client: Client,
    known: Arc<Mutex<Known>>,
    answers: Arc<watch::Sender<usize>>,
}

impl Known {
    fn length(&mut self) -> usize {
        self.used += 1;
        1 + self.used * 7_919 % 200_003
    }
}

impl Assembly {
    fn whole(&self) -> Vec<u8> {
        [&noise(SOURCES[0])[..], &noise(SOURCES[1])[FROM..], &noise(self.tail)].concat()
    }
}

async fn killed_again_and_again_the_store_keeps_what_it_acknowledged_and_nothing_else(
    stack: Stack,
) {
    let folder = stack.dir().join("crash");
    let known = Arc::new(Mutex::new(Known::default()));
    let mut random = rand::rngs::SmallRng::seed_from_u64(9);
    for round in 0..ROUNDS {
        let (program, client) = start(&folder).await;
        let run = Run { client, known: known.clone(), answers: Arc::new(watch::channel(0).0) };
        run.check(&folder).await;
        if round == 0 {
            for length in SOURCES {
                run.put(&format!("source/{length}"), length).await.unwrap();
            }
        }
        let mut answers = run.answers.subscribe();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..WRITERS {
            tasks.spawn(run.clone().write(round, number));
        }
        for number in 0..ASSEMBLERS {
            tasks.spawn(run.clone().assemble(format!("whole/{round}/{number}")));
        }
        // In the midst of it, at another moment in every round.
        let enough = random.random_range(20..160);
        answers.wait_for(|answers| *answers >= enough).await.unwrap();
        program.kill().await;
        // Each ends at its first call that is not answered.
        tasks.join_all().await;
    }
    let (program, client) = start(&folder).await;
    let run = Run { client, known, answers: Arc::new(watch::channel(0).0) };
    run.check(&folder).await;
    run.remove_all().await;
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
    let (named, there) = blobs(&folder.join("s3"));
    assert_eq!((named.len(), there.len()), (0, 0));
}

async fn start(folder: &Path) -> (Running, Client) {
    let mut command = program("upflow");
    command.args(["s3", "--s3-port", "0", "--data-dir"]).arg(folder);
    command.env("UPFLOW_S3_ACCESS_KEY", "crash").env("UPFLOW_S3_SECRET_KEY", "crash-secret");
    let mut running = Running::start(&mut command);
    let said = running.says("Ctrl-C").await;
    let address = said.split_once("http://").unwrap().1.split_whitespace().next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let keys =
        StaticCredentials { access_key: "crash".to_owned(), secret_key: "crash-secret".to_owned() };
    (running, client(address, &keys, "us-east-1"))
}

impl Run {
    fn answered(&self) {
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// None if there was no answer.
    async fn put(&self, key: &str, length: usize) -> Option<()> {
        self.known.lock().unwrap().asked.insert(key.to_owned(), Some(length));
        let put = self.client.put_object().bucket(BUCKET).key(key);
        put.body(noise(length).into()).send().await.ok()?;
        self.is_so(key, Some(length));
        Some(())
    }

    async fn delete(&self, key: &str) -> Option<()> {
        self.known.lock().unwrap().asked.insert(key.to_owned(), None);
        self.client.delete_object().bucket(BUCKET).key(key).send().await.ok()?;
        self.is_so(key, None);
        Some(())
    }

    fn is_so(&self, key: &str, length: Option<usize>) {
        let mut known = self.known.lock().unwrap();
        known.objects.insert(key.to_owned(), length);
        known.asked.remove(key);
        drop(known);
        self.answered();
    }

    /// Puts new objects, replaces some, deletes some, until there is no answer.
    async fn write(self, round: u64, number: usize) {
        for turn in 0.. {
            let length = self.known.lock().unwrap().length();
            // One name in four is used again, also by later rounds.
            let key = match turn % 4 {
                0 => format!("again/{number}/{}", turn % 3),
                _ => format!("new/{round}/{number}/{turn}"),
            };
            if self.put(&key, length).await.is_none() {
                return;
            }
            if turn % 5 == 4 && self.delete(&key).await.is_none() {
                return;
            }
        }
    }

    /// Assembles objects of copies and a part, until there is no answer.
    async fn assemble(self, name: String) {
        for turn in 0.. {
            let key = format!("{name}/{turn}");
            let begin = self.client.create_multipart_upload().bucket(BUCKET).key(&key);
            let Ok(begun) = begin.send().await else { return };
            let id = begun.upload_id.unwrap();
            let tail = self.known.lock().unwrap().length();
            let assembly = Assembly { id, tail, ..Assembly::default() };
            self.known.lock().unwrap().uploads.insert(key.clone(), assembly.clone());
            self.answered();
            let whole = self.copy(&key, &assembly, 1, SOURCES[0], None);
            let range = format!("bytes={FROM}-{}", SOURCES[1] - 1);
            let range = self.copy(&key, &assembly, 2, SOURCES[1], Some(range));
            let sent = self.put_part(&key, &assembly);
            let (whole, range, sent) = tokio::join!(whole, range, sent);
            if whole.and(range).and(sent).is_none() || self.complete(&key).await.is_none() {
                return;
            }
        }
    }

    async fn copy(
        &self,
        key: &str,
        assembly: &Assembly,
        number: i32,
        source: usize,
        range: Option<String>,
    ) -> Option<()> {
        let copy = self.client.upload_part_copy().bucket(BUCKET).key(key).upload_id(&assembly.id);
        let copy = copy.part_number(number).copy_source(format!("{BUCKET}/source/{source}"));
        let copied = copy.set_copy_source_range(range).send().await.ok()?;
        self.has_part(key, number, copied.copy_part_result?.e_tag?);
        Some(())
    }

    async fn put_part(&self, key: &str, assembly: &Assembly) -> Option<()> {
        let put = self.client.upload_part().bucket(BUCKET).key(key).upload_id(&assembly.id);
        let put = put.part_number(3).body(noise(assembly.tail).into()).send().await.ok()?;
        self.has_part(key, 3, put.e_tag?);
        Some(())
    }

    fn has_part(&self, key: &str, number: i32, etag: String) {
        let mut known = self.known.lock().unwrap();
        known.uploads.get_mut(key).unwrap().parts.insert(number, etag);
        drop(known);
        self.answered();
    }

    async fn complete(&self, key: &str) -> Option<()> {
        let assembly = {
            let mut known = self.known.lock().unwrap();
            let assembly = known.uploads.get_mut(key).unwrap();
            assembly.completing = true;
            assembly.clone()
        };
        let parts = assembly.parts.iter().map(|(number, etag)| {
            CompletedPart::builder().part_number(*number).e_tag(etag).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let complete = self.client.complete_multipart_upload().bucket(BUCKET).key(key);
        complete.upload_id(&assembly.id).multipart_upload(parts).send().await.ok()?;
        self.known.lock().unwrap().uploads.get_mut(key).unwrap().completed = true;
        self.answered();
        Some(())
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        match self.client.get_object().bucket(BUCKET).key(key).send().await {
            Ok(got) => Some(got.body.collect().await.unwrap().into_bytes()),
            Err(error) => {
                assert_eq!(error.raw_response().unwrap().status().as_u16(), 404, "{key}");
                None
            }
        }
    }

    /// Everything is as it was acknowledged, or as it was asked for in the moment of the crash.
    async fn check(&self, folder: &Path) {
        let (named, there) = blobs(&folder.join("s3"));
        assert_eq!(named, there, "what the records name is what there is");
        assert_eq!(std::fs::read_dir(folder.join("s3/drafts")).unwrap().count(), 0);
        let (objects, asked) = {
            let mut known = self.known.lock().unwrap();
            (known.objects.clone(), std::mem::take(&mut known.asked))
        };
        let keys: BTreeSet<&String> = objects.keys().chain(asked.keys()).collect();
        for key in keys {
            let found = self.get(key).await;
            let is = |length: Option<usize>| found == length.map(noise);
            let length = match (objects.get(key).copied().flatten(), asked.get(key).copied()) {
                (_, Some(asked)) if is(asked) => asked,
                (known, _) => {
                    let length = found.as_ref().map(Bytes::len);
                    assert!(is(known), "{key}: {length:?} instead of {known:?}");
                    known
                }
            };
            self.known.lock().unwrap().objects.insert(key.clone(), length);
        }
        let uploads = self.known.lock().unwrap().uploads.clone();
        for (key, assembly) in uploads {
            self.check_assembly(&key, assembly).await;
        }
    }

    /// What is begun is still under way, with its parts, or has become the object. Then it is ended.
    async fn check_assembly(&self, key: &str, assembly: Assembly) {
        if let Some(found) = self.get(key).await {
            assert!(assembly.completing, "{key} was never asked for");
            assert!(found == assembly.whole(), "{key}: {} bytes", found.len());
        } else {
            assert!(!assembly.completed, "{key} is lost");
            let list = self.client.list_parts().bucket(BUCKET).key(key).upload_id(&assembly.id);
            let listed = list.send().await.unwrap();
            let listed: BTreeMap<i32, &str> = listed
                .parts()
                .iter()
                .map(|part| (part.part_number().unwrap(), part.e_tag().unwrap()))
                .collect();
            for (number, etag) in &assembly.parts {
                assert_eq!(listed.get(number), Some(&etag.as_str()), "part {number} of {key}");
            }
            if assembly.parts.len() == 3 {
                self.complete(key).await.unwrap();
                assert!(self.get(key).await.unwrap() == assembly.whole(), "{key}");
            }
        }
        // Looked at once: each round has its own.
        self.known.lock().unwrap().uploads.remove(key);
    }

    async fn remove_all(&self) {
        loop {
            let listed = self.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
            for object in listed.contents() {
                self.delete(object.key().unwrap()).await.unwrap();
            }
            if listed.is_truncated() != Some(true) {
                break;
            }
        }
        let listed = self.client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
        for upload in listed.uploads() {
            let abort = self.client.abort_multipart_upload().bucket(BUCKET);
            let abort = abort.key(upload.key().unwrap()).upload_id(upload.upload_id().unwrap());
            abort.send().await.unwrap();
        }
    }
}

/// The blobs that records and logs name, and those that are there, as README.txt of the folder explains.
fn blobs(store: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut named = BTreeSet::new();
    let bucket = store.join("buckets").join(BUCKET);
    for path in files(&bucket.join("objects")).into_iter().chain(files(&bucket.join("uploads"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let pieces = record["pieces"].as_array().into_iter().flatten();
            named.extend(pieces.map(|piece| piece["blob"].as_str().unwrap().replace('-', "")));
        }
    }
    let there = files(&store.join("blobs")).into_iter();
    let there = there.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    (named, there.collect())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
