//! The rows. Only `uploads` reads and writes them.

pub mod chunk;
pub mod event;
pub mod session;
pub mod upkeep;
