//! `upflow admin orphans`: what the bucket holds and the database does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::BinaryBytes;
use serde::Serialize;
use upflow_client::{Api, CallError, Orphan};

/// What was found, and what has become of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub orphans: Vec<Orphan>,
    /// The ids of those that are gone now.
    pub removed: Vec<String>,
    /// The ids of those that were to be removed, and why they were not.
    pub kept: BTreeMap<String, String>,
}

pub async fn report(
    api: &Api,
    delete: bool,
    older_than: Option<Duration>,
) -> Result<Report, CallError> {
    let mut report =
        Report { orphans: all(api).await?, removed: Vec::new(), kept: BTreeMap::new() };
    if let Some(age) = older_than {
        let before = Utc::now() - age;
        report.orphans.retain(|orphan| touched(orphan).is_some_and(|touched| touched <= before));
        if delete {
            for orphan in &report.orphans {
                let id = orphan.upload_id.clone();
                match api.delete_orphan(&id, age.as_secs()).await {
                    Ok(_) => report.removed.push(id),
                    Err(CallError::Api(error)) if error.code == "orphan_kept" => {
                        report.kept.insert(id, error.detail);
                    }
                    // Gone meanwhile, or by a try whose answer was lost.
                    Err(CallError::Api(error)) if error.code == "upload_not_found" => {
                        report.removed.push(id);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(report)
}

/// Every page; what two of them say of one upload added up.
async fn all(api: &Api) -> Result<Vec<Orphan>, CallError> {
    let mut found: BTreeMap<String, Orphan> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = api.orphans(cursor.as_deref()).await?;
        for more in page.orphans {
            match found.get_mut(&more.upload_id) {
                Some(known) => {
                    known.chunks += more.chunks;
                    known.bytes += more.bytes;
                    known.multiparts += more.multiparts;
                    known.touched_at = known.touched_at.take().max(more.touched_at);
                }
                None => drop(found.insert(more.upload_id.clone(), more)),
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(found.into_values().collect());
        }
    }
}

fn touched(orphan: &Orphan) -> Option<DateTime<Utc>> {
    orphan.touched_at.as_deref()?.parse().ok()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = 0;
        for orphan in &self.orphans {
            let id = &orphan.upload_id;
            bytes += orphan.bytes;
            let touched = orphan.touched_at.as_deref().unwrap_or("at an unknown time");
            write!(
                f,
                "{id}  {} chunks, {}, {} multipart uploads, last written {touched}",
                orphan.chunks,
                BinaryBytes(orphan.bytes),
                orphan.multiparts
            )?;
            match self.kept.get(id) {
                Some(why) => writeln!(f, ": kept, {why}")?,
                None if self.removed.contains(id) => writeln!(f, ": removed")?,
                None => writeln!(f)?,
            }
        }
        let count = self.orphans.len();
        let removed = self.removed.len();
        write!(f, "{count} uploads that the database does not know, {}; ", BinaryBytes(bytes))?;
        match (count, removed) {
            (1.., 0) => write!(f, "nothing was removed (--delete --older-than AGE removes them)"),
            _ => write!(f, "{removed} removed"),
        }
    }
}
