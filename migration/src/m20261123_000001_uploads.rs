//! The tables of uploads, their chunks and their events, and a view for people.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATUSES: &str =
    "'initialized', 'uploading', 'pending_assembly', 'completed', 'failed', 'aborted', 'expired'";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let types = match manager.get_database_backend() {
            DbBackend::Postgres => Types { uuid: "uuid", time: "timestamptz", json: "jsonb" },
            _ => {
                Types { uuid: "uuid_text", time: "timestamp_with_timezone_text", json: "json_text" }
            }
        };
        for statement in statements(&types) {
            db.execute_unprepared(&statement).await?;
        }
        db.execute_unprepared(view(manager.get_database_backend())).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for statement in [
            "DROP VIEW upload_session_overview",
            "DROP TABLE upload_events",
            "DROP TABLE upload_chunks",
            "DROP TABLE upload_sessions",
        ] {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

struct Types {
    uuid: &'static str,
    time: &'static str,
    json: &'static str,
}

fn statements(types: &Types) -> Vec<String> {
    let Types { uuid, time, json } = types;
    vec![
        format!(
            "CREATE TABLE upload_sessions (
                upload_id {uuid} PRIMARY KEY,
                filename text NOT NULL,
                file_size bigint NOT NULL CHECK (file_size >= 0),
                chunk_size bigint NOT NULL CHECK (chunk_size > 0),
                total_chunks integer NOT NULL CHECK (total_chunks BETWEEN 0 AND 10000),
                content_type text NOT NULL,
                metadata {json} NOT NULL,
                status text NOT NULL CHECK (status IN ({STATUSES})),
                checksum_algorithm text NOT NULL,
                checksum text,
                integrity_level text,
                integrity_value text,
                final_s3_key text NOT NULL,
                multipart_upload_id text,
                assembly_id {uuid},
                attempts integer NOT NULL,
                lease_id {uuid},
                lease_until {time},
                failure {json},
                owner text NOT NULL,
                expires_at {time} NOT NULL,
                urls_expire_at {time} NOT NULL,
                chunks_deleted_at {time},
                idempotency_key text,
                request_hash text,
                created_at {time} NOT NULL,
                updated_at {time} NOT NULL,
                UNIQUE (owner, idempotency_key)
            )"
        ),
        "CREATE INDEX upload_sessions_by_owner ON upload_sessions (owner, created_at, upload_id)"
            .into(),
        "CREATE INDEX upload_sessions_by_status ON upload_sessions (status, expires_at)".into(),
        "CREATE INDEX upload_sessions_to_clean ON upload_sessions (updated_at)
            WHERE chunks_deleted_at IS NULL AND status IN ('completed', 'aborted', 'expired')"
            .into(),
        "CREATE INDEX upload_sessions_to_retire ON upload_sessions (updated_at)
            WHERE chunks_deleted_at IS NOT NULL"
            .into(),
        format!(
            "CREATE TABLE upload_chunks (
                upload_id {uuid} NOT NULL REFERENCES upload_sessions (upload_id) ON DELETE CASCADE,
                chunk_index integer NOT NULL CHECK (chunk_index >= 0),
                declared_checksum text,
                size bigint,
                etag text,
                checksum text,
                confirmed_at {time},
                copied_etag text,
                part_etag text,
                part_checksum text,
                PRIMARY KEY (upload_id, chunk_index),
                CHECK (confirmed_at IS NULL OR (size IS NOT NULL AND etag IS NOT NULL))
            )"
        ),
        format!(
            "CREATE TABLE upload_events (
                event_id {uuid} PRIMARY KEY,
                upload_id {uuid} NOT NULL REFERENCES upload_sessions (upload_id) ON DELETE CASCADE,
                at {time} NOT NULL,
                event text NOT NULL,
                from_status text,
                to_status text,
                detail text
            )"
        ),
        "CREATE INDEX upload_events_by_upload ON upload_events (upload_id, at)".into(),
    ]
}

fn view(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => {
            "CREATE VIEW upload_session_overview AS
             SELECT s.*, COALESCE((SELECT json_agg(c.chunk_index ORDER BY c.chunk_index) FROM upload_chunks c
                WHERE c.upload_id = s.upload_id AND c.confirmed_at IS NOT NULL), '[]'::json) AS uploaded_chunks
             FROM upload_sessions s"
        }
        _ => {
            "CREATE VIEW upload_session_overview AS
             SELECT s.*, (SELECT COALESCE(json_group_array(i), '[]') FROM (SELECT c.chunk_index AS i FROM upload_chunks c
                WHERE c.upload_id = s.upload_id AND c.confirmed_at IS NOT NULL ORDER BY c.chunk_index)) AS uploaded_chunks
             FROM upload_sessions s"
        }
    }
}
