//! Plain routes that are not part of the API: the demo and the spec.

use std::sync::LazyLock;

use bytes::Bytes;
use poem::endpoint::EmbeddedFilesEndpoint;
use poem::middleware::SetHeader;
use poem::web::Redirect;
use poem::{EndpointExt, IntoResponse, Route, get, handler};
use rust_embed::RustEmbed;

use super::{Shared, health};

#[derive(RustEmbed)]
#[folder = "../static"]
struct Static;

static YAML: LazyLock<Bytes> = LazyLock::new(|| crate::openapi_yaml().into());
static JSON: LazyLock<Bytes> = LazyLock::new(|| crate::openapi_json().into());

/// The routes, below `/`.
pub fn routes(state: Shared) -> Route {
    let text = |content_type: &'static str, text: &'static LazyLock<Bytes>| {
        get(poem::endpoint::make_sync(move |_| Bytes::clone(text).with_content_type(content_type)))
    };
    Route::new()
        .at("/", get(home))
        .nest("/health", health::routes(state.clone()))
        .at("/openapi.yaml", text("application/yaml", &YAML))
        .at("/openapi.json", text("application/json", &JSON))
        .nest("/static", EmbeddedFilesEndpoint::<Static>::new().with(page_headers(&state)))
}

/// What binds the demo and its worker: nothing but their own files, and requests to nobody but this server and
/// the bucket. A page that could run foreign script could give away the files that it is shown.
fn page_headers(state: &Shared) -> SetHeader {
    let policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "worker-src 'self'",
        &format!("connect-src 'self' {}", state.ctx.storage.public_origin()),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    SetHeader::new()
        .overriding("content-security-policy", policy.join("; "))
        .overriding("x-content-type-options", "nosniff")
        .overriding("referrer-policy", "no-referrer")
        // Checked by ETag each time: a page of one version with scripts of another does not work.
        .overriding("cache-control", "no-cache")
}

#[handler]
fn home() -> Redirect {
    Redirect::see_other("/static/index.html")
}
