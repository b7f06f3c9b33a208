//! Orders from outside the call: read, carried out at once, each answered once. None waits for audio or for an agent.

use std::future::poll_fn;

use futures_util::FutureExt;
use proto::v1::{self, instruct::Instruction};

use super::{Conversation, ConversationError, now};
use crate::{
    agent::{Heard, NotHired, Opening, Roster},
    dsp::dtmf::Keys,
    provider::meter::Costs,
    status::printable,
    turn::{Input, Outcome},
};

/// Longest text of `Say`, in characters.
const MAX_TEXT: usize = 4000;

/// Longest explanation, in characters.
const MAX_DETAIL: usize = 200;

/// Acts of the agent that are taken before an order, if it has them ready.
const ACTS_BEFORE: usize = 16;

/// What it takes to give the call to another agent.
#[derive(Debug)]
pub(crate) struct Staff {
    agents: Roster,
    opening: Opening,
    /// Who has the call now.
    agent: String,
}

impl Staff {
    /// A call that `agent` of `agents` has, which began with `opening`.
    pub(crate) fn new(agents: Roster, opening: Opening, agent: String) -> Self {
        Self { agents, opening, agent }
    }
}

impl Staff {
    /// Who has the call.
    pub(crate) fn agent(&self) -> &str {
        &self.agent
    }

    /// What providers cost so far, whoever had the call.
    pub(crate) fn costs(&self) -> Costs {
        self.opening.meter.costs()
    }

    /// The language that the call was opened with.
    pub(crate) fn language(&self) -> &str {
        &self.opening.language
    }
}

impl Conversation {
    pub(super) fn on_instruct(
        &mut self,
        v1::Instruct { id, instruction }: v1::Instruct,
    ) -> Result<(), ConversationError> {
        self.catch_up()?;
        let was_held = self.turn.is_held();
        let carried_out = match (self.turn.refuses_orders(), instruction) {
            (Some(detail), _) => Err((Outcome::Unsupported, detail.to_owned())),
            (None, Some(Instruction::Say(v1::Say { text }))) => self.say(id, &text),
            (None, Some(Instruction::PlayDigits(v1::PlayDigits { digits }))) => match Keys::parse(&digits) {
                Ok(keys) => Ok(Input::PlayDigits { id, keys }),
                Err(error) => Err((Outcome::Invalid, error.to_string())),
            },
            (None, Some(Instruction::ChangeAgent(v1::ChangeAgent { agent }))) => self.change_agent(id, agent),
            (None, Some(Instruction::Hold(v1::Hold {}))) => Ok(Input::Hold { id }),
            (None, Some(Instruction::Resume(v1::Resume {}))) => Ok(Input::Resume { id }),
            // A newer gateway orders something that this worker does not know.
            (None, None) => Err((Outcome::Unsupported, "this worker does not know the order".to_owned())),
        };
        let input = carried_out.unwrap_or_else(|(outcome, detail)| Input::Answer { id, outcome, detail });
        self.turn.handle(input, now());
        match (was_held, self.turn.is_held()) {
            (false, true) => self.on_held(),
            (true, false) => self.on_resumed(),
            (false, false) | (true, true) => {}
        }
        Ok(())
    }

    /// Takes what the agent has ready, so that the answer to what it was told before the order comes before the order.
    fn catch_up(&mut self) -> Result<(), ConversationError> {
        for _ in 0..ACTS_BEFORE {
            if self.turn.is_held() {
                break;
            }
            // Whoever runs the conversation asks again, so that this waker need not wake.
            let Some(act) = poll_fn(|cx| self.agent.poll_act(cx, &mut self.pcm)).now_or_never() else { break };
            self.on_act(act)?;
        }
        Ok(())
    }

    fn say(&mut self, id: u64, text: &str) -> Result<Input<'static>, (Outcome, String)> {
        let length = text.chars().count();
        let wrong = if length == 0 {
            Some("text: is empty".to_owned())
        } else if length > MAX_TEXT {
            Some(format!("text: {length} characters are too many; at most {MAX_TEXT} are said in one go"))
        } else if text.chars().any(char::is_control) {
            Some("text: must not have control characters, line breaks and tabs among them".to_owned())
        } else {
            None
        };
        if let Some(detail) = wrong {
            return Err((Outcome::Invalid, detail));
        }
        if self.turn.is_held() {
            // Taken now, it would be said out of the blue when the agent goes on.
            return Err((Outcome::Unsupported, "the agent is on hold; resume it first".to_owned()));
        }
        self.agent.say(text).map_err(|error| (Outcome::Unsupported, error.to_string()))?;
        Ok(Input::Answer { id, outcome: Outcome::Done, detail: String::new() })
    }

    fn change_agent(&mut self, id: u64, name: String) -> Result<Input<'static>, (Outcome, String)> {
        if name.is_empty() {
            return Err((Outcome::Invalid, "agent: is empty; name the agent that is to take over".to_owned()));
        }
        let former = self.staff.opening.taken_over_from.replace(self.staff.agent.clone());
        let agent = match self.staff.agents.current().hire(&name, &self.staff.opening) {
            Ok(agent) => agent,
            Err(error) => {
                self.staff.opening.taken_over_from = former;
                let (outcome, detail) = match error {
                    NotHired::Unknown(known) => {
                        let name = printable(&name);
                        (Outcome::UnknownAgent, format!("no agent {name:?}; this worker has: {known}"))
                    }
                    NotHired::Failed(why) => (Outcome::Unsupported, why),
                };
                return Err((outcome, detail.chars().take(MAX_DETAIL).collect()));
            }
        };
        let call_id = printable(&self.staff.opening.call_id);
        tracing::info!(call_id, from = self.staff.agent, to = name, "another agent takes the call over");
        self.staff.agent = name;
        self.tell_rest();
        self.news.dismiss(self.agent.stats());
        self.agent = agent;
        self.downlink.reset();
        // What its predecessor missed is no gap to it.
        self.missed_samples = 0;
        if self.turn.is_held() {
            self.agent.hear(Heard::Held(true));
        }
        Ok(Input::TakenOver { id })
    }

    fn on_held(&mut self) {
        self.downlink.reset();
        self.agent.hear(Heard::Held(true));
    }

    fn on_resumed(&mut self) {
        self.agent.hear(Heard::Held(false));
        let gap_ms = std::mem::take(&mut self.missed_samples) / 8;
        if gap_ms > 0 {
            self.agent.hear(Heard::Gap(gap_ms));
        }
    }
}
