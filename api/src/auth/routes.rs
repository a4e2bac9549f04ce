//! What each operation needs of its caller, and how much it weighs: the one table. The guard, the security
//! of each operation in the spec and the tests derive from it; a test holds it against the operations that
//! there are.

use poem::http::Method;
use uuid::Uuid;

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An API key.
    Key,
    /// The key of the upload's owner or of operators, or the upload's token.
    Upload,
    /// A key of operators: one with the `admin` flag.
    Admin,
}

/// An operation.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// As in the spec.
    pub path: &'static str,
    pub need: Need,
    /// How many requests it counts as for the caller's pace: what has S3 asked for all chunks of an upload is
    /// not asked for often.
    pub weight: u32,
}

const fn route(method: Method, path: &'static str, need: Need, weight: u32) -> Route {
    Route { method, path, need, weight }
}

pub static ROUTES: [Route; 15] = [
    route(Method::POST, "/uploads/init", Need::Key, 1),
    route(Method::GET, "/uploads", Need::Key, 1),
    route(Method::GET, "/uploads/{upload_id}", Need::Upload, 1),
    route(Method::DELETE, "/uploads/{upload_id}", Need::Upload, 1),
    route(Method::POST, "/uploads/{upload_id}/chunks/presign", Need::Upload, 1),
    route(Method::PUT, "/uploads/{upload_id}/chunks/{chunk_index}", Need::Upload, 1),
    route(Method::POST, "/uploads/{upload_id}/chunks/confirm", Need::Upload, 4),
    route(Method::POST, "/uploads/{upload_id}/reconcile", Need::Upload, 40),
    route(Method::POST, "/uploads/{upload_id}/complete", Need::Upload, 4),
    route(Method::GET, "/uploads/{upload_id}/download", Need::Upload, 1),
    route(Method::POST, "/uploads/{upload_id}/requeue", Need::Admin, 1),
    route(Method::GET, "/uploads/{upload_id}/events", Need::Admin, 1),
    route(Method::GET, "/stats", Need::Admin, 1),
    route(Method::GET, "/orphans", Need::Admin, 1),
    route(Method::DELETE, "/orphans/{upload_id}", Need::Admin, 1),
];

impl Route {
    /// The upload that a request of it is about, as it stands in `path`; an id that is none is `Err`.
    pub fn about(&self, path: &str) -> Option<Result<Uuid, ()>> {
        let id = path.split('/').nth(2).unwrap_or_default();
        self.path.contains("{upload_id}").then(|| id.parse().map_err(|_| ()))
    }
}

/// The operation of a request. `None` where there is none: the path is compared as it came, undecoded.
pub fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    // `/uploads/init` is no upload, whatever the method.
    let literal = ROUTES.iter().any(|route| route.path == path);
    ROUTES.iter().find(|route| {
        if literal {
            return route.method == method && route.path == path;
        }
        let same = |(known, asked): (&str, &str)| known.starts_with('{') || known == asked;
        let long = route.path.split('/').count() == path.split('/').count();
        route.method == method && long && route.path.split('/').zip(path.split('/')).all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_in_the_table_by_its_method_and_path() {
        let id = Uuid::new_v4();
        let need = |method: &Method, path: &str| {
            find(method, path).map(|route| (route.need, route.about(path)))
        };
        let get = |path: &str| need(&Method::GET, path);
        assert_eq!(need(&Method::POST, "/uploads/init"), Some((Need::Key, None)));
        assert_eq!(get(&format!("/uploads/{id}")), Some((Need::Upload, Some(Ok(id)))));
        assert_eq!(get("/uploads/%69nit"), Some((Need::Upload, Some(Err(())))));
        assert_eq!(need(&Method::HEAD, "/stats"), Some((Need::Admin, None)));
        for nothing in ["/uploads/init", "//uploads", "/uploads/a/b", "/%73tats", "/stats/"] {
            assert_eq!(get(nothing), None, "{nothing}");
        }
    }
}
