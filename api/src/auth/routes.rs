//! What each operation needs of its caller: the one table. The guard, the security of each operation in
//! the spec and the tests derive from it; a test holds it against the operations that there are.

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

/// Method, path as in the spec, need.
pub const ROUTES: [(Method, &str, Need); 15] = [
    (Method::POST, "/uploads/init", Need::Key),
    (Method::GET, "/uploads", Need::Key),
    (Method::GET, "/uploads/{upload_id}", Need::Upload),
    (Method::DELETE, "/uploads/{upload_id}", Need::Upload),
    (Method::POST, "/uploads/{upload_id}/chunks/presign", Need::Upload),
    (Method::PUT, "/uploads/{upload_id}/chunks/{chunk_index}", Need::Upload),
    (Method::POST, "/uploads/{upload_id}/chunks/confirm", Need::Upload),
    (Method::POST, "/uploads/{upload_id}/reconcile", Need::Upload),
    (Method::POST, "/uploads/{upload_id}/complete", Need::Upload),
    (Method::GET, "/uploads/{upload_id}/download", Need::Upload),
    (Method::POST, "/uploads/{upload_id}/requeue", Need::Admin),
    (Method::GET, "/uploads/{upload_id}/events", Need::Admin),
    (Method::GET, "/stats", Need::Admin),
    (Method::GET, "/orphans", Need::Admin),
    (Method::DELETE, "/orphans/{upload_id}", Need::Admin),
];

/// What a request needs, and the upload that it is about; an id that is none is `Err`. `None` where no
/// operation is: the path is compared as it came, undecoded.
pub fn need(method: &Method, path: &str) -> Option<(Need, Option<Result<Uuid, ()>>)> {
    let (route, need) = find(method, path)?;
    let id = path.split('/').nth(2).unwrap_or_default();
    let about = route.contains("{upload_id}").then(|| id.parse().map_err(|_| ()));
    Some((need, about))
}

/// The path of the operation as in the spec, and what it needs.
pub fn find(method: &Method, path: &str) -> Option<(&'static str, Need)> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    // `/uploads/init` is no upload, whatever the method.
    let literal = ROUTES.iter().any(|(_, route, _)| *route == path);
    let (.., route, need) = ROUTES.iter().find(|(known, route, _)| {
        if literal {
            return known == method && *route == path;
        }
        let same = |(known, asked): (&str, &str)| known.starts_with('{') || known == asked;
        let long = route.split('/').count() == path.split('/').count();
        known == method && long && route.split('/').zip(path.split('/')).all(same)
    })?;
    Some((route, *need))
}

/// How many requests it counts as for the caller's pace: what has S3 asked for all chunks of an upload is
/// not asked for often.
pub fn weight(method: &Method, path: &str) -> u32 {
    match find(method, path) {
        Some(("/uploads/{upload_id}/reconcile", _)) => 40,
        Some(("/uploads/{upload_id}/complete" | "/uploads/{upload_id}/chunks/confirm", _)) => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_in_the_table_by_its_method_and_path() {
        let id = Uuid::new_v4();
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
