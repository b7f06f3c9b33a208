//! Published descriptions, which are not part of this repository: `TANDEM_SPECS` names the folder that they are in.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Once,
};

use serde_json::Value;

/// A document in JSON, or none after a loud word about `what` was not held against it.
#[expect(clippy::disallowed_methods, reason = "a test finds its material through the environment")]
pub(crate) fn document(file: &str, what: &str) -> Option<Value> {
    let beside = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/specs"));
    let folder = std::env::var("TANDEM_SPECS").map_or_else(|_| beside.to_owned(), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
        // A test program asks for one document.
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let why = format!("{what} not held against {file}: TANDEM_SPECS names its folder");
            tell(&why, std::env::var("TANDEM_SKIPS").ok());
        });
        return None;
    };
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// Past the test runner, which would keep it to itself, and into the list of what was skipped.
fn tell(why: &str, list: Option<String>) {
    io::stderr().write_all(format!("\n*** SKIP: {why} ***\n\n").as_bytes()).unwrap();
    if let Some(list) = list {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{why}").unwrap();
    }
}
