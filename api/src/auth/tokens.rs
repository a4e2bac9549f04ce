//! Upload tokens: what a client holds that has no API key, good for one upload and a time.
//!
//! ```text
//! upt1.{key id}.{base64url of: 16 bytes upload id, 8 bytes expiry in Unix seconds}.{base64url of HMAC-SHA256}
//! ```
//!
//! The HMAC is over everything before its dot. The first key signs, all verify: a new one is put before
//! the old one, which goes when the last token of it has ended.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngCore as _;
use sha2::Sha256;
use uuid::Uuid;

const VERSION: &str = "upt1";
/// Of a signing key, as long as the hash (RFC 2104, section 3).
const MIN_KEY: usize = 32;
/// Bytes of what is signed: the upload's id, and when the token ends.
const PAYLOAD: usize = 24;

struct Key {
    id: String,
    mac: Hmac<Sha256>,
}

/// The keys that sign and verify.
pub struct Tokens(Vec<Key>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTokenKeys {
    #[error("entry {0} is not id:base64, the id 1 to 16 letters and digits")]
    Form(usize),
    #[error("entry {0} must have 32 bytes or more in base64, as from `openssl rand -base64 32`")]
    Short(usize),
    #[error("entry {0} has the id of another one")]
    Twice(usize),
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not made by us, or not for anybody any more.
    Wrong,
    Expired,
}

impl Tokens {
    /// `id:base64` between commas, the one that signs first. `None` where there is none.
    ///
    /// # Errors
    /// The entry that is wrong, by its number alone.
    pub fn parse(text: &str) -> Result<Option<Self>, BadTokenKeys> {
        let mut keys: Vec<Key> = Vec::new();
        let entries = text.split([',', ' ', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        for (i, entry) in entries.enumerate() {
            let form = BadTokenKeys::Form(i + 1);
            let Some((id, secret)) = entry.split_once(':') else { return Err(form) };
            if !(1..=16).contains(&id.len()) || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err(form);
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(BadTokenKeys::Twice(i + 1));
            }
            let secret = STANDARD.decode(secret).ok().filter(|secret| secret.len() >= MIN_KEY);
            let secret = secret.ok_or(BadTokenKeys::Short(i + 1))?;
            keys.push(key(id.to_owned(), &secret).ok_or(form)?);
        }
        Ok(Some(keys).filter(|keys| !keys.is_empty()).map(Self))
    }

    /// A key that ends with this process.
    pub fn random() -> Self {
        let mut secret = [0; MIN_KEY];
        rand::rng().fill_bytes(&mut secret);
        Self(key("process".to_owned(), &secret).into_iter().collect())
    }

    /// The token of an upload.
    pub fn sign(&self, upload_id: Uuid, expires_at: DateTime<Utc>) -> String {
        let Some(key) = self.0.first() else { return String::new() };
        let mut payload = [0; PAYLOAD];
        payload[..16].copy_from_slice(upload_id.as_bytes());
        payload[16..].copy_from_slice(&expires_at.timestamp().to_be_bytes());
        let signed = format!("{VERSION}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(payload));
        let mac = key.mac.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether a bearer is a token at all, and no API key.
    pub fn is_token(bearer: &str) -> bool {
        bearer.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The upload that a token is for.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Uuid, Refused> {
        let (signed, mac) = token.rsplit_once('.').ok_or(Refused::Wrong)?;
        let mut parts = signed.split('.').skip(1);
        let (id, payload) = parts.next().zip(parts.next()).ok_or(Refused::Wrong)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or(Refused::Wrong)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| Refused::Wrong)?;
        // In constant time.
        key.mac.clone().chain_update(signed).verify_slice(&mac).map_err(|_| Refused::Wrong)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refused::Wrong)?;
        let (upload_id, expires_at) = payload.split_at_checked(16).ok_or(Refused::Wrong)?;
        let upload_id = Uuid::from_slice(upload_id).map_err(|_| Refused::Wrong)?;
        let expires_at: [u8; 8] = expires_at.try_into().map_err(|_| Refused::Wrong)?;
        if now.timestamp() >= i64::from_be_bytes(expires_at) {
            return Err(Refused::Expired);
        }
        Ok(upload_id)
    }
}

fn key(id: String, secret: &[u8]) -> Option<Key> {
    Some(Key { id, mac: Hmac::new_from_slice(secret).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn entry(id: &str, byte: u8) -> String {
        format!("{id}:{}", STANDARD.encode([byte; 32]))
    }

    fn tokens(text: &str) -> Tokens {
        Tokens::parse(text).unwrap().unwrap()
    }

    #[test]
    fn a_token_is_for_its_upload_until_it_ends() {
        let (tokens, id, now) = (Tokens::random(), Uuid::new_v4(), Utc::now());
        let token = tokens.sign(id, now + TimeDelta::seconds(60));
        assert!(Tokens::is_token(&token));
        assert_eq!(tokens.verify(&token, now), Ok(id));
        assert_eq!(tokens.verify(&token, now + TimeDelta::seconds(61)), Err(Refused::Expired));
    }

    #[test]
    fn whatever_is_changed_in_a_token_ends_it() {
        let (tokens, now) = (Tokens::random(), Utc::now());
        let token = tokens.sign(Uuid::new_v4(), now + TimeDelta::seconds(60));
        for i in 0..token.len() {
            for other in ["A", "B", ".", ""] {
                let changed = format!("{}{other}{}", &token[..i], &token[i + 1..]);
                if changed != token {
                    assert_eq!(tokens.verify(&changed, now), Err(Refused::Wrong), "{changed}");
                }
            }
        }
        assert_eq!(Tokens::random().verify(&token, now), Err(Refused::Wrong));
    }

    #[test]
    fn a_key_that_is_rotated_out_takes_its_tokens_with_it() {
        let (id, now) = (Uuid::new_v4(), Utc::now());
        let (a, b) = (entry("a", 1), entry("b", 2));
        let old = tokens(&a).sign(id, now + TimeDelta::seconds(60));
        let both = tokens(&format!("{b},{a}"));
        assert_eq!(both.verify(&old, now), Ok(id));
        let new = both.sign(id, now + TimeDelta::seconds(60));
        assert!(new.starts_with("upt1.b."));
        assert_eq!(tokens(&b).verify(&new, now), Ok(id));
        assert_eq!(tokens(&b).verify(&old, now), Err(Refused::Wrong));
    }

    #[test]
    fn signing_keys_that_are_wrong_are_told_by_their_number() {
        for (bad, why) in [
            ("secret".to_owned(), BadTokenKeys::Form(2)),
            ("a-b:x".to_owned(), BadTokenKeys::Form(2)),
            ("b:c2VjcmV0".to_owned(), BadTokenKeys::Short(2)),
            (entry("a", 2), BadTokenKeys::Twice(2)),
        ] {
            assert_eq!(Tokens::parse(&format!("{},{bad}", entry("a", 1))).unwrap_err(), why);
        }
        assert!(Tokens::parse(" ").unwrap().is_none());
    }
}
