//! Functions that a model may call: what it is told of them, and what comes of a call. Whoever has the model has one
//! [`Toolbox`] per agent and an [`About`] per call.

use std::{collections::BTreeMap, fmt, pin::Pin};

use serde_json::{Map, Value};
use telemetry::Sensitive;

use super::{Opening, Verdict};
use crate::{
    agents_file::ToolSettings,
    provider::{ToolSpec, http::Client},
};

pub(crate) mod address;
mod built_in;
pub mod function;
pub(crate) mod schema;

/// The tools of one agent, shared by its calls.
#[derive(Debug, Default)]
pub struct Toolbox {
    specs: Vec<ToolSpec>,
    /// In the order of their specs.
    tools: Vec<Box<dyn Tool>>,
}

/// A tool at work; see [`Called::outcome`].
pub type Working = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A function that a model may call.
pub trait Tool: fmt::Debug + Send + Sync {
    /// What the model is told of it. Its arguments are held against the schema before it is called.
    fn spec(&self) -> ToolSpec;

    /// True when it only looks things up: it may be called for an answer that is thrown away.
    fn is_safe(&self) -> bool {
        false
    }

    /// What to say while it works.
    fn filler(&self, _about: &About) -> Option<String> {
        None
    }

    /// Calls it. Nothing is done before the first poll.
    fn call(&self, arguments: Map<String, Value>, about: &About) -> Working;
}

impl Toolbox {
    /// The tools of an agents file; functions are asked through `client`.
    pub fn of_file(settings: &[ToolSettings], client: &Client) -> Self {
        let tools = settings.iter().map(|settings| -> Box<dyn Tool> {
            match settings {
                ToolSettings::HangUp => Box::new(built_in::HangUp),
                ToolSettings::SendDigits => Box::new(built_in::SendDigits),
                ToolSettings::Transfer(to) => Box::new(built_in::Transfer(to.clone())),
                ToolSettings::Function(function) => {
                    Box::new(function::Asking { function: (**function).clone(), client: client.clone() })
                }
            }
        });
        Self::new(tools.collect())
    }

    /// These tools; each has a name of its own.
    pub fn new(tools: Vec<Box<dyn Tool>>) -> Self {
        Self { specs: tools.iter().map(|tool| tool.spec()).collect(), tools }
    }

    /// What the model is told of them.
    pub fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    /// True for a tool that only looks things up: it may be called for an answer that is thrown away. One that there is
    /// not does nothing either.
    pub fn is_safe(&self, name: &str) -> bool {
        self.find(name).is_none_or(|(_, tool)| tool.is_safe())
    }

    /// True when there is such a tool.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Calls the tool `name` with `arguments`, which are JSON as the model wrote it. Nothing is done before the outcome is
    /// polled for the first time.
    pub fn call(&self, name: &str, arguments: &str, about: &About) -> Called {
        let Some((spec, tool)) = self.find(name) else {
            return Called::failed("there is no such tool");
        };
        match schema::read(&spec.parameters, arguments) {
            Ok(arguments) => Called { filler: tool.filler(about), outcome: tool.call(arguments, about) },
            Err(what) => Called::failed(&what),
        }
    }

    fn find(&self, name: &str) -> Option<(&ToolSpec, &dyn Tool)> {
        let at = self.specs.iter().position(|spec| spec.name == name)?;
        Some((self.specs.get(at)?, self.tools.get(at)?.as_ref()))
    }
}

/// What tools know of the call that they are called in.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The carrier's id of the call.
    pub call_id: String,
    /// Caller.
    pub from: Sensitive<String>,
    /// Called number.
    pub to: Sensitive<String>,
    /// Parameters of the call.
    pub parameters: Sensitive<BTreeMap<String, String>>,
}

impl From<&Opening> for About {
    fn from(opening: &Opening) -> Self {
        let Opening { call_id, from, to, parameters, .. } = opening;
        Self { call_id: call_id.clone(), from: from.clone(), to: to.clone(), parameters: parameters.clone() }
    }
}

/// A tool at work.
pub struct Called {
    /// What to say while it works.
    pub filler: Option<String>,
    /// What comes of it. A tool with side effects goes on when this is dropped, to its limit of time.
    pub outcome: Working,
}

impl Called {
    fn failed(what: &str) -> Self {
        let told = failure(what);
        Self { filler: None, outcome: Box::pin(async { Outcome::Fail(Verdict::Invalid, told) }) }
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Called").field("filler", &self.filler).finish_non_exhaustive()
    }
}

/// What comes of calling a tool. The text is for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has answered.
    Answer(String),
    /// Something is to be done to the call, by whoever has it.
    Do(Deed, String),
    /// It failed; the text says how.
    Fail(Verdict, String),
}

impl Outcome {
    /// What the model is told.
    pub fn told(&self) -> &str {
        match self {
            Self::Answer(told) | Self::Do(_, told) | Self::Fail(_, told) => told,
        }
    }

    /// As it is counted.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Answer(_) | Self::Do(..) => Verdict::Done,
            Self::Fail(verdict, _) => *verdict,
        }
    }
}

/// What a tool has done to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It ends, once all that was said has been heard.
    Hangup {
        /// Why, for logs.
        reason: String,
    },
    /// It goes to another number, once all that was said has been heard.
    Transfer {
        /// The number or `sip:` address.
        to: String,
    },
    /// Keys are played: 1 to 32 of 0-9, *, #, A-D, w and W.
    Digits(String),
}

/// What a model is told of a tool that failed.
fn failure(what: &str) -> String {
    serde_json::json!({ "error": what }).to_string()
}
