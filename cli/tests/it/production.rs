//! The production set for one test: a database of its own, a stream of its own, a key prefix of its own,
//! on the servers that the environment names.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use upflow_core::config::{
    DatabaseSettings, QueueSettings, StaticCredentials, StorageArgs, StorageSettings,
};
use upflow_core::metrics::Metrics;
use upflow_core::queue::Queue;
use upflow_core::storage::{Filename, ListedMultipart, ObjectKey, Storage};
use upflow_core::{Context, db, uploads};
use url::Url;
use uuid::Uuid;

use crate::gate::Gate;
use crate::harness::Options;

/// The S3 server, as `scripts/test` exports it.
pub struct S3Service {
    pub s3: Url,
    pub region: String,
    pub bucket: String,
    pub credentials: StaticCredentials,
}

/// `None` where a service is not named.
pub fn services() -> Option<S3Service> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    get("TEST_DATABASE_URL")?;
    get("TEST_REDIS_URL")?;
    let url = |name: &str| get(name).map(|url| Url::parse(&url).expect(name));
    Some(S3Service {
        s3: url("TEST_S3_ENDPOINT")?,
        region: get("TEST_S3_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
        bucket: get("TEST_S3_BUCKET").unwrap_or_else(|| "upflow".to_owned()),
        credentials: StaticCredentials {
            access_key: get("TEST_S3_ACCESS_KEY_ID")?,
            secret_key: get("TEST_S3_SECRET_ACCESS_KEY")?,
        },
    })
}

pub struct Production {
    pub ctx: Context,
    pub database: DatabaseSettings,
    pub queue: QueueSettings,
    pub storage: StorageSettings,
    pub gates: Option<Gates>,
    admin: DatabaseConnection,
    name: String,
}

/// What stands before each server.
#[derive(Clone)]
pub struct Gates {
    pub database: Gate,
    pub redis: Gate,
    pub s3: Gate,
}

impl Production {
    /// `own_bucket`: the bucket of the environment instead of the server on loopback.
    pub async fn start(own_bucket: bool, options: &Options) -> Self {
        let name = format!("upflow_test_{}", Uuid::new_v4().simple());
        let (mut database, mut redis) = (required("TEST_DATABASE_URL"), required("TEST_REDIS_URL"));
        let admin = Database::connect(database.as_str()).await.expect("TEST_DATABASE_URL");
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        database.set_path(&name);
        let mut storage = if own_bucket { bucket_of_the_environment() } else { on_loopback() };
        storage.key_prefix = match &options.key_prefix {
            Some(prefix) => prefix.clone(),
            None => format!("{}{name}/", storage.key_prefix),
        };

        let mut gates = None;
        if options.gated {
            let s3 = storage.endpoint.clone().expect("an S3 on loopback");
            let made = Gates {
                database: Gate::before(&database).await,
                redis: Gate::before(&redis).await,
                s3: Gate::before(&s3).await,
            };
            database = made.database.url(&database);
            redis = made.redis.url(&redis);
            storage.endpoint = Some(made.s3.url(&s3));
            gates = Some(made);
        }
        let database = DatabaseSettings {
            url: database.to_string(),
            max_connections: 10,
            timeout: Duration::from_secs(5),
        };
        let queue = QueueSettings {
            url: redis.to_string(),
            stream: name.clone(),
            claim_after: Duration::from_secs(60),
            remove_after: Duration::from_secs(600),
        };
        let db = db::connect(&database).await.unwrap();
        upflow_migration::up(&db).await.unwrap();
        let metrics = Metrics::default();
        let ctx = Context {
            db,
            storage: Storage::connect(&storage, &metrics).await,
            queue: Queue::redis(&queue).await.unwrap(),
            limits: Arc::new(options.limits.clone()),
            metrics,
        };
        Self { ctx, database, queue, storage, gates, admin, name }
    }

    /// The multipart uploads that have no right to be there: those of uploads that a test has left unfinished
    /// have one, and are aborted here.
    async fn left_multiparts(&self) -> Vec<ListedMultipart> {
        let mut left = Vec::new();
        for listed in self.ctx.storage.list_multiparts("", None).await.unwrap().uploads {
            let upload_id = upload_of(&listed.key);
            match uploads::find(&self.ctx.db, upload_id).await {
                Ok(row) if !row.status.is_final() => {
                    let filename = Filename::parse(&row.filename).unwrap();
                    let key = ObjectKey::Final { upload_id, filename };
                    self.ctx.storage.abort_multipart(&key, &listed.upload_id).await.unwrap();
                }
                _ => left.push(listed),
            }
        }
        left
    }

    pub async fn tear_down(self) {
        if let Some(gates) = &self.gates {
            gates.s3.open();
        }
        // A worker that was killed may have left a trial; a janitor removes it once it is old.
        self.ctx.storage.remove_trials(chrono::DateTime::<chrono::Utc>::MAX_UTC).await.unwrap();
        // Everything under the prefix of this test.
        self.ctx.storage.delete_all("").await.unwrap();
        let left = self.left_multiparts().await;
        self.ctx.db.clone().close().await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.execute_unprepared(&drop).await.unwrap();
        self.admin.close().await.unwrap();
        let redis = crate::worker::redis(&self.queue).await;
        let _: () = fred::interfaces::KeysInterface::del(&redis, &self.queue.stream).await.unwrap();
        assert!(left.is_empty(), "multipart uploads were left: {left:?}");
    }
}

/// Removes what tests that were cut short have left in the bucket of the environment.
pub fn empty_prefix() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let storage = Storage::connect(&bucket_of_the_environment(), &Metrics::default()).await;
        for listed in storage.list_multiparts("", None).await.unwrap().uploads {
            let (key, upload_id) = (listed.key, listed.upload_id);
            // `{test}/uploads/{upload_id}/final/{filename}`
            let mut segments = key.split('/').rev();
            let filename = Filename::parse(segments.next().unwrap()).unwrap();
            println!("aborting the multipart upload {upload_id} to {key}");
            let id = segments.nth(1).unwrap().parse().unwrap();
            let mut below = bucket_of_the_environment();
            below.key_prefix = format!("{}{}/", below.key_prefix, key.split('/').next().unwrap());
            let key = ObjectKey::Final { upload_id: id, filename };
            let storage = Storage::connect(&below, &Metrics::default()).await;
            storage.abort_multipart(&key, &upload_id).await.unwrap();
        }
        println!("removed {} objects", storage.delete_all("").await.unwrap());
    });
}

/// The upload of a key of its.
fn upload_of(key: &str) -> Uuid {
    key.strip_prefix("uploads/").and_then(|below| below.split('/').next()).unwrap().parse().unwrap()
}

fn required(name: &str) -> Url {
    let value =
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: use scripts/test"));
    Url::parse(&value).expect(name)
}

fn on_loopback() -> StorageSettings {
    let services = services().expect("TEST_S3_… are not set: use scripts/test");
    StorageSettings {
        region: services.region,
        bucket: services.bucket,
        endpoint: Some(services.s3.clone()),
        public_endpoint: Some(services.s3),
        path_style: true,
        key_prefix: String::new(),
        chunk_tag: None,
        timeout: Duration::from_secs(10),
        max_calls: 256,
        credentials: Some(services.credentials),
    }
}

/// As `upflow-api` itself reads it.
fn bucket_of_the_environment() -> StorageSettings {
    use clap::{Args, FromArgMatches};
    let command = StorageArgs::augment_args(clap::Command::new("upflow"));
    let matches = command.get_matches_from(["upflow"]);
    let args = StorageArgs::from_arg_matches(&matches).unwrap();
    let mut faults = upflow_core::config::Faults::default();
    let settings = args.check(&mut faults);
    let mut settings = faults.end(settings).unwrap_or_else(|error| panic!("{error}"));
    let prefix = std::env::var("TEST_S3_PREFIX").unwrap_or_default();
    settings.key_prefix = format!("{}{prefix}/", settings.key_prefix);
    settings
}
