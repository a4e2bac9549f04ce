//! What `upflow upload` says: a bar on a terminal, plain lines elsewhere, JSON on request. Progress
//! goes to standard error, results to standard output, so that a script can read them. Events hold
//! neither keys nor signed URLs, and nothing here adds any.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use upflow_client::{Error, Event, Finished, Listener, Phase, Upload};

use super::words::{integrity, per_second, printable, say, short, time};

const LINE_EVERY: Duration = Duration::from_secs(5);
const JSON_EVERY: Duration = Duration::from_secs(1);
/// When eight chunks fail at once, one line says enough.
const TROUBLE_EVERY: Duration = Duration::from_secs(2);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Bar,
    Lines,
    Json,
    /// JSON, but no progress.
    JsonQuiet,
    Quiet,
}

impl Mode {
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, true) => Mode::JsonQuiet,
            (true, false) => Mode::Json,
            (false, true) => Mode::Quiet,
            (false, false) if std::io::stderr().is_terminal() => Mode::Bar,
            (false, false) => Mode::Lines,
        }
    }

    fn json(self) -> bool {
        matches!(self, Mode::Json | Mode::JsonQuiet)
    }
}

/// Shows one file's upload.
#[derive(Clone)]
pub struct Show {
    mode: Mode,
    name: String,
    bar: ProgressBar,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    phase: Phase,
    file_size: u64,
    sent: u64,
    /// What was there before this run, which is no part of its speed.
    at_start: u64,
    started: Instant,
    said: Option<Instant>,
    trouble: Option<Instant>,
    /// Chunks in the final object, and chunks in all.
    assembled: (u32, u32),
    /// The result was told; connections that are still being closed must not add to it.
    over: bool,
}

impl Show {
    pub fn new(mode: Mode, path: &Path) -> Self {
        let seen = Seen {
            phase: Phase::Preparing,
            file_size: 0,
            sent: 0,
            at_start: 0,
            started: Instant::now(),
            // A file that is sent before the first line is due has its result for a line.
            said: Some(Instant::now()),
            trouble: None,
            assembled: (0, 0),
            over: false,
        };
        let bar = match mode {
            Mode::Bar => ProgressBar::no_length(),
            _ => ProgressBar::hidden(),
        };
        let name = printable(&path.display().to_string());
        bar.set_prefix(short(path));
        Self { mode, name, bar, seen: Arc::new(Mutex::new(seen)) }
    }

    pub fn listener(&self) -> Listener {
        let show = self.clone();
        Listener::new(move |event| show.hear(event))
    }

    pub fn completed(&self, finished: &Finished) {
        self.end();
        let upload = &finished.upload;
        let seconds = finished.took.as_secs_f64();
        let rate = per_second(finished.sent_bytes, finished.took);
        if self.mode.json() {
            self.print_json(json!({
                "event": "completed",
                "upload_id": upload.upload_id,
                "file_size": upload.file_size,
                "sent_bytes": finished.sent_bytes,
                "resumed": finished.resumed,
                "duration_seconds": (seconds * 1000.0).round() / 1000.0,
                "bytes_per_second": rate,
                "final_s3_key": upload.final_s3_key,
                "integrity": upload.integrity,
            }));
            return;
        }
        let resumed = match upload.file_size - finished.sent_bytes.min(upload.file_size) {
            0 => String::new(),
            there => format!(", {} of it before", BinaryBytes(there)),
        };
        let rate = match finished.sent_bytes {
            0 => String::new(),
            _ => format!(" ({}/s)", BinaryBytes(rate)),
        };
        let line = format!(
            "{}: {} in {}{resumed}{rate}, {}, {}",
            self.name,
            BinaryBytes(upload.file_size),
            time(finished.took),
            upload.final_s3_key,
            integrity(upload),
        );
        say(&printable(&line));
    }

    pub fn failed(&self, error: Error) {
        self.end();
        let code = error.code().to_owned();
        let detail = printable(&format!("{:#}", anyhow::Error::from(error)));
        if self.mode.json() {
            self.print_json(json!({ "event": "failed", "code": code, "detail": detail }));
        }
        eprintln!("upflow: {}: {detail}", self.name);
    }

    /// After Ctrl-C, with `done` of `all` files behind us.
    pub fn interrupted(&self, done: usize, all: usize) {
        self.end();
        if self.mode.json() {
            self.print_json(json!({ "event": "interrupted" }));
        }
        let before = match done {
            0 => String::new(),
            _ => format!(" (file {} of {all}; leave out those before it)", done + 1),
        };
        eprintln!("upflow: stopped; the same command again resumes {}{before}", self.name);
    }

    fn end(&self) {
        self.seen().over = true;
        self.bar.finish_and_clear();
    }

    /// A poisoned lock guards nothing but what is shown.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: Event) {
        let mut seen = self.seen();
        match event {
            _ if seen.over => (),
            Event::Opened { upload, resumed } => self.opened(&mut seen, &upload, resumed),
            Event::StartedAfresh { reason } => {
                self.say(&format!("starting from the beginning: {reason}"));
            }
            Event::Phase(phase) => {
                if phase == Phase::Assembling {
                    seen.said = None;
                }
                seen.phase = phase;
                self.style(phase);
            }
            Event::Bytes { sent } => {
                seen.sent = sent;
                self.bar.set_position(sent);
                self.progress(&mut seen);
            }
            Event::Assembled { chunks, total_chunks } => {
                seen.assembled = (chunks, total_chunks);
                self.bar.set_message(format!("assembling, {chunks} of {total_chunks} chunks"));
                self.progress(&mut seen);
            }
            Event::Retrying { what, problem, wait } if due(&mut seen.trouble, TROUBLE_EVERY) => {
                self.say(&format!("cannot {what} ({problem}); again in {}", time(wait)));
            }
            _ => (),
        }
    }

    fn opened(&self, seen: &mut Seen, upload: &Upload, resumed: bool) {
        seen.file_size = upload.file_size;
        seen.at_start = seen.sent;
        seen.started = Instant::now();
        self.bar.set_length(upload.file_size);
        self.bar.set_position(seen.sent);
        // The estimate is to begin with what this run sends.
        self.bar.reset_eta();
        if self.mode.json() {
            self.print_json(json!({
                "event": if resumed { "resumed" } else { "started" },
                "upload_id": upload.upload_id,
                "file_size": upload.file_size,
                "chunk_size": upload.chunk_size,
                "total_chunks": upload.total_chunks,
                "sent_bytes": seen.sent,
                "status": upload.status,
            }));
        } else if resumed {
            self.say(&format!(
                "resuming: {} of {} are there already",
                BinaryBytes(seen.sent),
                BinaryBytes(upload.file_size)
            ));
        }
    }

    fn progress(&self, seen: &mut Seen) {
        let every = match self.mode {
            Mode::Lines => LINE_EVERY,
            Mode::Json => JSON_EVERY,
            Mode::Bar | Mode::JsonQuiet | Mode::Quiet => return,
        };
        // Only these two last long enough to be worth a line.
        let phase = match seen.phase {
            Phase::Sending => "sending",
            Phase::Assembling => "assembling",
            Phase::Preparing | Phase::Completed => return,
        };
        if !due(&mut seen.said, every) {
            return;
        }
        let (assembled, chunks) = seen.assembled;
        if self.mode == Mode::Json {
            self.print_json(json!({
                "event": "progress",
                "phase": phase,
                "sent_bytes": seen.sent,
                "file_size": seen.file_size,
                "assembled_chunks": assembled,
            }));
        } else if seen.phase == Phase::Assembling {
            eprintln!("{}: assembling, {assembled} of {chunks} chunks", self.name);
        } else {
            eprintln!("{}: {}", self.name, seen.sending());
        }
    }

    fn style(&self, phase: Phase) {
        let template = match phase {
            Phase::Preparing => "{prefix}: preparing",
            Phase::Sending => {
                "{prefix} {percent:>3}% [{wide_bar}] {binary_bytes} of {binary_total_bytes}, \
                 {binary_bytes_per_sec}, {eta} left"
            }
            Phase::Assembling => "{spinner} {prefix}: {msg}",
            Phase::Completed => return,
        };
        // The templates are ours; a broken one would only leave the bar as it is.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        if self.mode == Mode::Bar {
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// A line for people, beside the progress.
    fn say(&self, text: &str) {
        let line = printable(&format!("{}: {text}", self.name));
        match self.mode {
            Mode::Bar => self.bar.println(line),
            Mode::Lines => eprintln!("{line}"),
            Mode::Json | Mode::JsonQuiet | Mode::Quiet => (),
        }
    }

    fn print_json(&self, mut event: Value) {
        event["file"] = Value::from(self.name.as_str());
        say(&event.to_string());
    }
}

impl Seen {
    fn sending(&self) -> String {
        let percent = match self.file_size {
            0 => 100,
            size => u128::from(self.sent) * 100 / u128::from(size),
        };
        let rate = per_second(self.sent.saturating_sub(self.at_start), self.started.elapsed());
        let left = self.file_size.saturating_sub(self.sent);
        let left = match left.checked_div(rate) {
            Some(seconds) => format!(", {} left", time(Duration::from_secs(seconds))),
            None => String::new(),
        };
        format!(
            "sending, {percent}%, {} of {}, {}/s{left}",
            BinaryBytes(self.sent),
            BinaryBytes(self.file_size),
            BinaryBytes(rate)
        )
    }
}

/// Whether `every` has passed since this was last true.
fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_template_is_valid() {
        for phase in [Phase::Preparing, Phase::Sending, Phase::Assembling] {
            Show::new(Mode::Quiet, Path::new("f")).style(phase);
        }
    }

    #[test]
    fn progress_is_put_in_words() {
        let show = Show::new(Mode::Quiet, Path::new("f"));
        let mut seen = show.seen();
        (seen.file_size, seen.sent, seen.at_start) = (4 << 20, 1 << 20, 1 << 20);
        assert_eq!(seen.sending(), "sending, 25%, 1.00 MiB of 4.00 MiB, 0 B/s");
    }
}
