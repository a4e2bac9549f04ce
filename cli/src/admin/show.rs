//! What `upflow admin` prints for people.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use indicatif::BinaryBytes;
use serde::Serialize;
use upflow_client::{Stats, Status, Upload, UploadEvent};

use crate::upload::words::{integrity, time};

/// In a month as prices have it: AWS counts GB in powers of two.
const GB: f64 = (1_u64 << 30) as f64;

/// A table: each upload with what is in the bucket of it.
pub fn list(uploads: &[Upload]) -> String {
    if uploads.is_empty() {
        return "no uploads".to_owned();
    }
    let owners = uploads.iter().filter_map(|upload| upload.owner.as_deref()).map(str::len);
    let width = owners.max().unwrap_or_default().max("owner".len());
    let mut text = format!(
        "{:36}  {:16}  {:>21}  {:width$}  {:24}  file\n",
        "upload", "status", "confirmed of", "owner", "changed"
    );
    for upload in uploads {
        let progress =
            format!("{} of {}", BinaryBytes(upload.uploaded_bytes), BinaryBytes(upload.file_size));
        let owner = upload.owner.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "{:36}  {:16}  {progress:>21}  {owner:width$}  {:24}  {}",
            upload.upload_id,
            upload.status.to_string(),
            upload.updated_at,
            upload.filename
        );
    }
    text.trim_end().to_owned()
}

/// One upload, and its life as a timeline.
pub fn upload(upload: &Upload, events: &[UploadEvent]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("upload", upload.upload_id.clone());
    line("file", format!("{}, {} bytes", upload.filename, upload.file_size));
    if let Some(owner) = &upload.owner {
        line("owner", owner.clone());
    }
    line("status", upload.status.to_string());
    let chunks = format!(
        "{} of {} confirmed, {} of them assembled, {} each",
        upload.uploaded_chunks_count,
        upload.total_chunks,
        upload.assembled_chunks,
        BinaryBytes(upload.chunk_size)
    );
    line("chunks", chunks);
    line("object", upload.final_s3_key.clone());
    if upload.status == Status::Completed {
        line("integrity", integrity(upload));
    } else {
        line("expires", upload.expires_at.clone());
    }
    if let Some(failure) = &upload.failure {
        line("failure", format!("{}: {}", failure.code, failure.detail));
    }
    text.push('\n');
    let mut before: Option<DateTime<Utc>> = None;
    for event in events {
        let at: Option<DateTime<Utc>> = event.at.parse().ok();
        let later = at.zip(before).and_then(|(at, before)| (at - before).to_std().ok());
        before = at;
        let later = later.map_or(String::new(), |later| format!("+{}", time(later)));
        let moved = match (&event.from_status, &event.to_status) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            _ => String::new(),
        };
        let detail = event.detail.as_deref().unwrap_or_default();
        let line = format!("{}  {later:>12}  {:18}  {moved}  {detail}", event.at, event.event);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.trim_end().to_owned()
}

/// What unfinished uploads hold in the bucket, and what that costs.
#[derive(Debug, Serialize)]
pub struct Costs {
    pub uploads: u64,
    pub held_bytes: u64,
    pub price_per_gb_month: f64,
    pub cost_per_month: f64,
}

impl Costs {
    pub fn of(stats: &Stats, price: f64) -> Self {
        let ended = [Status::Completed, Status::Aborted, Status::Expired];
        let unfinished = stats.statuses.iter().filter(|row| !ended.contains(&row.status));
        let (mut uploads, mut held_bytes) = (0, 0);
        for row in unfinished {
            uploads += row.uploads;
            held_bytes += row.held_bytes;
        }
        let cost_per_month = held_bytes as f64 / GB * price;
        Self { uploads, held_bytes, price_per_gb_month: price, cost_per_month }
    }
}

pub fn stats(stats: &Stats, costs: &Costs) -> String {
    let mut text = format!("{:18} {:>10} {:>14} {:>14}\n", "status", "uploads", "files", "held");
    for row in &stats.statuses {
        let _ = writeln!(
            text,
            "{:18} {:>10} {:>14} {:>14}",
            row.status.to_string(),
            row.uploads,
            BinaryBytes(row.file_bytes).to_string(),
            BinaryBytes(row.held_bytes).to_string()
        );
    }
    let _ = writeln!(
        text,
        "\n{} unfinished uploads hold {} in the bucket: {:.2} a month at {} for a GB (--price)",
        costs.uploads,
        BinaryBytes(costs.held_bytes),
        costs.cost_per_month,
        costs.price_per_gb_month
    );
    match (stats.queue_jobs, stats.queue_oldest_job_seconds) {
        (Some(jobs), Some(age)) => {
            let _ = write!(text, "{jobs} jobs in the queue, the oldest of {age} s ago");
        }
        (Some(jobs), None) => {
            let _ = write!(text, "{jobs} jobs in the queue");
        }
        (None, _) => text.push_str("the queue does not answer"),
    }
    text
}

#[cfg(test)]
mod tests {
    use upflow_client::StatusStats;

    use super::*;

    #[test]
    fn only_what_is_unfinished_costs() {
        let row =
            |status, held_bytes| StatusStats { status, uploads: 1, file_bytes: 9, held_bytes };
        let statuses = vec![row(Status::Uploading, 3 << 30), row(Status::Completed, 1 << 30)];
        let stats = Stats { statuses, queue_jobs: Some(0), queue_oldest_job_seconds: None };
        let costs = Costs::of(&stats, 0.5);
        assert_eq!((costs.uploads, costs.held_bytes), (1, 3 << 30));
        assert!((costs.cost_per_month - 1.5).abs() < 1e-9);
    }
}
