//! The one place where a caller is known, slowed down and let in or not.

use std::time::Instant;

use poem::Request;
use poem::http::header;
use upflow_core::db::now;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::routes::{self, Need};
use super::tokens::Refused;
use super::{Caller, Tokens};
use crate::problem::{Code, Problem};
use crate::routes::State;

/// Lets the request on, with its [`Caller`] in it. What is no operation passes without one.
pub async fn admit(state: &State, request: &mut Request) -> Result<(), Problem> {
    let (method, path) = (request.method(), request.uri().path());
    let Some(route) = routes::find(method, path) else { return Ok(()) };
    let about = route.about(path);
    let caller = caller(state, request)?;
    if let Err(wait) = state.pace.check(&caller, route.weight, Instant::now()) {
        let detail = "this key makes more requests a second than it may: wait as Retry-After says";
        return Err(Problem::new(Code::TooManyRequests, detail).retry_after(wait));
    }
    let upload_id = match about {
        Some(Err(())) => return Err(Problem::upload_not_found()),
        Some(Ok(upload_id)) => Some(upload_id),
        None => None,
    };
    allowed(state, &caller, route.need, upload_id).await?;
    request.extensions_mut().insert(caller);
    Ok(())
}

fn caller(state: &State, request: &Request) -> Result<Caller, Problem> {
    let Some(keys) = &state.access.keys else { return Ok(Caller::Open) };
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(value) = headers.next() else {
        let detail =
            "send the header Authorization: Bearer, with an API key or the token of the upload";
        return Err(Problem::new(Code::CredentialsMissing, detail));
    };
    let wrong = || {
        let detail =
            "this is neither a valid API key nor a token of this server: check what follows Bearer";
        Problem::new(Code::CredentialsInvalid, detail)
    };
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let bearer = bearer.map(|(_, bearer)| bearer.trim()).filter(|_| headers.next().is_none());
    let bearer = bearer.ok_or_else(wrong)?;
    if !Tokens::is_token(bearer) {
        return keys.caller(bearer).ok_or_else(wrong);
    }
    match state.access.tokens.verify(bearer, now()) {
        Ok(upload_id) => Ok(Caller::Token { upload_id }),
        Err(Refused::Wrong) => Err(wrong()),
        Err(Refused::Expired) => {
            let detail = "the token of the upload has ended: whoever has the API key gets another one by repeating init with its Idempotency-Key";
            Err(Problem::new(Code::TokenExpired, detail))
        }
    }
}

async fn allowed(
    state: &State,
    caller: &Caller,
    need: Need,
    upload_id: Option<Uuid>,
) -> Result<(), Problem> {
    match (need, caller) {
        (_, Caller::Open)
        | (_, Caller::Key { admin: true, .. })
        | (Need::Key, Caller::Key { .. }) => Ok(()),
        (Need::Upload, Caller::Token { upload_id: own }) if upload_id == Some(*own) => Ok(()),
        (Need::Upload, Caller::Token { .. }) => Err(Problem::upload_not_found()),
        (Need::Upload, Caller::Key { owner, .. }) => {
            let upload_id = upload_id.ok_or_else(Problem::upload_not_found)?;
            match rows::owner(&state.ctx.db, upload_id).await? {
                found if found == *owner => Ok(()),
                _ => Err(Problem::upload_not_found()),
            }
        }
        (Need::Key, Caller::Token { .. }) => {
            let detail = "the token of an upload is for that upload alone: this takes an API key";
            Err(Problem::new(Code::ApiKeyRequired, detail))
        }
        (Need::Admin, Caller::Token { .. } | Caller::Key { .. }) => {
            let detail = "this takes an API key with the admin flag";
            Err(Problem::new(Code::AdminRequired, detail))
        }
    }
}
