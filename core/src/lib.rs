//! What the API and the worker of UpFlow must agree on: the lifecycle of an upload, its geometry and
//! checksums, its rows, its objects in S3, the jobs, and the settings.

pub mod checksum;
pub mod config;
pub mod context;
pub mod db;
mod entity;
pub mod health;
pub mod lifecycle;
pub mod metrics;
pub mod orphans;
pub mod plan;
pub mod program;
pub mod queue;
pub mod seldom;
pub mod shutdown;
pub mod storage;
pub mod trace;
pub mod uploads;

pub use context::Context;
