//! What is written is what the spec shows, for answers with every field and with as few as can be.

use poem_openapi::types::ToJSON;

use super::*;
use crate::problem::{Code, Details, FieldError, Problem};

fn assert_written_as_described(answer: &(impl ToJSON + Serialize)) {
    assert_eq!(serde_json::to_value(answer).ok(), answer.to_json());
}

fn text() -> String {
    "a \"text\" in ünïcode".to_owned()
}

fn upload(status: UploadStatus, algorithm: ChecksumAlgorithm, all: bool) -> Upload {
    let failure = Failure { code: text(), detail: text(), chunk_indexes: all.then(|| vec![0, 7]) };
    let integrity = Integrity { level: text(), algorithm, value: all.then(text) };
    Upload {
        upload_id: Uuid::from_u128(7),
        owner: all.then(text),
        filename: text(),
        file_size: i64::MAX,
        chunk_size: 65_536,
        total_chunks: 2,
        content_type: text(),
        metadata: BTreeMap::from([(text(), text())]),
        status,
        uploaded_chunks: all.then(|| vec![0, 1]),
        uploaded_chunks_count: 2,
        uploaded_bytes: 3,
        assembled_chunks: 1,
        checksum_algorithm: algorithm,
        checksum: all.then(text),
        integrity: Some(integrity).filter(|_| all || status == UploadStatus::Completed),
        final_s3_key: text(),
        failure: Some(failure).filter(|_| all || status == UploadStatus::Failed),
        created_at: text(),
        updated_at: text(),
        expires_at: text(),
    }
}

const STATUSES: [UploadStatus; 7] = [
    UploadStatus::Initialized,
    UploadStatus::Uploading,
    UploadStatus::PendingAssembly,
    UploadStatus::Completed,
    UploadStatus::Failed,
    UploadStatus::Aborted,
    UploadStatus::Expired,
];

fn presigned() -> PresignedChunk {
    PresignedChunk {
        chunk_index: 1,
        method: "PUT".to_owned(),
        url: "https://example.com/a?b=c&d=%20".to_owned(),
        headers: BTreeMap::from([("x-amz-checksum-crc64nvme".to_owned(), text())]),
        size_bytes: 5,
        expires_at: text(),
        expires_in: 900,
    }
}

#[test]
fn uploads_are_written_as_the_spec_describes_them() {
    for status in STATUSES {
        for algorithm in [ChecksumAlgorithm::Crc64nvme, ChecksumAlgorithm::Crc32c] {
            for all in [true, false] {
                let upload = upload(status, algorithm, all);
                assert_written_as_described(&upload);
                assert_written_as_described(&NewUpload {
                    upload: upload.clone(),
                    upload_token: text(),
                    upload_token_expires_at: text(),
                    presigned: vec![presigned()],
                });
                assert_written_as_described(&UploadPage {
                    uploads: vec![upload],
                    next_cursor: all.then(text),
                });
            }
        }
    }
}

#[test]
fn chunks_and_downloads_are_written_as_the_spec_describes_them() {
    assert_written_as_described(&PresignedChunks { chunks: vec![presigned(), presigned()] });
    for all in [true, false] {
        assert_written_as_described(&ConfirmedChunk {
            chunk_index: 1,
            size_bytes: 5,
            checksum: all.then(text),
            confirmed_at: text(),
            status: UploadStatus::Uploading,
            uploaded_chunks_count: 2,
        });
    }
    let rejected = RejectedChunk { chunk_index: 9, code: text(), detail: text() };
    assert_written_as_described(&ConfirmedChunks {
        confirmed: vec![1, 2],
        rejected: vec![rejected],
        status: UploadStatus::Uploading,
        uploaded_chunks_count: 2,
    });
    assert_written_as_described(&Download {
        url: text(),
        method: "GET".to_owned(),
        expires_at: text(),
        expires_in: 900,
    });
}

#[test]
fn what_operators_see_is_written_as_the_spec_describes_it() {
    for all in [true, false] {
        let event = UploadEvent {
            at: text(),
            event: text(),
            from_status: all.then(text),
            to_status: all.then(text),
            detail: all.then(text),
        };
        assert_written_as_described(&UploadEvents { events: vec![event] });
        let status = StatusStats {
            status: UploadStatus::Failed,
            uploads: 1,
            file_bytes: i64::MAX,
            held_bytes: 0,
        };
        assert_written_as_described(&Stats {
            statuses: vec![status],
            queue_jobs: all.then_some(1),
            queue_oldest_job_seconds: all.then_some(2),
        });
        let orphan = Orphan {
            upload_id: Uuid::from_u128(7),
            chunks: 1,
            bytes: 2,
            multiparts: 3,
            touched_at: all.then(text),
        };
        assert_written_as_described(&OrphanPage {
            orphans: vec![orphan],
            next_cursor: all.then(text),
        });
    }
}

#[test]
fn problems_are_written_as_the_spec_describes_them() {
    for all in [true, false] {
        let errors = vec![FieldError { pointer: "/a~1b".to_owned(), detail: text() }];
        assert_written_as_described(&Details {
            kind: text(),
            title: text(),
            status: 422,
            code: text(),
            detail: text(),
            errors: all.then_some(errors),
            missing_chunks: all.then(|| vec![0, 3]),
        });
    }
    let response = poem::IntoResponse::into_response(Problem::new(Code::UploadNotFound, text()));
    assert_eq!(response.content_type(), Some("application/problem+json"));
}
