//! The bucket.

use std::time::Duration;

use url::Url;

use super::Faults;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// The region of the bucket
    #[arg(long, env = "AWS_REGION")]
    pub aws_region: Option<String>,
    /// The bucket; it must exist
    #[arg(long, env = "AWS_S3_BUCKET")]
    pub aws_s3_bucket: Option<String>,
    /// Another S3 than AWS, as this program reaches it: http://minio:9000
    #[arg(long, env = "S3_ENDPOINT_URL")]
    pub s3_endpoint_url: Option<String>,
    /// The same S3 as clients reach it; by default the one above. Presigned URLs start with it
    #[arg(long, env = "S3_PUBLIC_ENDPOINT_URL")]
    pub s3_public_endpoint_url: Option<String>,
    /// `true`: endpoint/bucket/key, `false`: bucket.endpoint/key; by default true when an endpoint is set
    #[arg(long, env = "S3_FORCE_PATH_STYLE")]
    pub s3_force_path_style: Option<String>,
    /// Stands before `uploads/` in every key
    #[arg(long, env = "S3_KEY_PREFIX")]
    pub s3_key_prefix: Option<String>,
    /// A tag `key=value` on every chunk, for a lifecycle rule; needs s3:PutObjectTagging
    #[arg(long, env = "S3_CHUNK_TAG")]
    pub s3_chunk_tag: Option<String>,
    /// How long one try of a call to S3 may take, and all of its tries twice as long; copies, bodies and the
    /// end of a multipart upload have longer
    #[arg(long, env = "S3_TIMEOUT", default_value = "10s")]
    pub s3_timeout: String,
    /// Calls to S3 that this process has under way at once, and so its connections to it
    #[arg(long, env = "S3_MAX_CALLS", default_value = "256")]
    pub s3_max_calls: String,
}

/// Keys given by hand, instead of the default chain (environment, profile, container, instance).
#[derive(Clone)]
pub struct StaticCredentials {
    pub access_key: String,
    pub secret_key: String,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticCredentials(..)")
    }
}

#[derive(Debug, Clone)]
pub struct StorageSettings {
    pub region: String,
    pub bucket: String,
    /// `None` is AWS itself.
    pub endpoint: Option<Url>,
    pub public_endpoint: Option<Url>,
    pub path_style: bool,
    /// Empty, or ending with a slash.
    pub key_prefix: String,
    pub chunk_tag: Option<(String, String)>,
    pub timeout: Duration,
    pub max_calls: usize,
    pub credentials: Option<StaticCredentials>,
}

impl StorageSettings {
    /// How long making a connection may take.
    pub fn connect_timeout(&self) -> Duration {
        self.timeout.min(Duration::from_secs(5))
    }
}

impl StorageArgs {
    pub fn check(self, faults: &mut Faults) -> Option<StorageSettings> {
        let region = faults.required(
            "AWS_REGION",
            self.aws_region,
            "the bucket's region, as in eu-central-1",
        );
        let bucket = faults.required("AWS_S3_BUCKET", self.aws_s3_bucket, "the name of the bucket");
        let endpoint = endpoint("S3_ENDPOINT_URL", self.s3_endpoint_url, faults);
        let public = endpoint_or(
            "S3_PUBLIC_ENDPOINT_URL",
            self.s3_public_endpoint_url,
            endpoint.clone(),
            faults,
        );
        let path_style = match self.s3_force_path_style.filter(|value| !value.trim().is_empty()) {
            Some(value) => faults.flag("S3_FORCE_PATH_STYLE", &value),
            // Virtual hosts need a DNS name per bucket, which few servers but AWS have; and a dot in
            // the name of a bucket does not fit AWS's wildcard certificate.
            None => {
                let dotted = bucket.as_deref().is_some_and(|bucket| bucket.contains('.'));
                Some(dotted || !matches!(endpoint, Some(None)))
            }
        };
        let key_prefix = key_prefix(self.s3_key_prefix.unwrap_or_default(), faults);
        let chunk_tag = chunk_tag(self.s3_chunk_tag, faults);
        let timeout = faults.duration(
            "S3_TIMEOUT",
            &self.s3_timeout,
            Duration::from_millis(100)..=Duration::from_secs(600),
        );
        let max_calls = faults.number("S3_MAX_CALLS", &self.s3_max_calls, 1..=10_000);
        pair_of_keys(faults);
        Some(StorageSettings {
            region: region?,
            bucket: bucket?,
            endpoint: endpoint?,
            public_endpoint: public?,
            path_style: path_style?,
            key_prefix: key_prefix?,
            chunk_tag: chunk_tag?,
            timeout: timeout?,
            max_calls: max_calls?,
            credentials: None,
        })
    }
}

/// The default chain reads these itself; one without the other would send it looking elsewhere.
fn pair_of_keys(faults: &mut Faults) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    match (set(id), set(secret)) {
        (true, false) => {
            faults.add(secret, format!("is not set, but {id} is: set both or neither"))
        }
        (false, true) => {
            faults.add(id, format!("is not set, but {secret} is: set both or neither"))
        }
        _ => {}
    }
}

/// Outer `None`: a fault. Inner `None`: not set.
fn endpoint(variable: &str, value: Option<String>, faults: &mut Faults) -> Option<Option<Url>> {
    endpoint_or(variable, value, Some(None), faults)
}

fn endpoint_or(
    variable: &str,
    value: Option<String>,
    default: Option<Option<Url>>,
    faults: &mut Faults,
) -> Option<Option<Url>> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        return default;
    };
    let url = Url::parse(value.trim()).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if url.is_none() {
        faults
            .add(variable, "must be an address like https://s3.example.com, without user, ? or #");
    }
    url.map(Some)
}

fn key_prefix(value: String, faults: &mut Faults) -> Option<String> {
    let trimmed = value.trim().trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./!*'()=".contains(c);
    let segments_fine =
        trimmed.is_empty() || trimmed.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if trimmed.len() > 256 || !trimmed.chars().all(plain) || !segments_fine {
        faults.add(
            "S3_KEY_PREFIX",
            "must be like team/app: letters, digits and -_.!*'()=, at most 256",
        );
        return None;
    }
    Some(if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") })
}

fn chunk_tag(value: Option<String>, faults: &mut Faults) -> Option<Option<(String, String)>> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        return Some(None);
    };
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match value.trim().split_once('=') {
        Some((key, tag)) if plain(key) && plain(tag) && value.len() <= 200 => {
            Some(Some((key.to_owned(), tag.to_owned())))
        }
        _ => {
            faults.add("S3_CHUNK_TAG", "must be key=value, of letters, digits and -_.");
            None
        }
    }
}
