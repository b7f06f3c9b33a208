//! The page itself: five files in the binary, and the headers that keep everything else out of it.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use warp::reply::Response;

use crate::config::Config;

struct File {
    /// Below `/call/`; empty for the page.
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const FILES: [File; 5] = [
    File { name: "", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    File { name: "app.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/app.js") },
    File { name: "view.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/view.js") },
    File { name: "worklet.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/worklet.js") },
    File { name: "style.css", kind: "text/css; charset=utf-8", text: include_str!("page/style.css") },
];

/// Of all files, since one without the other is of no use.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for file in &FILES {
        digest.update(file.text);
    }
    let tag: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{tag}\"")
});

/// True for the names below `/call/` that are there.
pub(crate) fn has_file(name: &str) -> bool {
    !name.is_empty() && FILES.iter().any(|file| file.name == name)
}

/// One of the files, or 304 for who has it already.
pub(crate) fn file(name: &str, config: &Config, asked: &HeaderMap) -> Option<Response> {
    let file = FILES.iter().find(|file| file.name == name)?;
    let is_known = asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == TAG.as_bytes());
    let mut response = Response::new(if is_known { "" } else { file.text }.into());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        // Asked for anew each time, and sent only when it has changed: an upgrade is seen at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("permissions-policy", "microphone=(self), camera=(), geolocation=()"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ETAG, HeaderValue::from_str(&TAG).ok()?);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy(config)).ok()?);
    Some(response)
}

/// Only our own files, and connections to ourselves: nothing inline, nothing from elsewhere, in nobody's frame. Some
/// browsers do not take `'self'` for a WebSocket, so that its origin is there as well.
fn policy(config: &Config) -> String {
    let socket = config.origin.websocket("");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; connect-src 'self' {socket}; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_inline_and_nothing_foreign() {
        for File { name, text, .. } in FILES {
            for foreign in ["http://", "https://", "//cdn", "innerHTML", "eval(", "javascript:", "style="] {
                assert!(!text.contains(foreign), "{name}: {foreign}");
            }
        }
        let page = FILES[0].text;
        let is_outside = |tag: &str| tag.contains("src=\"/call/");
        assert!(page.split("<script").skip(1).all(is_outside) && !page.contains("<style"));
        let is_handler =
            |rest: &str| rest.split('=').next().is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase()));
        assert!(!page.split(" on").skip(1).any(is_handler), "a handler in an attribute");
    }

    #[test]
    fn the_page_takes_as_many_parameters_as_the_api() {
        use crate::{routes::MAX_PARAMETERS, twilio::twiml::PARAMETER_CHARS};

        // Each with its equals sign and the end of its line.
        let most = MAX_PARAMETERS * (PARAMETER_CHARS + 2);
        assert!(FILES[0].text.contains(&format!(
            "<textarea id=\"parameters\" rows=\"2\" spellcheck=\"false\" autocapitalize=\"none\" maxlength=\"{most}\""
        )));
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        for text in FILES.map(|file| file.text) {
            for named in text.split("\"/call/").skip(1) {
                let name = named.split('"').next().unwrap();
                assert!(has_file(name), "{name}");
            }
        }
        assert!(!has_file("") && !has_file("index.html"));
    }
}
