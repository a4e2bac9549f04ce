//! How a program of UpFlow runs, and how it ends.

use std::panic::resume_unwind;
use std::process::ExitCode;

/// Runs a program as a task: the thread that `main` has is none of the runtime's, and whatever were to run
/// on it would be woken across threads each time.
///
/// Says what went wrong in one line, with its causes and without a backtrace: it is told to somebody who
/// runs the program and not to somebody who writes it.
pub async fn run(
    name: &str,
    program: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> ExitCode {
    let ended = match tokio::spawn(program).await {
        Ok(ended) => ended,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, those excepted that it has told already: some libraries write the cause into
/// the error's own text as well.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            told if told.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("refused").context("cannot connect: refused").context("no db");
        assert_eq!(told(&error), "no db: cannot connect: refused");
    }
}
