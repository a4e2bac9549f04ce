//! `upflow upload`: sends files through an UpFlow server, one after the other, each in parallel
//! chunks. What it says while it does so is in [`show`].

mod show;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use upflow_client::{FileUpload, Options, Uploader, state};

use show::{Mode, Show};

const BAD_USAGE: u8 = 2;
/// As a shell reports a program that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Send files through an UpFlow server; the same command again resumes what was cut short
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An API key is taken from the environment variable UPFLOW_API_KEY only: arguments can be seen by others.
Unfinished uploads are remembered in UPFLOW_STATE_DIR, by default ~/.local/state/upflow/uploads.
Exit codes: 0 every file is completed, 1 an upload failed, 2 wrong usage (nothing was sent), 130 Ctrl-C.")]
pub struct UploadArgs {
    /// Files to send
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server's address
    #[arg(
        long,
        env = "UPFLOW_SERVER",
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    server: String,
    /// Bytes in a chunk, as in 16MiB; by default the server decides
    #[arg(long, value_name = "SIZE", value_parser = size)]
    chunk_size: Option<u64>,
    /// Chunks under way at once
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// The name the file gets; by default its own. Only with a single file
    #[arg(long)]
    name: Option<String>,
    /// MIME type of the files, as in video/mp4
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Something to keep with the uploads; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print no progress, only results and errors
    #[arg(long, short)]
    quiet: bool,
}

/// Sends the files. Everything that can be wrong with the command is told before anything is sent.
pub async fn run(args: UploadArgs) -> ExitCode {
    let mode = Mode::choose(args.json, args.quiet);
    let (uploader, files) = match prepare(args) {
        Ok(ready) => ready,
        Err(problem) => {
            eprintln!("upflow: {}", words::printable(&problem));
            return ExitCode::from(BAD_USAGE);
        }
    };
    let mut failures = 0;
    for (done, file) in files.iter().enumerate() {
        let show = Show::new(mode, &file.path);
        tokio::select! {
            result = uploader.upload(file, show.listener()) => match result {
                Ok(finished) => show.completed(&finished),
                Err(error) => {
                    failures += 1;
                    show.failed(error);
                }
            },
            // An error means that there are no signals here; the default action then ends us.
            Ok(()) = tokio::signal::ctrl_c() => {
                show.interrupted(done, files.len());
                return ExitCode::from(INTERRUPTED);
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare(args: UploadArgs) -> Result<(Uploader, Vec<FileUpload>), String> {
    if args.name.is_some() && args.files.len() > 1 {
        return Err("--name is for a single file".to_owned());
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in args.metadata {
        if let Some(first) = metadata.insert(key.clone(), value) {
            return Err(format!("--metadata {key} is given twice, first as {first:?}"));
        }
    }
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for path in args.files {
        if let Err(problem) = check_file(&path, args.name.is_some()) {
            problems.push(problem);
            continue;
        }
        let mut file = FileUpload::new(path);
        file.filename = args.name.clone();
        file.chunk_size = args.chunk_size;
        file.content_type = args.content_type.clone();
        file.metadata = metadata.clone();
        files.push(file);
    }
    if !problems.is_empty() {
        return Err(problems.join("\nupflow: "));
    }
    let mut options = Options::new(&args.server).map_err(|error| error.to_string())?;
    options.parallel = usize::from(args.parallel);
    options.api_key = std::env::var("UPFLOW_API_KEY").ok().filter(|key| !key.is_empty());
    options.state_dir = Some(state::default_dir().ok_or(
        "there is no place to remember unfinished uploads; set UPFLOW_STATE_DIR to a directory",
    )?);
    let uploader = Uploader::new(options).map_err(|error| error.to_string())?;
    Ok((uploader, files))
}

fn check_file(path: &Path, named: bool) -> Result<(), String> {
    let shown = path.display();
    if path == Path::new("-") {
        return Err("standard input cannot be sent, since what is cut short is read again; \
                    write it to a file first (a file called - is ./-)"
            .to_owned());
    }
    let metadata = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if metadata.is_dir() {
        return Err(format!("{shown} is a directory; pack it, or name its files"));
    }
    if !metadata.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    if !named && path.file_name().is_none_or(|name| name.to_str().is_none()) {
        return Err(format!("{shown}: its name is not UTF-8; give one with --name"));
    }
    Ok(())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

/// A number of bytes, with a unit or without: 1 KiB is 1,024 bytes and 1 KB is 1,000.
fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("must be a whole number of bytes, KiB, MiB or GiB, as in 16MiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "must begin with a number, as in 16MiB")?;
    let bytes = number.checked_mul(factor).ok_or("is too large")?;
    if bytes == 0 { Err("must be more than 0".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("5 gib"), Ok(5 << 30));
        assert_eq!(size("64KB"), Ok(64_000));
        for wrong in ["", "0", "MiB", "1.5MiB", "-1", "16 M", "99999999999GiB", "é"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metadata_is_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        assert!(check_file(Path::new("-"), false).is_err_and(|e| e.contains("standard input")));
        assert!(check_file(Path::new("."), false).is_err_and(|e| e.contains("directory")));
        assert!(check_file(Path::new("/no/such/file"), true).is_err());
    }
}
