//! Times, rates and foreign text, as `upflow upload` prints them.

use std::path::Path;
use std::time::Duration;

use upflow_client::Upload;

/// Characters.
const SHORT_NAME: usize = 24;

pub fn per_second(bytes: u64, took: Duration) -> u64 {
    (bytes as f64 / took.as_secs_f64().max(0.001)) as u64
}

/// The last part of a path, short enough to leave room for a bar.
pub fn short(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = printable(&name).replace('\n', "?");
    match name.char_indices().nth(SHORT_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

pub fn integrity(upload: &Upload) -> String {
    let Some(integrity) = &upload.integrity else { return "not verified".to_owned() };
    let checksum = format!("{} {}", integrity.algorithm, integrity.value);
    match integrity.level.as_str() {
        "storage_verified" => format!("verified by the storage ({checksum})"),
        "client_checksums" => format!("put together from this client's checksums ({checksum})"),
        "size_only" => "only its size was verified".to_owned(),
        other => format!("{other} ({checksum})"),
    }
}

/// Prints a line. Whoever reads may have stopped reading, as `head` does: what is under way goes on.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Names and answers come from elsewhere: without control characters they cannot steer a terminal.
/// Line breaks stay, as they can do no more than break lines.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_precise_as_they_are_short() {
        let texts = [1.25, 42.0, 61.0, 7_260.0].map(|s| time(Duration::from_secs_f64(s)));
        assert_eq!(texts, ["1.2 s", "42 s", "1 min 1 s", "2 h 1 min"]);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(short(Path::new("a/b.mp4")), "b.mp4");
        assert_eq!(short(Path::new(&"é".repeat(30))), format!("{}…", "é".repeat(24)));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r"), "a?[2Jb?");
    }
}
