//! What a person asks of a worker: a look at what the janitor would do, and at what it does not touch.

use std::time::Duration;

use clap::Subcommand;
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::orphans::{self, Removal};

use crate::config::WorkerSettings;
use crate::janitor;
use crate::worker::JobError;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Assemble and clean up (the default)
    Run,
    /// Ask the worker that runs with these settings for its metrics; for health checks of containers
    Health,
    /// Say what the janitor would do now, and do nothing
    Janitor {
        /// The janitor itself works in every running worker; this command only looks
        #[arg(long, required = true)]
        dry_run: bool,
    },
    /// Look for chunks and multipart uploads of uploads that this database does not know
    Orphans {
        /// Remove them. They may be another deployment's that uses the same bucket and prefix!
        #[arg(long, requires = "older_than")]
        delete: bool,
        /// Only those of which nothing was written for so long, as in 14d
        #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
    },
}

/// Prints what there is to clean up.
pub async fn dry_run(ctx: &Context, settings: &WorkerSettings) -> Result<(), JobError> {
    let plan = janitor::plan(ctx, settings).await?;
    for (what, ids) in &plan {
        for id in ids {
            println!("{what:<24} {id}");
        }
    }
    let actions: usize = plan.iter().map(|(_, ids)| ids.len()).sum();
    println!("{actions} actions; nothing was done");
    Ok(())
}

/// Prints the orphans, and removes them where told to.
pub async fn orphans(
    ctx: &Context,
    delete: bool,
    older_than: Option<Duration>,
) -> Result<(), JobError> {
    let (mut shown, mut bytes, mut removed) = (0, 0, 0);
    for (id, orphan) in orphans::find(ctx).await? {
        let age = older_than.unwrap_or_default();
        if older_than.is_some() && orphan.touched.is_none_or(|touched| touched > now() - age) {
            continue;
        }
        let gone =
            delete && matches!(orphans::remove(ctx, id, age, now()).await?, Removal::Removed(_));
        let touched = orphan.touched.map_or("at an unknown time".to_owned(), |at| at.to_rfc3339());
        println!(
            "{id}  {} chunks, {} bytes, {} multipart uploads, last written {touched}{}",
            orphan.chunks,
            orphan.bytes,
            orphan.multiparts.len(),
            if gone { ": removed" } else { "" },
        );
        shown += 1;
        bytes += orphan.bytes;
        removed += usize::from(gone);
    }
    println!("{shown} uploads without a row in this database, {bytes} bytes; {removed} removed");
    Ok(())
}
