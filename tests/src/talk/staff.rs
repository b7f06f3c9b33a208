//! Agents of an agents file, as the worker makes them at its start.

use audio_worker::{
    agent::{
        Agents,
        survey::{results::Results, sending},
    },
    agents_file::{self, Defaults, Provider, Secrets},
    provider::http::Client,
};
use telemetry::Sensitive;
use tokio::runtime::Handle;
use url::Url;

/// Nothing is secret.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn variable(&self, _: &str) -> Option<Sensitive<String>> {
        None
    }

    fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
        Err(format!("{path} is not read here"))
    }
}

/// The agents of `file`, with all stages at `base` where the file says nothing else. Panics on a mistake in the file.
pub fn staff(file: &str, base: &Url) -> Agents {
    employ(file, base, None)
}

/// The same, with this key for whoever is at `base`.
pub fn staff_with_key(file: &str, base: &Url, key: &str) -> Agents {
    employ(file, base, Some(Sensitive::new(key.to_owned())))
}

fn employ(file: &str, base: &Url, key: Option<Sensitive<String>>) -> Agents {
    let mut defaults = Defaults { language: "en-US".to_owned(), url: base.clone(), ..Defaults::default() };
    if let Some(key) = key {
        defaults = defaults.with_key(Provider::OpenAi, key);
    }
    let agents = agents_file::parse(file, &defaults, &NoSecrets);
    let agents = agents.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let client = Client::new(Handle::current()).expect("a client");
    Agents::of_file(&agents, &client, &Results::start(sending::by(client.clone())))
}
