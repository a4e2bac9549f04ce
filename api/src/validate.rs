//! Requests checked value by value, so that an answer names every fault at once.

use std::collections::{BTreeMap, HashSet};

use upflow_core::checksum::Algorithm;
use upflow_core::plan::{Plan, PlanError};
use upflow_core::storage::Filename;
use upflow_core::uploads::Declared;

use crate::limits::ClientLimits;
use crate::problem::{Code, FieldError, Problem};
use crate::schema::{ChunkRequest, InitUpload};

/// The most bytes of `metadata`, names and values together.
const MAX_METADATA: usize = 4 * 1024;

/// `InitUpload`, checked.
pub struct Init {
    pub filename: Filename,
    pub plan: Plan,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
    pub algorithm: Algorithm,
    pub checksum: Option<upflow_core::checksum::Checksum>,
    pub chunks: Vec<Declared>,
}

pub fn init(request: InitUpload, limits: &ClientLimits) -> Result<Init, Problem> {
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: String| {
        errors.push(FieldError { pointer: pointer.to_owned(), detail });
    };
    let filename = Filename::parse(&request.filename);
    let filename = filename.map_err(|error| wrong("/filename", error.to_string())).ok();
    let plan = Plan::within(request.file_size, request.chunk_size, limits.chunks);
    let plan = plan.map_err(|error| {
        let pointer = match error {
            PlanError::FileSize => "/file_size",
            PlanError::ChunkSize | PlanError::TooManyChunks(..) => "/chunk_size",
        };
        wrong(pointer, error.to_string());
    });
    if plan.is_ok() && request.file_size > limits.file_size {
        wrong("/file_size", format!("files may have at most {} bytes here", limits.file_size));
    }
    let content_type =
        request.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    if !is_media_type(&content_type) {
        wrong(
            "/content_type",
            "must be a media type like image/jpeg, at most 255 bytes".to_owned(),
        );
    }
    if is_media_type(&content_type) && !limits.takes_type(&content_type) {
        let types = limits.content_types.join(", ");
        wrong("/content_type", format!("files of this type are not taken; possible: {types}"));
    }
    let algorithm = request.checksum_algorithm.map_or_else(Algorithm::default, Algorithm::from);
    let checksum = request.checksum.map(|text| algorithm.parse(&text)).transpose();
    let checksum = checksum.map_err(|error| wrong("/checksum", error.to_string())).ok().flatten();
    let metadata = request.metadata.unwrap_or_default();
    let metadata_len: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata_len > MAX_METADATA {
        wrong("/metadata", format!("has {metadata_len} bytes; at most {MAX_METADATA} are kept"));
    }
    if metadata.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        wrong("/metadata", "must not hold the character U+0000".to_owned());
    }
    let requested = request.chunks.unwrap_or_default();
    let (Some(filename), Ok(plan), true) = (filename, plan, errors.is_empty()) else {
        return Err(Problem::invalid(errors));
    };
    let chunks = match requested.as_slice() {
        [] => Vec::new(),
        requested => chunks(requested, plan, algorithm, limits.batch)?,
    };
    Ok(Init { filename, plan, content_type, metadata, algorithm, checksum, chunks })
}

/// Chunks to presign: 1 to `batch`, each once, each one that the upload has.
pub fn chunks(
    requested: &[ChunkRequest],
    plan: Plan,
    algorithm: Algorithm,
    batch: usize,
) -> Result<Vec<Declared>, Problem> {
    let indexes: Vec<i32> = requested.iter().map(|chunk| chunk.chunk_index).collect();
    self::indexes(&indexes, plan, batch, |i| format!("/chunks/{i}/chunk_index"))?;
    let mut errors = Vec::new();
    let mut declared = Vec::with_capacity(requested.len());
    for (i, chunk) in requested.iter().enumerate() {
        let checksum = chunk.checksum.as_deref().map(|text| algorithm.parse(text)).transpose();
        match checksum {
            Ok(checksum) => declared.push(Declared { index: chunk.chunk_index, checksum }),
            Err(error) => errors.push(FieldError {
                pointer: format!("/chunks/{i}/checksum"),
                detail: error.to_string(),
            }),
        }
    }
    if errors.is_empty() { Ok(declared) } else { Err(Problem::invalid(errors)) }
}

/// Indexes of chunks: 1 to `batch`, each once, each one that the upload has.
pub fn indexes(
    indexes: &[i32],
    plan: Plan,
    batch: usize,
    pointer: impl Fn(usize) -> String,
) -> Result<(), Problem> {
    if indexes.is_empty() || indexes.len() > batch {
        let detail = format!("has {} items; 1 to {batch} are possible", indexes.len());
        return Err(Problem::invalid(vec![FieldError { pointer: "/chunks".to_owned(), detail }]));
    }
    let mut seen = HashSet::with_capacity(indexes.len());
    let (mut outside, mut twice) = (Vec::new(), Vec::new());
    for (i, index) in indexes.iter().enumerate() {
        if !plan.has_chunk(*index) {
            outside.push(FieldError { pointer: pointer(i), detail: range(*index, plan) });
        } else if !seen.insert(*index) {
            let detail = format!("{index} stands here for the second time");
            twice.push(FieldError { pointer: pointer(i), detail });
        }
    }
    if let Some(first) = outside.first() {
        let detail = first.detail.clone();
        return Err(Problem::with(Code::ChunkIndexOutOfRange, detail, |details| {
            details.errors = Some(outside);
        }));
    }
    if twice.is_empty() { Ok(()) } else { Err(Problem::invalid(twice)) }
}

/// One index in the path.
pub fn index(index: i32, plan: Plan) -> Result<(), Problem> {
    if plan.has_chunk(index) {
        return Ok(());
    }
    Err(Problem::new(Code::ChunkIndexOutOfRange, range(index, plan)))
}

fn range(index: i32, plan: Plan) -> String {
    match plan.total_chunks {
        0 => format!("{index} is no chunk: the file is empty and has none"),
        total => format!("{index} is no chunk: the upload has 0 to {}", total - 1),
    }
}

/// `type/subtype` with parameters, in characters that a header may carry (RFC 9110, section 8.3.1).
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let printable = |c: char| c.is_ascii_graphic() || c == ' ';
    text.len() <= 255
        && parameters.chars().all(printable)
        && essence.trim_end().split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

#[cfg(test)]
mod tests {
    use super::is_media_type;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_media_type_ends_its_header(text in any::<String>()) {
            if is_media_type(&text) {
                prop_assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text:?}");
                prop_assert!(text.len() <= 255);
            }
        }
    }

    #[test]
    fn media_types_cannot_carry_another_header() {
        for good in ["image/jpeg", "text/plain; charset=utf-8", "application/vnd.ms-excel+xml"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "image", "image/", "a/b\r\nx: y", "a b/c", "text/plain; a=\u{e9}"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }
}
