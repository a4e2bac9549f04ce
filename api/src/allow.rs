//! Which methods a path takes: a 405 must say so (RFC 9110, section 15.5.6), and the framework does not.

use serde_json::Value;

/// Paths of the spec as segments, and their methods as the header `Allow` has them. A segment in braces
/// stands for any.
pub struct Allow(Vec<(Vec<String>, String)>);

impl Allow {
    /// From the OpenAPI document, as JSON.
    pub fn from_spec(json: &str) -> Self {
        let spec: Value = serde_json::from_str(json).unwrap_or_default();
        let paths = spec["paths"].as_object().into_iter().flatten();
        Self(paths.map(|(path, methods)| (segments(path), names(methods))).collect())
    }

    /// The methods of `path`. What is not in the spec is a page.
    pub fn methods(&self, path: &str) -> &str {
        let asked = segments(path);
        let fits = |known: &[String]| {
            let same = |(a, b): (&String, &String)| a.starts_with('{') || a == b;
            known.len() == asked.len() && known.iter().zip(&asked).all(same)
        };
        // `/uploads/init` is not `/uploads/{upload_id}`: what is written out goes first.
        let mut fitting: Vec<_> = self.0.iter().filter(|(known, _)| fits(known)).collect();
        fitting.sort_by_key(|(known, _)| known.iter().filter(|s| s.starts_with('{')).count());
        fitting.first().map_or("GET, HEAD", |(_, methods)| methods)
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

fn names(methods: &Value) -> String {
    let methods = methods.as_object().into_iter().flatten();
    methods.map(|(name, _)| name.to_uppercase()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Allow;

    #[test]
    fn a_path_takes_the_methods_of_the_spec() {
        let allow = Allow::from_spec(
            r#"{"paths": {"/a/{id}": {"get": {}, "delete": {}}, "/a/init": {"post": {}}}}"#,
        );
        assert_eq!(allow.methods("/a/init"), "POST");
        assert_eq!(allow.methods("/a/x").split(", ").count(), 2);
        assert_eq!(allow.methods("/static/index.html"), "GET, HEAD");
    }
}
