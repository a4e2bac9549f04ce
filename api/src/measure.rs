//! Requests by route: what the metrics know a request by, however many paths clients think of.

use std::time::Instant;

use poem::Request;
use poem::http::Method;
use upflow_core::metrics::Metrics;

use crate::auth::routes;

/// A request that is being answered.
pub struct Measured {
    method: &'static str,
    route: &'static str,
    began: Instant,
}

impl Measured {
    pub fn begin(request: &Request) -> Self {
        let (method, uri) = (request.method(), request.uri());
        let mut route = route(method, uri.path());
        // A long poll takes as long as it was told to: among the others it would hide how long they take.
        if route == "/uploads/{upload_id}" && uri.query().is_some_and(|q| q.contains("wait_for=")) {
            route = "/uploads/{upload_id}?wait_for";
        }
        Self { method: method_name(method), route, began: Instant::now() }
    }

    pub fn end(self, metrics: &Metrics, status: u16) {
        metrics.request(self.method, self.route, status, self.began.elapsed());
    }
}

/// The template of the route, or what kind of page it is.
fn route(method: &Method, path: &str) -> &'static str {
    if let Some(route) = routes::find(method, path) {
        return route.path;
    }
    match path {
        "/" => "/",
        "/health/live" => "/health/live",
        "/health/ready" => "/health/ready",
        "/openapi.yaml" | "/openapi.json" => "/openapi",
        path if path.starts_with("/static/") => "/static",
        path if path == "/docs" || path.starts_with("/docs/") => "/docs",
        _ => "none",
    }
}

fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_client_asks_for_there_are_few_routes() {
        let id = "/uploads/7f1f9d4e-8f6f-4c55-9f0e-2f6f6f6f6f6f";
        assert_eq!(route(&Method::GET, id), "/uploads/{upload_id}");
        assert_eq!(route(&Method::PUT, &format!("{id}/chunks/7")), routes::ROUTES[5].path);
        assert_eq!(route(&Method::GET, "/static/a.js"), "/static");
        for strange in ["/a", "/uploads/a/b/c", "//", "/staticx"] {
            assert_eq!(route(&Method::GET, strange), "none", "{strange}");
        }
        assert_eq!(method_name(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
