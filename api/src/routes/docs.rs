//! Swagger UI, wholly from here: scripts and styles are in the page, and the policy names them by their
//! hashes, so that nothing else runs beside what callers type into it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use poem::http::header;
use poem::{Body, Response, Route, get};
use sha2::{Digest, Sha256};

/// The page and its policy. The page is not copied for each reader: it is large.
static PAGE: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let (html, policy) = html(&crate::spec::swagger_ui_json());
    (html.into(), policy)
});

/// The page with the OpenAPI document, at `/` below where it is nested.
pub fn page() -> Route {
    Route::new().at(
        "/",
        get(poem::endpoint::make_sync(|_| -> Response {
            let (html, policy) = &*PAGE;
            Response::builder()
                .content_type("text/html; charset=utf-8")
                .header(header::CONTENT_SECURITY_POLICY, policy.as_str())
                .body(Body::from_bytes(html.clone()))
        })),
    )
}

/// The page and its Content-Security-Policy.
fn html(spec: &str) -> (String, String) {
    let service = crate::service();
    // `</script>` in a text of the spec would end the script that it stands in.
    let spec = spec.replace("</", "<\\/");
    // The framework's page has the framework's document in it.
    let html = service.swagger_ui_html().replace(&service.spec(), &spec);
    // Without a doctype browsers lay it out as of old.
    let html = format!(
        "<!doctype html>{}",
        html.replace("<html charset=\"UTF-8\">", "<html lang=\"en\">")
    );
    let policy = [
        "default-src 'none'",
        &format!("script-src{}", hashes(&html, "script")),
        // Swagger UI puts `style` attributes on what it draws.
        "style-src 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    .join("; ");
    (html, policy)
}

/// The hashes of all elements of this name, as a policy lists them (CSP level 3, section 2.3.1).
fn hashes(html: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut hashes = String::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once(&open) {
        let Some((_, after)) = after.split_once('>') else { break };
        let Some((text, after)) = after.split_once(&close) else { break };
        hashes.push_str(&format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(text))));
        rest = after;
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_published_document_and_runs_its_own_scripts_alone() {
        let (html, policy) = html(r#"{"openapi": "3.0.3", "x": "</script>"}"#);
        assert!(html.contains(r#"let spec = {"openapi": "3.0.3", "x": "<\/script>"};"#));
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        assert!(!policy.contains("script-src 'unsafe"));
    }
}
