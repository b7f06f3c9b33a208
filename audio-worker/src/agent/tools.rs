//! Functions that a model may call: what it is told of them, and what comes of a call. Whoever has the model has one
//! [`Toolbox`] per agent and an [`About`] per call.

use std::{collections::BTreeMap, fmt, pin::Pin};

use telemetry::Sensitive;

use super::{Opening, Verdict};
use crate::provider::ToolSpec;

/// The tools of one agent, shared by its calls.
#[derive(Debug, Default)]
pub struct Toolbox {
    specs: Vec<ToolSpec>,
}

impl Toolbox {
    /// What the model is told of them.
    pub fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    /// True for a tool that only looks things up: it may be called for an answer that is thrown away.
    pub fn is_safe(&self, _name: &str) -> bool {
        false
    }

    /// Calls the tool `name` with `arguments`, which are JSON as the model wrote it. Nothing is done before the outcome is
    /// polled for the first time.
    pub fn call(&self, _name: &str, _arguments: &str, _about: &About) -> Called {
        let told = failure("there is no such tool");
        Called { filler: None, outcome: Box::pin(async { Outcome::Fail(Verdict::Invalid, told) }) }
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
    pub outcome: Pin<Box<dyn Future<Output = Outcome> + Send>>,
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
