//! The parts of the `upflow` command, as a library for its tests.

pub mod admin;
pub mod doctor;
pub mod embedded;
pub mod upload;
