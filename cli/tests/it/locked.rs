//! A server with keys, and its callers.

use reqwest::{Method, header};
use serde_json::{Value, json};
use upflow_api::auth::{Access, KeyRing, Tokens, new_key};
use upflow_api::config::ServeSettings;
use upflow_api::limits::ClientLimits;
use uuid::Uuid;

use crate::client::Answer;
use crate::harness::{Options, Stack};

/// A server with keys.
pub struct Locked {
    pub stack: Stack,
    pub access: Access,
    /// Of the owner `shop`.
    pub shop: String,
    pub other: String,
    pub admin: String,
}

impl Locked {
    pub async fn start(stack: &Stack, limits: ClientLimits) -> Self {
        let keys = [("shop", false), ("other", false), ("ops", true)];
        let [shop, other, admin] = keys.map(|(name, admin)| new_key(name, admin).unwrap());
        let entries = [&shop.1, &other.1, &admin.1].map(String::as_str).join(",");
        let access = Access {
            keys: KeyRing::parse(&entries).unwrap().map(Into::into),
            tokens: Tokens::random().into(),
            ..Access::open()
        };
        let serve = ServeSettings { access: access.clone(), limits };
        let stack = stack.sibling(Options { serve, ..Options::default() }).await;
        Self { stack, access, shop: shop.0, other: other.0, admin: admin.0 }
    }

    pub async fn call(
        &self,
        bearer: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let authorization = bearer.map(|bearer| format!("Bearer {bearer}"));
        self.stack.authorized(authorization.as_deref(), method, path, body).await
    }

    pub async fn init(&self, key: &str, body: Value) -> Answer {
        self.call(Some(key), Method::POST, "/uploads/init", Some(body)).await
    }

    /// A new upload of one chunk, nothing sent: its id and its token.
    pub async fn upload(&self, key: &str) -> (Uuid, String) {
        let upload = self.init(key, json!({ "filename": "a", "file_size": 5 })).await.expect(201);
        let token = upload["upload_token"].as_str().unwrap().to_owned();
        (upload["upload_id"].as_str().unwrap().parse().unwrap(), token)
    }
}

impl Stack {
    pub async fn authorized(
        &self,
        authorization: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.http().request(method, self.url(path));
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.json().await.unwrap() }
    }
}
