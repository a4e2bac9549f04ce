//! How a program of UpFlow ends.

use std::process::ExitCode;

/// Says what went wrong in one line, with its causes and without a backtrace: it is told to somebody who
/// runs the program and not to somebody who writes it.
pub fn exit(name: &str, ended: Result<(), anyhow::Error>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
