//! How a program of UpFlow ends.

use std::process::ExitCode;

/// Says what went wrong in one line, with its causes and without a backtrace: it is told to somebody who
/// runs the program and not to somebody who writes it.
pub fn exit(name: &str, ended: Result<(), anyhow::Error>) -> ExitCode {
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
