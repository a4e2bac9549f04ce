//! The OpenAPI document.

/// As YAML.
pub fn openapi_yaml() -> String {
    crate::service().spec_yaml()
}

/// As JSON.
pub fn openapi_json() -> String {
    crate::service().spec()
}
