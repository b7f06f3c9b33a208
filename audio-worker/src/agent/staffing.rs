//! Makes agents of what the agents file says.

use super::{Agents, NotHired, echo::Echo};
use crate::agents_file::{AgentSettings, Kind};

impl Agents {
    /// The agents of a file, and `echo` where the file has none of that name.
    pub fn of_file(agents: &[AgentSettings]) -> Self {
        agents.iter().fold(Self::default(), |staff, AgentSettings { name, kind, .. }| match kind {
            Kind::Echo => staff.with(name, |_| Box::new(Echo::default())),
            Kind::Survey(_) | Kind::Pipeline(_) => {
                staff.with_trial(name, |_| Err(NotHired::Failed("this worker cannot hold a conversation".to_owned())))
            }
        })
    }
}
