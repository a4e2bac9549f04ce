//! What clients may ask for: the one table of limits. The flags and variables, the checks, `.env.example`,
//! README and the spec derive from it or are held against it by a test.

use std::collections::HashMap;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use upflow_core::config::Faults;
use upflow_core::plan;

use crate::auth::is_origin;

/// A limit as people read it.
#[derive(Debug)]
pub struct Limit {
    pub flag: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    pub default: &'static str,
    pub what: &'static str,
}

const FILE_SIZE: &str = "UPFLOW_MAX_FILE_SIZE";
const CHUNKS: &str = "UPFLOW_MAX_CHUNKS";
const ACTIVE_UPLOADS: &str = "UPFLOW_MAX_ACTIVE_UPLOADS";
const ACTIVE_BYTES: &str = "UPFLOW_MAX_ACTIVE_BYTES";
const BODY: &str = "UPFLOW_MAX_BODY";
const BATCH: &str = "UPFLOW_MAX_BATCH";
const RATE: &str = "UPFLOW_REQUESTS_PER_SECOND";
const CONTENT_TYPES: &str = "UPFLOW_CONTENT_TYPES";
const ORIGINS: &str = "UPFLOW_CORS_ORIGINS";
const TOKEN_GRACE: &str = "UPFLOW_TOKEN_GRACE";
const HEADER_TIMEOUT: &str = "UPFLOW_HEADER_TIMEOUT";
const BODY_TIMEOUT: &str = "UPFLOW_BODY_TIMEOUT";
/// What `BATCH` cannot be set below: so many chunks our clients name in a call.
const LEAST_BATCH: usize = 400;
/// Read by the core, since the worker needs it too.
const URL_LIFE: &str = "UPFLOW_URL_LIFE";

pub const LIMITS: [Limit; 13] = [
    limit("max-file-size", FILE_SIZE, "50000GiB", "the largest file"),
    limit("max-chunks", CHUNKS, "10000", "the most chunks of a file, 1 to 10000"),
    limit(
        "max-active-uploads",
        ACTIVE_UPLOADS,
        "10000",
        "uploads under way of one owner; 0 sets no bound",
    ),
    limit(
        "max-active-bytes",
        ACTIVE_BYTES,
        "100TiB",
        "bytes of the files of one owner's uploads under way; 0 sets no bound",
    ),
    limit("max-body", BODY, "1MiB", "the largest request body, 64KiB to 16MiB"),
    limit(
        "max-batch",
        BATCH,
        "1000",
        "chunks that one call presigns or confirms, 400 (what our clients name) to 1000",
    ),
    limit(
        "requests-per-second",
        RATE,
        "200",
        "requests a second of one owner's keys, or of one upload's token, where a reconcile counts as 40, a complete or a confirm of many chunks as 4; 0 sets no bound",
    ),
    limit(
        "content-types",
        CONTENT_TYPES,
        "*/*",
        "media types that files may have, as in image/*,video/mp4",
    ),
    limit(
        "cors-origins",
        ORIGINS,
        "",
        "origins whose pages may call the API, as in https://app.example",
    ),
    limit(
        "token-grace",
        TOKEN_GRACE,
        "24h",
        "how long the token of an upload outlives the upload, as it stands at init",
    ),
    limit(
        "header-timeout",
        HEADER_TIMEOUT,
        "60s",
        "how long the head of a request may take, and a connection be idle or leave an answer unread",
    ),
    limit("body-timeout", BODY_TIMEOUT, "30s", "how long the body of a request may take"),
    limit("url-life", URL_LIFE, "15m", "the life of a presigned URL, up to 7d"),
];

const fn limit(
    flag: &'static str,
    variable: &'static str,
    default: &'static str,
    what: &'static str,
) -> Limit {
    Limit { flag, variable, default, what }
}

/// The limits as given, unchecked.
#[derive(Debug)]
pub struct LimitsArgs(HashMap<&'static str, String>);

/// The limits, checked. `None` is no bound.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    pub file_size: i64,
    pub chunks: i64,
    pub active_uploads: Option<i64>,
    pub active_bytes: Option<i64>,
    pub body: usize,
    pub batch: usize,
    pub requests_per_second: Option<u32>,
    /// `type/subtype`, `type/*` or `*/*`, in lower case.
    pub content_types: Vec<String>,
    pub origins: Vec<String>,
    pub token_grace: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
}

impl ClientLimits {
    /// Whether files may have this media type.
    pub fn takes_type(&self, content_type: &str) -> bool {
        let essence =
            content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.content_types.iter().any(|known| match known.split_once("/*") {
            _ if known == "*/*" => true,
            Some((kind, _)) => essence.split('/').next() == Some(kind),
            None => *known == essence,
        })
    }
}

impl Default for ClientLimits {
    /// As the table has them.
    fn default() -> Self {
        let values = LIMITS.iter().map(|limit| (limit.variable, limit.default.to_owned()));
        let mut faults = Faults::default();
        let limits = LimitsArgs(values.collect()).check(&mut faults);
        // A test holds the table to it.
        limits.unwrap_or_else(|| unreachable!("the defaults are limits"))
    }
}

/// The arguments of the table that are read here.
fn arguments() -> impl Iterator<Item = &'static Limit> {
    LIMITS.iter().filter(|limit| limit.variable != URL_LIFE)
}

impl clap::FromArgMatches for LimitsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |limit: &Limit| {
            let value = matches.get_one::<String>(limit.variable);
            value.map_or_else(|| limit.default.to_owned(), Clone::clone)
        };
        Ok(Self(arguments().map(|limit| (limit.variable, value(limit))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for LimitsArgs {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("What clients may ask for").args(arguments().map(|limit| {
            Arg::new(limit.variable)
                .long(limit.flag)
                .env(limit.variable)
                .default_value(limit.default)
                .value_name("VALUE")
                .help(limit.what)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl LimitsArgs {
    pub fn check(self, faults: &mut Faults) -> Option<ClientLimits> {
        let get = |variable: &str| self.0.get(variable).map_or("", |value| value.trim());
        let file_size = faults.bytes(FILE_SIZE, get(FILE_SIZE), 1..=plan::MAX_FILE_SIZE);
        let chunks = faults.number(CHUNKS, get(CHUNKS), 1..=plan::MAX_CHUNKS);
        let uploads = faults.number(ACTIVE_UPLOADS, get(ACTIVE_UPLOADS), 0..=i64::MAX);
        let active = faults.bytes(ACTIVE_BYTES, get(ACTIVE_BYTES), 0..=i64::MAX);
        let body = faults.bytes(BODY, get(BODY), 64 * plan::KIB..=16 * plan::MIB);
        let batch = faults.number(BATCH, get(BATCH), LEAST_BATCH..=1_000);
        let rate = faults.number(RATE, get(RATE), 0..=1_000_000);
        let content_types = content_types(faults, get(CONTENT_TYPES));
        let origins = origins(faults, get(ORIGINS));
        let second = Duration::from_secs(1);
        let grace =
            faults.duration(TOKEN_GRACE, get(TOKEN_GRACE), Duration::ZERO..=second * 31_536_000);
        let header = faults.duration(HEADER_TIMEOUT, get(HEADER_TIMEOUT), second..=second * 600);
        let body_timeout = faults.duration(BODY_TIMEOUT, get(BODY_TIMEOUT), second..=second * 100);
        Some(ClientLimits {
            file_size: file_size?,
            chunks: chunks?,
            active_uploads: Some(uploads?).filter(|most| *most > 0),
            active_bytes: Some(active?).filter(|most| *most > 0),
            body: usize::try_from(body?).ok()?,
            batch: batch?,
            requests_per_second: Some(rate?).filter(|most| *most > 0),
            content_types: content_types?,
            origins: origins?,
            token_grace: grace?,
            header_timeout: header?,
            body_timeout: body_timeout?,
        })
    }
}

fn list(text: &str) -> Vec<String> {
    let entries = text.split([',', ' ']).filter(|entry| !entry.is_empty());
    entries.map(str::to_ascii_lowercase).collect()
}

fn content_types(faults: &mut Faults, text: &str) -> Option<Vec<String>> {
    let types = list(text);
    let fits = |known: &String| {
        known.split_once('/').is_some_and(|(kind, sub)| {
            (kind != "*" || sub == "*") && !kind.is_empty() && !sub.is_empty()
        })
    };
    if types.is_empty() || !types.iter().all(fits) {
        faults.add(
            CONTENT_TYPES,
            format!("must be media types as in image/*,video/mp4, not {text:?}"),
        );
        return None;
    }
    Some(types)
}

fn origins(faults: &mut Faults, text: &str) -> Option<Vec<String>> {
    let origins = list(text);
    if let Some(bad) = origins.iter().find(|origin| !is_origin(origin)) {
        let form = "must be origins as in https://app.example, without a path or *";
        faults.add(ORIGINS, format!("{form}, not {bad:?}"));
        return None;
    }
    Some(origins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args as _;

    #[test]
    fn the_defaults_of_the_table_are_limits() {
        let limits = ClientLimits::default();
        assert_eq!(limits.file_size, plan::MAX_FILE_SIZE);
        assert_eq!((limits.body, limits.batch), (1024 * 1024, 1_000));
        assert!(limits.takes_type("a/b") && limits.origins.is_empty());
    }

    #[test]
    fn the_life_of_urls_is_the_cores() {
        let core = upflow_core::config::LimitsArgs::augment_args(Command::new("x"));
        let life =
            core.get_arguments().find(|arg| arg.get_env() == Some(URL_LIFE.as_ref())).unwrap();
        let known = LIMITS.iter().find(|limit| limit.variable == URL_LIFE).unwrap();
        assert_eq!(life.get_default_values(), [known.default]);
    }

    #[test]
    fn our_clients_name_no_more_chunks_than_any_server_takes() {
        let named = format!("CHUNKS_PER_CALL: usize = {LEAST_BATCH};");
        assert!(include_str!("../../client/src/api.rs").contains(&named));
        let named = format!("CHUNKS_PER_CALL = {LEAST_BATCH};");
        assert!(include_str!("../../static/upflow/api.js").contains(&named));
    }

    #[test]
    fn every_limit_is_in_the_readme_and_the_example_of_settings() {
        let (readme, example) =
            (include_str!("../../README.md"), include_str!("../../.env.example"));
        for Limit { variable, default, what, .. } in &LIMITS {
            let shown = if default.is_empty() { String::new() } else { default.to_string() };
            let row = format!(
                "| `{variable}` | {shown}{}| {what} |",
                if shown.is_empty() { "" } else { " " }
            );
            assert!(readme.contains(&row), "README.md lacks: {row}");
            let lines = format!("# {what}\n#{variable}={default}\n");
            assert!(example.contains(&lines), ".env.example lacks: {lines}");
        }
    }

    #[test]
    fn values_out_of_range_are_told_by_their_variable() {
        for (variable, bad) in [
            (FILE_SIZE, "50001GiB"),
            (FILE_SIZE, "1MB"),
            (CHUNKS, "0"),
            (BODY, "1KiB"),
            (BATCH, "1001"),
            (BATCH, "399"),
            (RATE, "-1"),
            (CONTENT_TYPES, "image"),
            (CONTENT_TYPES, "*/png"),
            (ORIGINS, "https://app.example/"),
            (ORIGINS, "*"),
            (BODY_TIMEOUT, "0s"),
        ] {
            let mut values: HashMap<_, _> =
                LIMITS.iter().map(|limit| (limit.variable, limit.default.to_owned())).collect();
            values.insert(variable, bad.to_owned());
            let mut faults = Faults::default();
            let limits = LimitsArgs(values).check(&mut faults);
            let told = faults.end(limits).map(drop).unwrap_err().to_string();
            assert!(told.contains(&format!("\n  {variable} must be")), "{told}");
        }
    }

    #[test]
    fn media_types_are_matched_whole_or_by_their_kind() {
        let limits =
            ClientLimits { content_types: list("image/*,video/mp4"), ..ClientLimits::default() };
        for good in ["image/png", "IMAGE/PNG; q=1", "video/mp4"] {
            assert!(limits.takes_type(good), "{good}");
        }
        for bad in ["video/mpeg", "imagex/png", "text/html", ""] {
            assert!(!limits.takes_type(bad), "{bad}");
        }
    }
}
