//! Who may do what: every operation with every kind of caller, and what an open server takes from pages.

use chrono::TimeDelta;
use reqwest::{Method, header};
use serde_json::{Value, json};
use upflow_api::auth::routes::{Need, ROUTES, Route};
use upflow_api::auth::{Access, KeyRing, Tokens, new_key};
use upflow_api::config::ServeSettings;
use upflow_api::limits::ClientLimits;
use upflow_core::db::now;

use crate::client::{KIB, MIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::locked::Locked;
use crate::processes::{environment, with};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "access":
    every_operation_answers_every_caller_as_the_table_has_it,
    other_owners_uploads_are_in_no_list_and_behind_no_idempotency_key,
    the_token_of_an_upload_carries_it_to_its_end_and_reads_it_afterwards,
    a_key_that_is_rotated_out_ends_and_the_uploads_stay_with_the_other,
    an_open_server_is_driven_by_no_page_of_another_site,
    pages_of_configured_origins_may_call_and_others_may_not,
};

/// The real programs.
pub const PROGRAMS: Suite = suite! { "access":
    with_keys_production_does_not_start_without_the_key_that_signs_tokens,
    no_secret_is_in_a_log_and_an_open_start_says_so,
    upload_works_with_a_key_and_resumes_with_the_token_alone,
};

/// A body that the operation takes, and what it answers to who may call it, for an upload with nothing sent.
fn wanted(path: &str, method: &Method) -> (Option<Value>, u16) {
    match (path.rsplit('/').next().unwrap(), method.as_str()) {
        // Let in, and told that the age is missing.
        _ if path.starts_with("/orphans/") => (None, 422),
        ("init", _) => (Some(json!({ "filename": "b", "file_size": 1 })), 201),
        ("presign", _) => (Some(json!({ "chunks": [{ "chunk_index": 0 }] })), 200),
        ("confirm", _) => (Some(json!({ "chunks": [0] })), 200),
        // Nothing is there, nothing is complete: but the caller is let in.
        ("{chunk_index}" | "complete" | "download", _) => (None, 409),
        _ => (None, 200),
    }
}

async fn every_operation_answers_every_caller_as_the_table_has_it(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let tokens = &locked.access.tokens;
    for Route { method, path, need, .. } in &ROUTES {
        let (method, need) = (method.clone(), *need);
        let (id, token) = locked.upload(&locked.shop).await;
        let (_, other_token) = locked.upload(&locked.shop).await;
        let expired = tokens.sign(id, now() - TimeDelta::seconds(1));
        let forged = Tokens::random().sign(id, now() + TimeDelta::days(1));
        let (body, success) = wanted(path, &method);
        let key_only = if need == Need::Admin { "admin_required" } else { "api_key_required" };
        let own = |needs: Need| if need == needs { (success, "") } else { (403, key_only) };
        let not_mine = match need {
            Need::Key => (success, ""),
            Need::Upload => (404, "upload_not_found"),
            Need::Admin => (403, "admin_required"),
        };
        let bearer = |text: &str| Some(format!("Bearer {text}"));
        let callers = [
            ("no key", None, (401, "credentials_missing")),
            ("wrong key", bearer("upk_wrong"), (401, "credentials_invalid")),
            ("other scheme", Some("Basic c2hvcDpzaG9w".into()), (401, "credentials_invalid")),
            ("forged token", bearer(&forged), (401, "credentials_invalid")),
            ("expired token", bearer(&expired), (401, "token_expired")),
            ("other owner", bearer(&locked.other), not_mine),
            (
                "token of another",
                bearer(&other_token),
                match need {
                    Need::Upload => (404, "upload_not_found"),
                    _ => (403, key_only),
                },
            ),
            (
                // Whosever upload it is.
                "operator",
                bearer(&locked.admin),
                (success, ""),
            ),
            (
                "owner",
                bearer(&locked.shop),
                match need {
                    Need::Admin => (403, "admin_required"),
                    _ => (success, ""),
                },
            ),
        ];
        let path = path.replace("{upload_id}", &id.to_string()).replace("{chunk_index}", "0");
        let call = |authorization: Option<String>| {
            let (method, path, body) = (method.clone(), path.clone(), body.clone());
            let stack = &locked.stack;
            async move { stack.authorized(authorization.as_deref(), method, &path, body).await }
        };
        // The token last, on the same upload as the owner.
        let callers = callers.into_iter().chain([("token", bearer(&token), own(Need::Upload))]);
        for (who, authorization, (status, code)) in callers {
            // Whoever deletes it takes it from those who come after.
            if method == Method::DELETE && need == Need::Upload && who == "owner" {
                let other = locked.upload(&locked.shop).await;
                let path = format!("/uploads/{}", other.0);
                locked.call(Some(&locked.shop), Method::DELETE, &path, None).await.expect(200);
                continue;
            }
            let answer = call(authorization).await;
            assert_eq!(answer.status, status, "{who}, {method} {path}: {:#}", answer.body);
            if !code.is_empty() {
                assert_eq!(answer.body["code"], code, "{who}, {method} {path}");
            }
            let challenge = answer.headers.get(header::WWW_AUTHENTICATE);
            assert_eq!(challenge.is_some(), status == 401, "{who}, {method} {path}");
            if let Some(challenge) = challenge {
                assert!(challenge.to_str().unwrap().starts_with("Bearer realm="));
            }
        }
    }
}

async fn other_owners_uploads_are_in_no_list_and_behind_no_idempotency_key(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let init = |key: String, name: &'static str| {
        let body = json!({ "filename": name, "file_size": 1 });
        let request = locked.stack.http().post(locked.stack.url("/uploads/init")).json(&body);
        let request = request.bearer_auth(key).header("idempotency-key", "the same");
        async move { request.send().await.unwrap() }
    };
    let ours: Value = init(locked.shop.clone(), "a").await.json().await.unwrap();
    let again: Value = init(locked.shop.clone(), "a").await.json().await.unwrap();
    assert_eq!(ours["upload_id"], again["upload_id"]);
    let theirs = init(locked.other.clone(), "b").await;
    assert_eq!(theirs.status(), 201);
    assert_ne!(theirs.json::<Value>().await.unwrap()["upload_id"], ours["upload_id"]);
    for (key, names) in [(&locked.shop, json!(["a"])), (&locked.other, json!(["b"]))] {
        let page = locked.call(Some(key), Method::GET, "/uploads", None).await.expect(200);
        let found = page["uploads"].as_array().unwrap().iter().map(|u| u["filename"].clone());
        assert_eq!(Value::Array(found.collect()), names);
    }
}

async fn the_token_of_an_upload_carries_it_to_its_end_and_reads_it_afterwards(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let (id, token) = locked.upload(&locked.shop).await;
    let call = |method: Method, rest: &str, body: Option<Value>| {
        let (path, token) = (format!("/uploads/{id}{rest}"), token.clone());
        let locked = &locked;
        async move { locked.call(Some(&token), method, &path, body).await }
    };
    let wanted = Some(json!({ "chunks": [{ "chunk_index": 0 }] }));
    let presigned = call(Method::POST, "/chunks/presign", wanted).await.expect(200);
    let presigned = &presigned["chunks"][0];
    // The token is in no URL.
    assert!(!presigned.to_string().contains(&token));
    let http = locked.stack.http();
    assert_eq!(crate::client::sent(http, presigned, noise(5)).await, 200);
    call(Method::PUT, "/chunks/0", None).await.expect(200);
    call(Method::POST, "/complete", None).await;
    let path = "?wait_for=completed&timeout_seconds=60";
    assert_eq!(call(Method::GET, path, None).await.expect(200)["status"], "completed");
    let download = call(Method::GET, "/download", None).await.expect(200);
    let found = http.get(download["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(found.bytes().await.unwrap(), noise(5));
    call(Method::DELETE, "", None).await.expect_problem(409, "upload_completed");
}

async fn a_key_that_is_rotated_out_ends_and_the_uploads_stay_with_the_other(stack: Stack) {
    let (old, old_entry) = new_key("shop", false).unwrap();
    let (new, new_entry) = new_key("shop", false).unwrap();
    let serve = |entries: String| ServeSettings {
        access: Access {
            keys: KeyRing::parse(&entries).unwrap().map(Into::into),
            ..Access::open()
        },
        limits: ClientLimits::default(),
    };
    let both = serve(format!("{old_entry},{new_entry}"));
    let stack = stack.sibling(Options { serve: both, ..Options::default() }).await;
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    let body = Some(json!({ "filename": "a", "file_size": 1 }));
    let init = stack.authorized(bearer(&old).as_deref(), Method::POST, "/uploads/init", body).await;
    let path = format!("/uploads/{}", init.expect(201)["upload_id"].as_str().unwrap());
    stack.authorized(bearer(&new).as_deref(), Method::GET, &path, None).await.expect(200);
    stack.serve_otherwise(serve(new_entry)).await;
    let refused = stack.authorized(bearer(&old).as_deref(), Method::GET, &path, None).await;
    refused.expect_problem(401, "credentials_invalid");
    stack.authorized(bearer(&new).as_deref(), Method::GET, &path, None).await.expect(200);
}

async fn an_open_server_is_driven_by_no_page_of_another_site(stack: Stack) {
    let upload = stack.plan("a", &noise(1), 64 * KIB).await;
    let host = stack.url("").replace("http://", "");
    let send = |method: Method, path: &str, headers: Vec<(&'static str, String)>| {
        let mut request = stack.http().request(method, stack.url(path));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let complete = upload.path("/complete");
    // A form needs no permission of ours, and has no body either.
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let origin = vec![("origin", origin.to_owned())];
        for (method, path) in [
            (Method::POST, complete.as_str()),
            (Method::DELETE, &upload.path("")),
            (Method::GET, "/uploads"),
            (Method::GET, "/static/index.html"),
            (Method::OPTIONS, "/uploads/init"),
        ] {
            let (status, text) = send(method, path, origin.clone()).await;
            assert_eq!(status, 403, "{text}");
            assert!(text.contains("origin_not_allowed"), "{text}");
        }
    }
    for name in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"] {
        let (status, text) = send(Method::GET, "/uploads", vec![("host", name.to_owned())]).await;
        assert!(status == 421 && text.contains("host_not_allowed"), "{status} {text}");
    }
    // A form can send text, and nothing that is called JSON.
    let form = stack.http().post(stack.url("/uploads/init")).header("content-type", "text/plain");
    let form = form.body(r#"{"filename":"b","file_size":1}"#).send().await.unwrap();
    assert_eq!(form.status(), 415);
    assert_eq!(upload.status().await, "initialized");
    assert_eq!(stack.get("/uploads").await.body["uploads"].as_array().unwrap().len(), 1);
    // Its own page may, by any of its names; and whoever looks whether it lives.
    let own = vec![("origin", format!("http://{host}"))];
    assert_eq!(send(Method::GET, "/uploads", own).await.0, 200);
    assert_eq!(send(Method::GET, "/uploads", vec![("host", "localhost".into())]).await.0, 200);
    assert_eq!(send(Method::GET, "/health/live", vec![("host", "10.1.2.3".into())]).await.0, 200);
}

async fn pages_of_configured_origins_may_call_and_others_may_not(stack: Stack) {
    let app = "https://app.example";
    let limits = ClientLimits { origins: vec![app.to_owned()], ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let ask = |origin: &'static str, method: Method| {
        let request = locked.stack.http().request(method, locked.stack.url("/uploads"));
        let request = request.header("origin", origin).bearer_auth(&locked.shop);
        let request = request.header("access-control-request-method", "POST");
        async move { request.send().await.unwrap() }
    };
    let preflight = ask(app, Method::OPTIONS).await;
    assert_eq!(preflight.status(), 204);
    let allowed = |answer: &reqwest::Response| {
        let header = answer.headers().get("access-control-allow-origin");
        header.map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(&preflight).as_deref(), Some(app));
    let headers = preflight.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("authorization") && headers.contains("idempotency-key"));
    assert!(!preflight.headers().contains_key("access-control-allow-credentials"));
    assert_eq!(allowed(&ask(app, Method::GET).await).as_deref(), Some(app));
    for method in [Method::OPTIONS, Method::GET] {
        assert_eq!(allowed(&ask("https://evil.example", method).await), None);
    }
    assert_eq!(ask("https://evil.example", Method::OPTIONS).await.status(), 405);
}

async fn with_keys_production_does_not_start_without_the_key_that_signs_tokens(stack: Stack) {
    let mut environment = environment(&stack);
    environment.insert("UPFLOW_API_KEYS", new_key("shop", false).unwrap().1);
    let ended = run(&mut with("upflow-api", &stack, &environment)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("UPFLOW_TOKEN_KEYS is not set"), "{}", ended.err);
    // What is wrong with a key is told, and the key is not.
    environment.insert("UPFLOW_API_KEYS", "shop:upk_hush".to_owned());
    environment.insert("UPFLOW_TOKEN_KEYS", "a:aHVzaA==".to_owned());
    let ended = run(&mut with("upflow-api", &stack, &environment)).await;
    assert!(ended.err.contains("UPFLOW_API_KEYS entry 1"), "{}", ended.err);
    assert!(ended.err.contains("UPFLOW_TOKEN_KEYS entry 1"), "{}", ended.err);
    assert!(!ended.err.contains("hush") && !ended.err.contains("aHVz"), "{}", ended.err);
}

const TOKEN_KEY: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// `upflow-api` with a key in a file, which is made by the program itself.
async fn locked_program(stack: &Stack, port: u16) -> (Running, String) {
    let made = run(program("upflow-api").args(["key", "shop"])).await;
    let word = |name: &str| {
        let line = made.out.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let file = stack.dir().join("keys");
    std::fs::write(&file, format!("# ours\n{}\n", word("entry"))).unwrap();
    let mut environment = environment(stack);
    environment.insert("UPFLOW_API_KEYS_FILE", file.to_str().unwrap().to_owned());
    environment.insert("UPFLOW_TOKEN_KEYS", TOKEN_KEY.to_owned());
    environment.insert("UPFLOW_LOG", "debug".to_owned());
    let port = port.to_string();
    // With keys any address will do.
    let mut command = with("upflow-api", stack, &environment);
    let mut api = Running::start(command.args(["--host", "0.0.0.0", "--port", &port]));
    api.says("it asks for keys").await;
    (api, word("key"))
}

async fn no_secret_is_in_a_log_and_an_open_start_says_so(stack: Stack) {
    let port = free_port();
    let (api, key) = locked_program(&stack, port).await;
    serves(stack.http(), port).await;
    let url = format!("http://127.0.0.1:{port}/uploads/init");
    let body = json!({ "filename": "a", "file_size": 5, "chunks": [{ "chunk_index": 0 }] });
    let init = || stack.http().post(&url).json(&body);
    let upload: Value = init().bearer_auth(&key).send().await.unwrap().json().await.unwrap();
    let token = upload["upload_token"].as_str().unwrap();
    let get = stack.http().get(url.replace("init", upload["upload_id"].as_str().unwrap()));
    assert_eq!(get.bearer_auth(token).send().await.unwrap().status(), 200);
    let wrong = init().bearer_auth("upk_a-wrong-one").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let request_id = wrong.headers()["x-request-id"].to_str().unwrap().to_owned();
    api.signal("TERM").await;
    let (code, said) = api.ended().await;
    assert_eq!(code, Some(0));
    assert!(said.contains("answered"), "requests are logged at this level: {said}");
    let refused = said.lines().find(|line| line.contains(&request_id)).expect("its id is logged");
    assert!(refused.contains("401") && refused.contains("/uploads/init"), "{refused}");
    let signature = upload["presigned"][0]["url"].as_str().unwrap();
    let signature = signature.split("X-Amz-Signature=").nth(1).unwrap();
    for secret in [&key, token, "upk_a-wrong-one", TOKEN_KEY, &TOKEN_KEY[2..], signature] {
        assert!(!said.contains(secret), "{secret} in: {said}");
    }
    let environment = environment(&stack);
    let mut command = with("upflow-api", &stack, &environment);
    let mut open = Running::start(command.args(["--port", &free_port().to_string()]));
    open.says("it is OPEN").await;
}

async fn upload_works_with_a_key_and_resumes_with_the_token_alone(stack: Stack) {
    let port = free_port();
    let (_api, key) = locked_program(&stack, port).await;
    serves(stack.http(), port).await;
    let bytes = noise(48 * MIB);
    let file = stack.dir().join("film.bin");
    std::fs::write(&file, &bytes).unwrap();
    let upload = |key: Option<&str>| {
        let mut command = program("upflow");
        command
            .current_dir(stack.dir())
            .env("UPFLOW_STATE_DIR", stack.dir().join("state"))
            .args(["upload", "--json", "--parallel", "1", "--chunk-size", "1MiB", "--server"])
            .arg(format!("http://127.0.0.1:{port}"))
            .arg(&file);
        if let Some(key) = key {
            command.env("UPFLOW_API_KEY", key);
        }
        command
    };
    let refused = run(&mut upload(None)).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("credentials_missing"), "{refused:?}");
    let first = Running::start(&mut upload(Some(&key)));
    eventually("some chunks are confirmed", || async {
        let list = stack.http().get(format!("http://127.0.0.1:{port}/uploads")).bearer_auth(&key);
        let page: Value = list.send().await.unwrap().json().await.unwrap();
        let count = page["uploads"][0]["uploaded_chunks_count"].as_i64()?;
        (count >= 2).then_some(())
    })
    .await;
    first.kill().await;
    let resumed = run(&mut upload(None)).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.out.contains("resumed"), "{}", resumed.out);
    assert!(!resumed.out.contains("upt1."), "{}", resumed.out);
}
