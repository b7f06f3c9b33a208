//! The agents file: TOML in, an agent's settings out, every mistake with its line and its cure. Pure.
//!
//! [`parse`] reads it; `agents_file/settings.rs` is what comes out. No mistake quotes more of the file than names of
//! agents: what it says may be personal. Files and variables of keys are opened by whoever asks.

use telemetry::{Sensitive, mistakes::Mistakes};
use toml::de::DeTable;

mod agent;
mod fallback;
mod family;
mod listening;
mod phrases;
mod reader;
mod realtime;
mod remote;
mod settings;
mod stage;
mod survey;
mod tools;
mod voice;

pub use family::provider;
use reader::{Reader, Section};
pub use realtime::RealtimeSettings;
pub use settings::{
    AgentSettings, DefaultKey, Defaults, Fallback, Format, Hearing, InterruptBy, Kind, PipelineSettings, Provider,
    RemoteFormat, RemoteSettings, ResultsSettings, StageSettings, Streaming, SurveySettings, Talk, Thinking,
    ToolSettings, Voice,
};
pub use stage::address;

/// Most agents in a file.
const MAX_AGENTS: usize = 1000;

/// Longest name of an agent, in characters: as long as a route may name.
const MAX_NAME_CHARS: usize = 100;

/// Where the keys are that a file names.
pub trait Secrets {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<Sensitive<String>>;

    /// The content of a file.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the file.
    fn file(&self, path: &str) -> Result<Sensitive<String>, String>;
}

/// Reads an agents file; the agents are sorted by name.
///
/// # Errors
/// Every mistake (up to a bound) with its line, its agent and its cure.
pub fn parse(text: &str, defaults: &Defaults, secrets: &dyn Secrets) -> Result<Vec<AgentSettings>, Mistakes> {
    let mut reader = Reader::new(text, secrets);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.mistake(error.span().unwrap_or_default(), format!("is no TOML: {}", error.message()));
    }
    // What cannot be read is not judged as well.
    let agents = if reader.is_good() { agents(&mut reader, document.get_ref(), defaults) } else { Vec::new() };
    if reader.is_good() { Ok(agents) } else { Err(reader.mistakes()) }
}

fn agents(reader: &mut Reader<'_>, document: &DeTable<'_>, defaults: &Defaults) -> Vec<AgentSettings> {
    reader.check_keys(document, &["defaults", "agent", "tool"], "the file");
    let shared = document.get("defaults").and_then(|value| {
        let table = value.get_ref().as_table();
        match table {
            Some(table) => {
                reader.part = Some("defaults".to_owned());
                reader.mark_defaults(table);
                reader.check_keys(table, &agent::default_keys(), "an agent");
                reader.part = None;
            }
            None => reader.mistake(value.span(), "defaults must be a table that begins with [defaults]"),
        }
        table
    });
    reader.functions = tools::functions(reader, document);
    let Some(value) = document.get("agent") else {
        reader.mistake(0..0, "there is no agent; begin each with [agent.NAME], or leave AGENTS_FILE empty for none");
        return Vec::new();
    };
    let Some(tables) = value.get_ref().as_table().filter(|tables| (1..=MAX_AGENTS).contains(&tables.len())) else {
        reader.mistake(value.span(), format!("begin each agent with [agent.NAME]; there may be 1 to {MAX_AGENTS}"));
        return Vec::new();
    };
    let mut agents = Vec::new();
    for (key, value) in tables.iter() {
        let name = key.get_ref().as_ref();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=MAX_NAME_CHARS).contains(&name.len()) || !name.chars().all(is_name) {
            let what = format!("the name of an agent must be 1 to {MAX_NAME_CHARS} letters, digits and any of ._-");
            reader.mistake(key.span(), what);
            continue;
        }
        reader.part = Some(format!("agent {name}"));
        match value.get_ref().as_table() {
            Some(table) => {
                agents.extend(agent::agent(reader, name, &Section::new(table, shared, key.span()), defaults));
            }
            None => reader.mistake(value.span(), "must be a table that begins with [agent.NAME]"),
        }
    }
    reader.part = None;
    agents
}

#[cfg(test)]
mod tests;
