//! Who may do what. With API keys configured every operation needs `Authorization: Bearer` with a key, or
//! with the token of the upload that it is about; without any, the server is open to this machine alone.
//!
//! [`routes`] is the one table of what each operation needs, from which the [`guard`] and the spec derive.
//! An operation can only be reached with the [`Caller`] that the guard found.

mod guard;
mod keys;
mod origin;
mod pace;
pub mod routes;
mod tokens;

use std::sync::Arc;

use poem::{FromRequest, Request, RequestBody};
use uuid::Uuid;

use crate::problem;

pub use guard::admit;
pub use keys::{BadKey, KeyRing, new_key};
pub use origin::{Door, is_origin};
pub use pace::Pace;
pub use tokens::{BadTokenKeys, Tokens};

/// The owner of what is uploaded without a key. A key of this name has it afterwards.
pub const OPEN: &str = "open";

/// Whom the server lets in.
#[derive(Debug, Clone)]
pub struct Access {
    /// `None`: open, to whoever passes the `door`.
    pub keys: Option<Arc<KeyRing>>,
    pub tokens: Arc<Tokens>,
    /// Where requests may come from while the server is open.
    pub door: Arc<Door>,
}

impl Access {
    /// Open to this machine, with tokens that nobody asks for.
    pub fn open() -> Self {
        Self { keys: None, tokens: Tokens::random().into(), door: Door::loopback().into() }
    }
}

/// Who calls, as the guard found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Anybody, on an open server.
    Open,
    Key {
        owner: String,
        admin: bool,
    },
    /// Whoever holds the token of this upload.
    Token {
        upload_id: Uuid,
    },
}

impl Caller {
    /// Whose a new upload becomes, and whose uploads a list shows unless it is an operator's.
    pub fn owner(&self) -> &str {
        match self {
            Caller::Key { owner, .. } => owner,
            Caller::Open | Caller::Token { .. } => OPEN,
        }
    }

    /// Sees and does everything, whosever upload it is.
    pub fn is_operator(&self) -> bool {
        matches!(self, Caller::Open | Caller::Key { admin: true, .. })
    }

    /// On an open server there are no owners to be kept from one another.
    pub fn has_quota(&self) -> bool {
        *self != Caller::Open
    }
}

/// Where the guard has admitted nobody there is no operation: a path that the guard and the router should
/// read differently leads nowhere.
impl<'a> FromRequest<'a> for Caller {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| problem::no_such_path().into())
    }
}
