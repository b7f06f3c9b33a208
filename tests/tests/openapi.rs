//! The description of the calls API against the API itself: every operation is there, answers as described, and every
//! code that a problem can have is listed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use tests::{
    calls_api::{Answer, ApiClient},
    line::Line,
    stack::{Stack, StackPlan},
};

const TOKEN: &str = "token-of-the-openapi-test";
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[tokio::test]
async fn every_operation_answers_as_it_is_described() {
    let plan = StackPlan::default().gateway("API_TOKENS", TOKEN).gateway("API_REQUESTS_PER_SECOND", "1000");
    let stack = Stack::start(plan.gateway("OUTBOUND_ALLOW", "+1555").gateway("BROWSER_CALLS", "on")).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    let document = api.get("/v1/openapi.json").await.json;
    assert_eq!(document["openapi"], "3.1.0");
    let mut line = Line::dial(&stack.call_plan()).await;
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            operations += 1;
            let operation = &item[*method];
            let target = path.replace("{id}", line.call_sid());
            let bodies = match operation.get("requestBody") {
                Some(_) => vec![json!({}), json!({"hold": true}), json!({"to": "+15550100123"}), json!([1])],
                None => vec![Value::Null],
            };
            let stranger = ApiClient { token: String::new(), ..api.clone() };
            for body in bodies {
                let body = (!body.is_null()).then(|| body.to_string());
                for client in [&stranger, &api] {
                    let answer = client.ask(&method.to_uppercase(), &target, &[], body.clone()).await;
                    assert_described(operation, &answer, &format!("{method} {path} {body:?}"));
                }
            }
        }
        let other = METHODS.iter().find(|method| item.get(**method).is_none()).unwrap();
        let refused = api.ask(&other.to_uppercase(), &path.replace("{id}", "CA1"), &[], None).await;
        refused.assert_problem(405, "method_not_allowed");
        let allowed: BTreeSet<_> = refused.headers["allow"].to_str().unwrap().split(", ").collect();
        let described =
            METHODS.iter().filter(|method| item.get(**method).is_some()).map(|method| method.to_uppercase());
        assert_eq!(allowed, described.collect::<Vec<_>>().iter().map(String::as_str).collect(), "{path}");
    }
    assert_eq!(operations, 10);
    line.close_code().await;
    stack.stop().await;
}

#[tokio::test]
async fn what_is_no_request_of_the_api_is_told_what_is_wrong() {
    let plan = StackPlan::default().gateway("API_TOKENS", TOKEN).gateway("OUTBOUND_ALLOW", "+1555");
    let stack = Stack::start(plan).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    let large = "x".repeat(200 << 10);
    api.post("/v1/calls", &json!({"to": large})).await.assert_problem(413, "too_large");
    api.patch("/v1/calls/CA1", &json!({"say": large})).await.assert_problem(413, "too_large");
    let plain = [("content-type", "text/plain")];
    let body = || Some(json!({"to": "+15550100123"}).to_string());
    api.ask("POST", "/v1/calls", &plain, body()).await.assert_problem(415, "media_type");
    for key in ["", "a b", "\u{fc}"] {
        let refused = api.ask("POST", "/v1/calls", &[("idempotency-key", key)], body()).await;
        refused.assert_problem(400, "field_invalid");
    }
    for (method, path, allowed) in [
        ("GET", "/voice/incoming", "POST"),
        ("PUT", "/voice/status/call_1", "POST"),
        ("POST", "/ws/twilio/1", "GET"),
        ("TRACE", "/v1/calls/CA1", "GET, PATCH, DELETE"),
        ("PATCH", "/v1/calls/", "GET, POST"),
    ] {
        let refused = api.ask(method, path, &[], None).await;
        refused.assert_problem(405, "method_not_allowed");
        assert_eq!(refused.headers["allow"], allowed, "{path}");
        assert!(refused.text("detail").contains(allowed), "{}", refused.json);
    }
    for (method, path) in [("GET", "/"), ("POST", "/v1"), ("GET", "/v1/calls/CA1/x"), ("PUT", "/v1//calls")] {
        api.ask(method, path, &[], None).await.assert_problem(404, "not_found");
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_call_has_every_field_that_is_described_and_no_other() {
    let stack = Stack::start(StackPlan::default().gateway("API_TOKENS", TOKEN)).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    let document = api.get("/v1/openapi.json").await.json;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    let call = api.get(&format!("/v1/calls/{}", line.call_sid())).await.json;
    let schema = &document["components"]["schemas"]["Call"];
    assert_eq!(names(&call), names(&schema["properties"]));
    assert_eq!(names(&call["counters"]), names(&schema["properties"]["counters"]["properties"]));
    for (field, words) in [("status", &call["status"]), ("stream", &call["stream"]), ("direction", &call["direction"])]
    {
        assert!(schema["properties"][field]["enum"].as_array().unwrap().contains(words), "{field}: {words}");
    }
    line.hang_up().await;
    stack.stop().await;
}

#[test]
fn every_code_of_a_problem_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = fs::read_to_string(root.join("gateway/src/problem.rs")).unwrap();
    let document: Value =
        serde_json::from_str(&fs::read_to_string(root.join("gateway/openapi.json")).unwrap()).unwrap();
    let listed = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|code| code.as_str().unwrap()).collect();
    let is_code = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let arms = source.lines().filter(|line| line.contains("=> (StatusCode::") || line.contains("=> \""));
    let used: BTreeSet<_> = arms.filter_map(|line| line.rsplit('"').nth(1)).filter(is_code).collect();
    assert_eq!(used, listed);
}

fn assert_described(operation: &Value, answer: &Answer, what: &str) {
    let described = &operation["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{what}: {} is not described: {}", answer.status, answer.json);
    let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
    let kinds = described.get("content").map(names).unwrap_or_default();
    assert_eq!(kinds.first().map(String::as_str), kind, "{what}: {}", answer.json);
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}
