//! The digests of a body: MD5 for the ETag, CRC64NVME for every object, and the checksum a client names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use serde::{Deserialize, Serialize};

use super::crc::Crc;

/// A checksum algorithm of S3, spelt as S3 spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// Whether a multipart object's checksum covers its bytes or the checksums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    FullObject,
    Composite,
}

/// A checksum as S3 shows it: base64 of the big-endian bytes, and `-N` behind it for N parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: Algorithm,
    pub kind: Kind,
    pub value: String,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The header that carries it.
    pub fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    /// True for the base64 of as many bytes as this algorithm has.
    pub fn is_value(self, text: &str) -> bool {
        STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == self.bytes())
    }

    /// What AWS assumes where CreateMultipartUpload names no type.
    pub fn default_kind(self) -> Kind {
        if self == Algorithm::Crc64Nvme { Kind::FullObject } else { Kind::Composite }
    }

    pub fn allows(self, kind: Kind) -> bool {
        match kind {
            Kind::FullObject => self.crc().is_some(),
            Kind::Composite => self != Algorithm::Crc64Nvme,
        }
    }

    fn crc(self) -> Option<Crc> {
        match self {
            Algorithm::Crc32 => Some(Crc::CRC32),
            Algorithm::Crc32c => Some(Crc::CRC32C),
            Algorithm::Crc64Nvme => Some(Crc::CRC64NVME),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// The checksum of the whole from the checksums of consecutive parts with their lengths. None if
    /// this algorithm cannot do it or a part's value is none of its values.
    pub fn combine(self, parts: &[(&str, u64)]) -> Option<String> {
        let crc = self.crc()?;
        let parts: Option<Vec<(u64, u64)>> = parts
            .iter()
            .map(|(text, length)| {
                let bytes =
                    STANDARD.decode(text).ok().filter(|bytes| bytes.len() == self.bytes())?;
                Some((bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), *length))
            })
            .collect();
        let whole = crc.combine(parts?).to_be_bytes();
        Some(STANDARD.encode(&whole[8 - self.bytes()..]))
    }

    /// The checksum of the parts' checksums, as S3 writes it.
    pub fn compose(self, parts: &[&str]) -> Option<String> {
        let mut running = Running::new(self);
        for part in parts {
            running.update(&STANDARD.decode(part).ok()?);
        }
        Some(format!("{}-{}", running.finish(), parts.len()))
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::FullObject => "FULL_OBJECT",
            Kind::Composite => "COMPOSITE",
        }
    }

    pub fn parse(name: &str) -> Option<Kind> {
        [Kind::FullObject, Kind::Composite].into_iter().find(|kind| kind.name() == name)
    }
}

/// One checksum over bytes as they come.
enum Running {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    fn new(algorithm: Algorithm) -> Running {
        match algorithm {
            Algorithm::Crc32 => Running::Crc32(Crc32::new()),
            Algorithm::Crc32c => Running::Crc32c(Crc32c::new()),
            Algorithm::Crc64Nvme => Running::Crc64Nvme(Crc64Nvme::new()),
            Algorithm::Sha1 => Running::Sha1(Sha1::new()),
            Algorithm::Sha256 => Running::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Running::Crc32(digest) => digest.update(bytes),
            Running::Crc32c(digest) => digest.update(bytes),
            Running::Crc64Nvme(digest) => digest.update(bytes),
            Running::Sha1(digest) => digest.update(bytes),
            Running::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Running::Crc32(digest) => STANDARD.encode(digest.finalize()),
            Running::Crc32c(digest) => STANDARD.encode(digest.finalize()),
            Running::Crc64Nvme(digest) => STANDARD.encode(digest.finalize()),
            Running::Sha1(digest) => STANDARD.encode(digest.finalize()),
            Running::Sha256(digest) => STANDARD.encode(digest.finalize()),
        }
    }
}

/// All digests of one body, over bytes as they come.
pub struct Digester {
    md5: Md5,
    crc64nvme: Crc64Nvme,
    others: Vec<(Algorithm, Running)>,
}

impl Digester {
    /// MD5 and CRC64NVME always, and what else is asked for.
    pub fn new(asked: impl IntoIterator<Item = Algorithm>) -> Digester {
        let mut others: Vec<(Algorithm, Running)> = Vec::new();
        for algorithm in asked {
            if algorithm != Algorithm::Crc64Nvme
                && others.iter().all(|(other, _)| *other != algorithm)
            {
                others.push((algorithm, Running::new(algorithm)));
            }
        }
        Digester { md5: Md5::new(), crc64nvme: Crc64Nvme::new(), others }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc64nvme.update(bytes);
        for (_, running) in &mut self.others {
            running.update(bytes);
        }
    }

    pub fn finish(self) -> Digests {
        let mut checksums =
            vec![(Algorithm::Crc64Nvme, STANDARD.encode(self.crc64nvme.finalize()))];
        checksums.extend(
            self.others.into_iter().map(|(algorithm, running)| (algorithm, running.finish())),
        );
        Digests { md5: self.md5.finalize(), checksums }
    }
}

pub struct Digests {
    pub md5: [u8; 16],
    checksums: Vec<(Algorithm, String)>,
}

impl Digests {
    /// The ETag of an object or part that was sent in one piece.
    pub fn etag(&self) -> String {
        hex(&self.md5)
    }

    pub fn get(&self, algorithm: Algorithm) -> Option<&str> {
        self.checksums
            .iter()
            .find(|(other, _)| *other == algorithm)
            .map(|(_, value)| value.as_str())
    }

    /// CRC64NVME, which is always there.
    pub fn crc64nvme(&self) -> String {
        self.get(Algorithm::Crc64Nvme).unwrap_or_default().to_owned()
    }
}

/// The ETag of a multipart object: the MD5 of its parts' MD5s, and their number.
pub fn multipart_etag<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let mut md5 = Md5::new();
    let count = parts.len();
    for etag in parts {
        md5.update(&unhex(etag));
    }
    format!("{}-{count}", hex(&md5.finalize()))
}

/// The SHA-256 of a key, which names its record's file: a key is data and never part of a path.
pub fn key_hash(key: &str) -> String {
    hex(&Sha256::checksum(key.as_bytes()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .filter_map(|pair| {
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect()
}
