//! The parts of the `upflow` command, as a library for its tests.

pub mod embedded;
pub mod upload;
