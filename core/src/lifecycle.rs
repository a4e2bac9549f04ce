//! The life of an upload: its statuses, the events that move it, and the one table of edges.
//! The guarded UPDATE of `uploads`, the conflict codes of the API and the tests derive from [`EDGES`];
//! nothing else may decide where a status goes.

use std::fmt;
use std::str::FromStr;

use sea_orm::{DeriveActiveEnum, EnumIter};

/// Where an upload stands. `Completed`, `Aborted` and `Expired` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Status {
    /// Planned; no chunk is confirmed.
    #[sea_orm(string_value = "initialized")]
    Initialized,
    /// At least one chunk has been confirmed.
    #[sea_orm(string_value = "uploading")]
    Uploading,
    /// The client has said that all is sent; a worker assembles the final object.
    #[sea_orm(string_value = "pending_assembly")]
    PendingAssembly,
    /// The final object is in the bucket, whole.
    #[sea_orm(string_value = "completed")]
    Completed,
    /// Assembly was given up; the confirmed chunks are kept and `complete` may be called again.
    #[sea_orm(string_value = "failed")]
    Failed,
    /// The client has taken the upload back.
    #[sea_orm(string_value = "aborted")]
    Aborted,
    /// Nobody touched the upload for its whole life.
    #[sea_orm(string_value = "expired")]
    Expired,
}

/// What can happen to an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    ConfirmChunk,
    /// Reconcile found a confirmed chunk gone or changed.
    DropChunk,
    RequestAssembly,
    FinishAssembly,
    /// Assembly found a confirmed chunk gone or changed.
    LoseChunk,
    GiveUp,
    Abort,
    Expire,
}

/// One row of the lifecycle table.
#[derive(Debug)]
pub struct Edge {
    pub event: Event,
    pub from: &'static [Status],
    pub to: Status,
}

use Status::*;

pub const EDGES: [Edge; 8] = [
    edge(Event::ConfirmChunk, &[Initialized, Uploading, Failed], Uploading),
    edge(Event::DropChunk, &[Uploading, Failed], Uploading),
    // `Initialized` is for the empty file: every other upload has confirmed chunks by then.
    edge(Event::RequestAssembly, &[Initialized, Uploading, Failed], PendingAssembly),
    edge(Event::FinishAssembly, &[PendingAssembly], Completed),
    edge(Event::LoseChunk, &[PendingAssembly], Uploading),
    edge(Event::GiveUp, &[PendingAssembly], Failed),
    edge(Event::Abort, &[Initialized, Uploading, PendingAssembly, Failed], Aborted),
    edge(Event::Expire, &[Initialized, Uploading, Failed], Expired),
];

const fn edge(event: Event, from: &'static [Status], to: Status) -> Edge {
    Edge { event, from, to }
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::ConfirmChunk,
        Event::DropChunk,
        Event::RequestAssembly,
        Event::FinishAssembly,
        Event::LoseChunk,
        Event::GiveUp,
        Event::Abort,
        Event::Expire,
    ];

    /// The statuses this event may leave.
    pub fn from(self) -> &'static [Status] {
        EDGES.iter().find(|e| e.event == self).map_or(&[], |e| e.from)
    }

    /// The status this event leads to, or `None` where `status` does not allow it.
    pub fn apply(self, status: Status) -> Option<Status> {
        EDGES.iter().find(|e| e.event == self && e.from.contains(&status)).map(|e| e.to)
    }

    /// The name in `upload_events`.
    pub fn name(self) -> &'static str {
        match self {
            Event::ConfirmChunk => "chunk_confirmed",
            Event::DropChunk => "chunk_dropped",
            Event::RequestAssembly => "assembly_requested",
            Event::FinishAssembly => "assembly_finished",
            Event::LoseChunk => "chunk_lost",
            Event::GiveUp => "gave_up",
            Event::Abort => "aborted",
            Event::Expire => "expired",
        }
    }
}

impl Status {
    pub const ALL: [Status; 7] =
        [Initialized, Uploading, PendingAssembly, Completed, Failed, Aborted, Expired];

    /// The name in the database, in JSON and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Initialized => "initialized",
            Uploading => "uploading",
            PendingAssembly => "pending_assembly",
            Completed => "completed",
            Failed => "failed",
            Aborted => "aborted",
            Expired => "expired",
        }
    }

    /// No event leads out of this status.
    pub fn is_final(self) -> bool {
        EDGES.iter().all(|edge| !edge.from.contains(&self))
    }

    /// Chunks may be presigned and confirmed.
    pub fn takes_chunks(self) -> bool {
        Event::ConfirmChunk.apply(self).is_some()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A status that this program does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown upload status {0:?}")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Status::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_exactly_one_edge() {
        for event in Event::ALL {
            assert_eq!(EDGES.iter().filter(|e| e.event == event).count(), 1, "{event:?}");
        }
    }

    #[test]
    fn only_completed_aborted_and_expired_are_final() {
        let ended: Vec<_> = Status::ALL.into_iter().filter(|s| s.is_final()).collect();
        assert_eq!(ended, [Completed, Aborted, Expired]);
    }

    #[test]
    fn a_pending_assembly_is_never_expired_under_a_worker() {
        assert_eq!(Event::Expire.apply(PendingAssembly), None);
        assert_eq!(Event::Abort.apply(PendingAssembly), Some(Aborted));
    }

    #[test]
    fn names_read_back_as_the_status_they_name() {
        for status in Status::ALL {
            assert_eq!(status.name().parse::<Status>().unwrap(), status);
            assert_eq!(sea_orm::ActiveEnum::to_value(&status), status.name());
        }
        assert!("done".parse::<Status>().is_err());
    }
}
