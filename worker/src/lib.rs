//! The worker of UpFlow: takes jobs, assembles files inside S3, and cleans up.

mod assemble;
mod cleanup;
pub mod commands;
pub mod config;
mod janitor;
mod lease;
mod places;
mod run;
mod worker;

pub use config::{WorkerArgs, WorkerSettings};
pub use run::run;
pub use worker::JobError;
