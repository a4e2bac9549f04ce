//! What the database does for each query of a request, a job or the janitor once it holds a million chunks: it
//! finds rows by an index and reads no table from end to end. What operators and metrics count reads all.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TryGetable};
use serde_json::{Value, json};
use upflow_core::db::{self, Db, now};
use upflow_core::plan::{MIN_CHUNK_SIZE, Plan};
use upflow_core::storage::ObjectKey;
use upflow_core::uploads::{self as rows, Declared, Filter, SeenChunk};
use uuid::Uuid;

use crate::client::{KIB, Upload, crc64, noise};
use crate::harness::{Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "queries":
    none_reads_a_growing_table_from_end_to_end,
    the_count_of_confirmed_chunks_that_is_kept_is_that_of_the_rows,
};

const MINUTE: Duration = Duration::from_secs(60);
const TABLES: [&str; 4] = ["upload_chunks", "upload_sessions", "upload_events", "upload_counts"];

/// 40,000 uploads with four events each, most of them completed; a hundred of them under way, with ten
/// thousand chunks each.
const SEED: [&str; 6] = [
    // Rows that are made here need no look whether their upload is there.
    "SET session_replication_role = replica",
    "INSERT INTO upload_sessions (upload_id, filename, file_size, chunk_size, total_chunks, content_type,
         metadata, status, checksum_algorithm, final_s3_key, attempts, owner, expires_at, urls_expire_at,
         chunks_deleted_at, created_at, updated_at)
     SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'file', 52428800000, 5242880,
         10000, 'application/octet-stream', '{}',
         CASE WHEN n < 100 THEN 'uploading' WHEN n < 150 THEN 'pending_assembly' WHEN n < 200 THEN 'failed'
             WHEN n < 1000 THEN 'aborted' WHEN n < 2000 THEN 'expired' ELSE 'completed' END,
         'crc64nvme', 'key', 0, 'owner-' || n % 50, now() + interval '7 days', now(),
         CASE WHEN n >= 300 THEN now() - n * interval '1 minute' END,
         now() - n * interval '1 minute', now() - n * interval '1 minute'
     FROM generate_series(0, 39999) n",
    "INSERT INTO upload_chunks (upload_id, chunk_index, declared_checksum, size, etag, checksum, confirmed_at)
     SELECT ('00000000-0000-4000-8000-' || lpad((n / 10000)::text, 12, '0'))::uuid, n % 10000,
         'AAAAAAAAAAA=', 5242880, md5(n::text), 'AAAAAAAAAAA=', now()
     FROM generate_series(0, 999999) n WHERE n % 10000 <> 9999",
    "INSERT INTO upload_events (event_id, upload_id, at, event)
     SELECT gen_random_uuid(), upload_id, created_at, 'event' FROM upload_sessions, generate_series(1, 4)",
    "INSERT INTO upload_counts (upload_id, slot, confirmed)
     SELECT upload_id, 0, total_chunks - 1 FROM upload_sessions",
    "ANALYZE",
];

/// Nothing is under way, and nothing is left to be cleaned up. By the index of ids: this is no scan to be counted.
const QUIET: [&str; 5] = [
    "SET session_replication_role = replica",
    "SET enable_seqscan = off",
    "UPDATE upload_sessions SET status = 'completed', chunks_deleted_at = now()
     WHERE upload_id > '00000000-0000-0000-0000-000000000000'",
    "RESET enable_seqscan",
    "VACUUM ANALYZE upload_sessions",
];

fn upload(number: u32) -> Uuid {
    format!("00000000-0000-4000-8000-{number:012}").parse().unwrap()
}

fn seen(index: i32) -> SeenChunk {
    SeenChunk { index, size: 5_242_880, etag: "etag".to_owned(), checksum: None, known: false }
}

/// Everything that is asked of the database by clients, workers and the janitor.
async fn ask_everything(db: &Db) {
    let (now, life, lease) = (now(), 7 * 24 * 60 * MINUTE, Uuid::new_v4());
    let owner = Some("owner-7".to_owned());
    let all = Filter { limit: 51, owner, ..Filter::default() };
    let page = rows::list(db, all.clone(), now).await.unwrap();
    assert_eq!(page.len(), 51);
    let after = page
        .last()
        .map(|upload| rows::Cursor { created_at: upload.created_at, upload_id: upload.upload_id });
    for filter in [
        Filter { after, ..all.clone() },
        Filter { status: Some(upflow_core::lifecycle::Status::Completed), ..all },
    ] {
        assert_eq!(rows::list(db, filter, now).await.unwrap().len(), 51);
    }
    let new = rows::NewUpload {
        upload_id: Uuid::new_v4(),
        filename: "file".to_owned(),
        plan: page[0].plan(),
        content_type: "text/plain".to_owned(),
        metadata: Value::Null,
        algorithm: upflow_core::checksum::Algorithm::Crc64Nvme,
        checksum: None,
        final_s3_key: "key".to_owned(),
        owner: "owner-7".to_owned(),
        idempotency: Some(("key".to_owned(), "hash".to_owned())),
        quota: Some(rows::Quota { uploads: Some(10_000), bytes: Some(i64::MAX) }),
        declared: Vec::new(),
        url_life: MINUTE,
        traceparent: None,
    };
    for _ in 0..2 {
        rows::create(db, new.clone(), now, life).await.unwrap();
    }
    let another = rows::NewUpload {
        upload_id: Uuid::new_v4(),
        idempotency: Some(("another".to_owned(), "hash".to_owned())),
        quota: None,
        ..new
    };
    rows::create(db, another, now, life).await.unwrap();
    let id = upload(7);
    let found = rows::find(db, id).await.unwrap();
    rows::owner(db, id).await.unwrap();
    rows::traceparent(db, id).await.unwrap();
    rows::statuses(db, &[id, upload(8)], now).await.unwrap();
    rows::progress(db, &[id, upload(8)]).await.unwrap();
    let chunks = rows::confirmed_chunks(db, id).await.unwrap();
    assert_eq!(chunks.indexes.len(), 9_999);
    assert_eq!(rows::find_with_chunks(db, id).await.unwrap().chunks, chunks);
    rows::events(db, id).await.unwrap();
    rows::known(db, &[id, upload(8)]).await.unwrap();
    rows::chunk_rows(db, id, None).await.unwrap();
    rows::chunk_rows(db, id, Some(&[0, 1, 2])).await.unwrap();
    assert_eq!(rows::to_copy(db, id, &found.plan(), 1_000).await.unwrap().chunks.len(), 1_000);
    // As if a part had 128 chunks.
    let small = Plan { chunk_size: MIN_CHUNK_SIZE, ..found.plan() };
    assert_eq!(rows::to_copy(db, id, &small, 7).await.unwrap().chunks.len(), 7 * 128);
    let checksum = upflow_core::checksum::Algorithm::Crc64Nvme.parse("AAAAAAAAAAA=").unwrap();
    for checksum in [None, Some(checksum)] {
        let declared: Vec<_> = (0..3).map(|index| Declared { index, checksum }).collect();
        rows::declare(db, id, &declared, MINUTE, life, now).await.unwrap();
    }
    // The first one slides the life, the other one goes as most of them do.
    for life in [2 * life, life] {
        let found = rows::find(db, id).await.unwrap();
        rows::confirm(db, &found, &[seen(0), seen(9_999)], life, now).await.unwrap();
    }
    rows::drop_chunks(db, id, &[(5, "another".to_owned())], now).await.unwrap();
    rows::request_assembly(db, upload(8), now).await.unwrap();
    rows::abort(db, upload(9), now).await.unwrap();
    work(db, found, lease, now).await;
}

/// What workers and janitors ask.
async fn work(db: &Db, found: rows::Upload, lease: Uuid, now: DateTime<Utc>) {
    let id = found.upload_id;
    rows::claim_ahead(db, id, lease, MINUTE, now).await.unwrap().expect("it is free");
    rows::renew(db, id, lease, MINUTE, now).await.unwrap();
    rows::set_multipart(db, id, lease, Some("multipart"), Uuid::new_v4()).await.unwrap();
    let part = rows::CopiedPart {
        index: 0,
        etag: "etag".to_owned(),
        part_etag: "part".to_owned(),
        part_checksum: None,
    };
    rows::record_parts(db, id, lease, vec![part]).await.unwrap();
    rows::let_go(db, id, lease).await.unwrap();
    let pending = upload(120);
    rows::claim(db, pending, lease, MINUTE, now).await.unwrap().expect("it is free");
    rows::hand_back(db, pending, lease, now, "why".to_owned(), true, now).await.unwrap();
    rows::claim(db, pending, lease, MINUTE, now).await.unwrap().expect("it is free");
    let integrity = rows::Integrity { level: "size_only", value: None };
    rows::finish(db, pending, lease, integrity, now).await.unwrap();
    rows::stale_assemblies(db, now, now).await.unwrap();
    rows::take_stale_assemblies(db, now, now).await.unwrap();
    rows::overdue(db, now).await.unwrap();
    rows::expire(db, upload(11), now).await.unwrap();
    rows::to_clean(db, now).await.unwrap();
    let cleaned = rows::claim_cleanup(db, upload(250), lease, MINUTE, now).await.unwrap().unwrap();
    rows::cleaned(db, &cleaned, lease, now, now, now).await.unwrap();
    rows::retired(db, now - 20_000 * MINUTE).await.unwrap();
    assert_eq!(rows::delete_retired(db, now - 20_000 * MINUTE).await.unwrap(), 20);
}

async fn none_reads_a_growing_table_from_end_to_end(stack: Stack) {
    stack.stop_workers().await;
    let mut settings = stack.production(|production| production.database.clone());
    (settings.max_connections, settings.timeout) = (1, MINUTE);
    let seeding = db::connect(&settings).await.unwrap();
    for seed in SEED {
        seeding.execute_unprepared(seed).await.unwrap();
    }
    seeding.close().await.unwrap();
    let watch = db::connect(&settings).await.unwrap();
    alone(&watch).await;
    let before = scans(&watch).await;
    // One connection, which keeps every statement that it has prepared.
    let db = db::connect(&settings).await.unwrap();
    ask_everything(&db).await;
    let mut statements = prepared(&db).await;
    assert!(statements.len() > 40, "only {} statements", statements.len());
    db.execute_unprepared("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let faults = read_from_end_to_end(&db, &statements).await;
    assert!(faults.is_empty(), "{faults:#?}");
    // What PostgreSQL counted in quiet times, it goes by in busy ones until it counts again. Whatever looks for a row by
    // its id is to find it by that, and not among the few that were under way.
    for statement in QUIET {
        db.execute_unprepared(statement).await.unwrap();
    }
    statements.retain(|(_, statement, _)| statement.replace('"', "").contains("upload_id = $"));
    assert!(statements.len() > 20, "only {} statements", statements.len());
    let faults = read_from_end_to_end(&db, &statements).await;
    assert!(faults.is_empty(), "{faults:#?}");
    // The counts tell of what was really done, whatever was explained.
    db.close().await.unwrap();
    alone(&watch).await;
    assert_eq!(scans(&watch).await, before);
}

/// Ends every other connection: what one has counted is written when it has ended, at the latest.
async fn alone(watch: &Db) {
    let sql = "SELECT pg_terminate_backend(pid)::text AS ended FROM pg_stat_activity
               WHERE datname = current_database() AND backend_type = 'client backend'
                   AND pid <> pg_backend_pid()";
    eventually("no other connection is left", || async {
        all::<String>(watch, sql, &["ended"]).await.is_empty().then_some(())
    })
    .await;
}

async fn the_count_of_confirmed_chunks_that_is_kept_is_that_of_the_rows(stack: Stack) {
    let bytes = noise(20 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    futures::future::join_all((0..20).map(|index| upload.send(&bytes, index))).await;
    let confirms = futures::future::join_all((0..16).map(|index| upload.confirm(index))).await;
    for confirmed in confirms {
        confirmed.expect(200);
    }
    kept(&stack, &upload, 16).await;
    // Confirmed again; some of them and some more together.
    assert_eq!(upload.confirm(3).await.expect(200)["uploaded_chunks_count"], 16);
    let path = upload.path("/chunks/confirm");
    let answer = stack.post(&path, json!({ "chunks": [14, 15, 16, 17] })).await.expect(200);
    assert_eq!(answer["uploaded_chunks_count"], 18);
    kept(&stack, &upload, 18).await;
    // Declared anew, one is taken back; another one is gone.
    upload.presign(5, Some(crc64(b"other bytes"))).await;
    let key = ObjectKey::Chunk { upload_id: upload.id, index: 7 }.to_string();
    stack.ctx().storage.delete_all(&key).await.unwrap();
    stack.call(Method::POST, &upload.path("/reconcile")).await.expect(200);
    // Reconcile has found those that were never confirmed.
    kept(&stack, &upload, 18).await;
    upload.send_and_confirm(&bytes, [5, 7]).await;
    kept(&stack, &upload, 20).await;
    upload.complete_and_wait().await;
    kept(&stack, &upload, 20).await;
}

async fn kept(stack: &Stack, upload: &Upload, count: i64) {
    let db = &stack.ctx().db;
    let sql = format!(
        "SELECT (SELECT sum(confirmed) FROM upload_counts WHERE upload_id = '{id}')::text AS kept,
             (SELECT count(*) FROM upload_chunks
              WHERE upload_id = '{id}' AND confirmed_at IS NOT NULL)::text AS counted",
        id = upload.id
    );
    let found = all::<String>(db, &sql, &["kept", "counted"]).await;
    assert_eq!(found[0], [count.to_string(), count.to_string()]);
}

/// The rows that a statement answers, each by these columns.
pub async fn all<T: TryGetable>(db: &Db, sql: &str, columns: &[&str]) -> Vec<Vec<T>> {
    let found = db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let row =
        |row: &sea_orm::QueryResult| columns.iter().map(|c| row.try_get("", c).unwrap()).collect();
    found.iter().map(row).collect()
}

/// How often each table was read from end to end.
async fn scans(db: &Db) -> BTreeMap<String, String> {
    let sql = "SELECT relname::text, seq_scan::text FROM pg_stat_user_tables
               WHERE relname IN ('upload_chunks', 'upload_sessions', 'upload_events', 'upload_counts')";
    let found = all::<String>(db, sql, &["relname", "seq_scan"]).await;
    assert_eq!(found.len(), TABLES.len());
    found.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// The statements of this connection: name, text, number of parameters.
async fn prepared(db: &Db) -> Vec<(String, String, usize)> {
    let sql = "SELECT name, statement, cardinality(parameter_types)::text AS parameters
               FROM pg_prepared_statements";
    let found = all::<String>(db, sql, &["name", "statement", "parameters"]).await;
    let row = |row: Vec<String>| (row[0].clone(), row[1].clone(), row[2].parse().unwrap());
    found.into_iter().map(row).collect()
}

/// The statements that read a growing table so, and which.
async fn read_from_end_to_end(db: &Db, statements: &[(String, String, usize)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, statement, parameters) in statements {
        if TABLES.iter().any(|table| statement.contains(table)) {
            let scanned = scanned(&explained(db, name, *parameters).await, false);
            if !scanned.is_empty() {
                faults.push(format!("{scanned:?} in {statement}"));
            }
        }
    }
    faults
}

/// The plan that serves any values.
async fn explained(db: &Db, name: &str, parameters: usize) -> Value {
    let values = vec!["NULL"; parameters].join(", ");
    let values = if parameters == 0 { values } else { format!("({values})") };
    let sql = format!("EXPLAIN (FORMAT JSON) EXECUTE {name}{values}");
    all::<Value>(db, &sql, &["QUERY PLAN"]).await.swap_remove(0).swap_remove(0)
}

/// The growing tables that a plan reads from end to end, by themselves or by an index without a condition on it; of
/// that the first few are enough where it is `limited`.
fn scanned(plan: &Value, limited: bool) -> Vec<String> {
    match plan {
        Value::Array(parts) => parts.iter().flat_map(|part| scanned(part, limited)).collect(),
        Value::Object(parts) => {
            let text = |key: &str| parts.get(key).and_then(Value::as_str).unwrap_or_default();
            let whole = match text("Node Type") {
                "Seq Scan" => true,
                "Index Scan" | "Index Only Scan" => !limited && !parts.contains_key("Index Cond"),
                "Bitmap Heap Scan" => parts.get("Plans").is_some_and(bitmap_of_all),
                _ => false,
            };
            let table = text("Relation Name");
            let found = (whole && TABLES.contains(&table)).then(|| table.to_owned());
            let limited = text("Node Type") == "Limit";
            found.into_iter().chain(parts.values().flat_map(|p| scanned(p, limited))).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether one of these indexes is read without a condition on it.
fn bitmap_of_all(plans: &Value) -> bool {
    let of_all = |plan: &Value| match plan["Node Type"].as_str() {
        Some("Bitmap Index Scan") => plan.get("Index Cond").is_none(),
        _ => plan.get("Plans").is_some_and(bitmap_of_all),
    };
    plans.as_array().is_some_and(|plans| plans.iter().any(of_all))
}
