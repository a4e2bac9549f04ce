//! Every object key that UpFlow uses, and nothing else makes one.
//!
//! ```text
//! {prefix}uploads/{upload_id}/chunks/{chunk_index}
//! {prefix}uploads/{upload_id}/final/{filename}
//! ```

use std::fmt;

use uuid::Uuid;

/// The most bytes of a filename in UTF-8: what one segment of a key may have on every S3 server, and a
/// file name on common file systems.
pub const MAX_FILENAME_BYTES: usize = 255;

/// A key below the deployment's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKey {
    Chunk { upload_id: Uuid, index: i32 },
    Final { upload_id: Uuid, filename: Filename },
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectKey::Chunk { upload_id, index } => write!(f, "{}{index}", chunks(*upload_id)),
            ObjectKey::Final { upload_id, filename } => {
                write!(f, "{}{}", finals(*upload_id), filename.0)
            }
        }
    }
}

/// What all keys of an upload start with.
pub(super) fn below(upload_id: Uuid) -> String {
    format!("uploads/{upload_id}/")
}

/// What all chunk keys of an upload start with.
pub fn chunks(upload_id: Uuid) -> String {
    format!("{}chunks/", below(upload_id))
}

/// What the key of an upload's final object starts with.
pub fn finals(upload_id: Uuid) -> String {
    format!("{}final/", below(upload_id))
}

/// The index of a chunk, from its key below [`chunks`].
pub fn chunk_index(upload_id: Uuid, key: &str) -> Option<i32> {
    let index = key.strip_prefix(&chunks(upload_id))?;
    let number = index.parse().ok()?;
    // "07" and "+7" are not keys of ours.
    (index == i32::to_string(&number)).then_some(number)
}

/// A name that is safe as the last segment of a key and as a file's name wherever it is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filename(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilename {
    #[error("filename must not be empty")]
    Empty,
    #[error("filename is longer than {MAX_FILENAME_BYTES} bytes in UTF-8: shorten it")]
    TooLong,
    #[error("filename must be a name and not a path: no / or \\, and neither . nor ..")]
    Path,
    #[error(
        "filename must not hold control characters, line breaks or invisible changes of direction"
    )]
    Unprintable,
    #[error("filename must not begin or end with white space")]
    OuterSpace,
}

impl Filename {
    pub fn parse(name: &str) -> Result<Self, BadFilename> {
        if name.is_empty() {
            return Err(BadFilename::Empty);
        }
        if name.len() > MAX_FILENAME_BYTES {
            return Err(BadFilename::TooLong);
        }
        if name.contains(['/', '\\']) || name == "." || name == ".." {
            return Err(BadFilename::Path);
        }
        if name.chars().any(unprintable) {
            return Err(BadFilename::Unprintable);
        }
        if name.trim() != name {
            return Err(BadFilename::OuterSpace);
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters; the line separators; what XML, in which S3 lists keys, cannot hold; and the
/// embeddings and overrides of direction that make `exe.txt` of `txt.exe`.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_every_script_and_with_every_sign_of_a_url_are_taken() {
        for name in ["a b+c%20#?&=.txt", "l'été \"1\".pdf", "日本語.mov", "צילום.jpg", "..a", "🎬"]
        {
            assert_eq!(Filename::parse(name).unwrap().as_str(), name);
        }
        assert!(Filename::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn paths_and_unprintable_names_are_refused() {
        for (name, why) in [
            ("", BadFilename::Empty),
            ("a/b", BadFilename::Path),
            ("a\\b", BadFilename::Path),
            ("..", BadFilename::Path),
            (".", BadFilename::Path),
            ("a\r\nb", BadFilename::Unprintable),
            ("a\0", BadFilename::Unprintable),
            ("gpj.\u{202e}exe", BadFilename::Unprintable),
            (" a", BadFilename::OuterSpace),
            (&"é".repeat(128), BadFilename::TooLong),
        ] {
            assert_eq!(Filename::parse(name), Err(why), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_filename_leads_out_of_its_upload(name in any::<String>()) {
            if let Ok(filename) = Filename::parse(&name) {
                let upload_id = Uuid::new_v4();
                let key = ObjectKey::Final { upload_id, filename }.to_string();
                prop_assert!(key.starts_with(&finals(upload_id)));
                prop_assert_eq!(key.split('/').count(), 4);
                prop_assert!(key.split('/').all(|segment| segment != ".." && segment != "."));
            }
        }

        #[test]
        fn a_chunk_key_reads_back_as_its_index(index in 0..10_000i32) {
            let upload_id = Uuid::new_v4();
            let key = ObjectKey::Chunk { upload_id, index }.to_string();
            prop_assert_eq!(chunk_index(upload_id, &key), Some(index));
            prop_assert_eq!(chunk_index(Uuid::new_v4(), &key), None);
        }
    }
}
