//! API keys: known by their SHA-256 alone. A key is 32 random bytes, so a plain hash is enough; nobody can
//! try them all.
//!
//! An entry is `name:sha256` or `name:sha256:admin`. The name owns the uploads; two keys of one name are
//! two keys of one owner, so that one can be rotated out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::Caller;

/// What keys made by `upflow-api key` begin with, so that scanners of secrets can find them.
const PREFIX: &str = "upk_";
const MAX_NAME: usize = 64;

struct Entry {
    name: String,
    hash: [u8; 32],
    admin: bool,
}

/// The keys that are valid now.
pub struct KeyRing(Vec<Entry>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| &entry.name)).finish()
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error(
        "entry {0} is not name:sha256 or name:sha256:admin; `upflow-api key NAME` makes a key and its entry"
    )]
    Form(usize),
    #[error("entry {0} has a name that is not 1 to 64 letters, digits, - and _")]
    Name(usize),
    #[error(
        "entry {0} has no SHA-256 in 64 hexadecimal digits: only the hash of a key stands here"
    )]
    Hash(usize),
    #[error("entry {0} has the hash of another entry: each key stands once")]
    Twice(usize),
}

impl KeyRing {
    /// Entries between white space or commas; `#` begins a comment. `None` where there is none.
    ///
    /// # Errors
    /// The entry that is wrong, by its number: it may be the key itself, put there by mistake.
    pub fn parse(text: &str) -> Result<Option<Self>, BadKey> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let entries = lines.flat_map(|line| line.split([',', ' ', '\t'])).map(str::trim);
        let mut ring: Vec<Entry> = Vec::new();
        for (i, text) in entries.filter(|entry| !entry.is_empty()).enumerate() {
            let entry = entry(text, i + 1)?;
            if ring.iter().any(|known| known.hash == entry.hash) {
                return Err(BadKey::Twice(i + 1));
            }
            ring.push(entry);
        }
        Ok(Some(ring).filter(|ring| !ring.is_empty()).map(Self))
    }

    /// Whose key this is. Every entry is compared, each in constant time: how long it takes tells nothing.
    pub fn caller(&self, key: &str) -> Option<Caller> {
        let hash = Sha256::digest(key);
        let mut found = u64::MAX;
        for (i, entry) in (0_u64..).zip(&self.0) {
            found.conditional_assign(&i, entry.hash.ct_eq(&hash[..]));
        }
        let entry = self.0.get(usize::try_from(found).ok()?)?;
        Some(Caller::Key { owner: entry.name.clone(), admin: entry.admin })
    }
}

fn entry(text: &str, number: usize) -> Result<Entry, BadKey> {
    let mut parts = text.split(':');
    let (Some(name), Some(hash)) = (parts.next(), parts.next()) else {
        return Err(BadKey::Form(number));
    };
    let admin = match (parts.next(), parts.next()) {
        (None, None) => false,
        (Some("admin"), None) => true,
        _ => return Err(BadKey::Form(number)),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(named) {
        return Err(BadKey::Name(number));
    }
    let hash = unhex(hash).ok_or(BadKey::Hash(number))?;
    Ok(Entry { name: name.to_owned(), hash, admin })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A new key, and its entry.
pub fn new_key(name: &str, admin: bool) -> Result<(String, String), BadKey> {
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{name}:{hash}{}", if admin { ":admin" } else { "" });
    entry(&text, 1)?;
    Ok((key, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, admin: bool) -> Option<Caller> {
        Some(Caller::Key { owner: name.to_owned(), admin })
    }

    #[test]
    fn a_key_is_known_by_its_entry_and_two_keys_of_a_name_are_one_owner() {
        let (old, old_entry) = new_key("shop", false).unwrap();
        let (new, new_entry) = new_key("shop", false).unwrap();
        let (admin, admin_entry) = new_key("ops", true).unwrap();
        let text = format!("# the shop's\n{old_entry}, {new_entry}\n\n{admin_entry} # people\n");
        let ring = KeyRing::parse(&text).unwrap().unwrap();
        assert_eq!(ring.caller(&old), owner("shop", false));
        assert_eq!(ring.caller(&new), owner("shop", false));
        assert_eq!(ring.caller(&admin), owner("ops", true));
        for wrong in ["", "shop", &old_entry, &old[1..], &format!("{old} ")] {
            assert_eq!(ring.caller(wrong), None, "{wrong}");
        }
        assert!(!format!("{ring:?}").contains(&old_entry[5..]));
    }

    #[test]
    fn an_entry_that_is_wrong_is_told_by_its_number_and_never_repeated() {
        let good = new_key("a", false).unwrap().1;
        for (bad, why) in [
            ("upk_secret", BadKey::Form(2)),
            ("a:b:c", BadKey::Form(2)),
            ("a b", BadKey::Form(2)),
            (&format!("é:{}", &good[2..]), BadKey::Name(2)),
            (":x", BadKey::Name(2)),
            ("a:secret", BadKey::Hash(2)),
            (&good, BadKey::Twice(2)),
        ] {
            let error = KeyRing::parse(&format!("{good}\n{bad}")).unwrap_err();
            assert_eq!(error, why, "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(KeyRing::parse(" \n# none\n").unwrap().is_none());
    }
}
