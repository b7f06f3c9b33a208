//! Who takes a call: routes by called number, caller and webhook parameter. The first route that fits decides.
//!
//! Pure: text goes in, an agent, a language and parameters come out. `routes/file.rs` reads the text, `routes/index.rs`
//! finds a route among thousands; the file itself is opened by `route_table.rs`.

use std::fmt;

use telemetry::mistakes::Mistakes;

mod file;
mod index;
mod numbers;

use index::Index;
use numbers::Numbers;

/// Most routes in a file.
pub const MAX_ROUTES: usize = 10_000;

/// Most parameters that a route gives its calls, forwarded ones included: as many as the contract with the workers has
/// room for (`Open.parameters`).
pub const MAX_PARAMETERS: usize = 32;

/// Names of the stream's `<Parameter>`s that the gateway itself uses; no route may.
pub const RESERVED_NAMES: [&str; 7] =
    [crate::ticket::PARAMETER, "from", "to", DIRECTION, AGENT, LANGUAGE, telemetry::traces::TRACEPARENT];

/// Name of the `<Parameter>` that tells who dialled.
pub const DIRECTION: &str = "direction";

/// Name of the `<Parameter>` that carries the agent.
pub const AGENT: &str = "agent";

/// Name of the `<Parameter>` that carries the language.
pub const LANGUAGE: &str = "language";

/// All routes, in the order of the file.
#[derive(Default)]
pub struct Routes {
    routes: Vec<Route>,
    index: Index,
}

/// A call that comes in, as Twilio tells it.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The called number.
    pub to: &'a str,
    /// The caller's number, or what the network gave instead.
    pub from: &'a str,
    /// A field of the webhook by its name.
    pub parameter: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// What the routes say about a call.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Choice<'a> {
    /// Place of the route in the file, counted from 1; `None` when no route fits.
    pub route: Option<usize>,
    /// The agent; `None` for the default one.
    pub agent: Option<&'a str>,
    /// A BCP 47 tag; `None` for the agent's own.
    pub language: Option<&'a str>,
    /// Names and values for the agent: the route's own, then what it forwards of the webhook.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// One route: all that it asks for must hold.
#[derive(Default)]
struct Route {
    to: Option<Numbers<()>>,
    from: Option<Numbers<()>>,
    conditions: Vec<Condition>,
    agent: Option<String>,
    language: Option<String>,
    parameters: Vec<(String, String)>,
    /// Names of webhook fields.
    forward: Vec<String>,
}

/// A webhook parameter has one of these values.
struct Condition {
    name: String,
    is: Vec<String>,
}

impl Routes {
    /// Reads a routes file.
    ///
    /// # Errors
    /// Every mistake (up to a bound) with its line, its route and its cure; none quotes the file, which holds numbers.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let routes = file::read(text)?;
        let index = Index::new(&routes);
        Ok(Self { routes, index })
    }

    /// The first route that fits.
    pub fn choose<'a, 'i: 'a>(&'a self, incoming: &Incoming<'i>) -> Choice<'a> {
        let (Some(at), _) = self.find(incoming) else { return Choice::default() };
        let Some(route) = self.routes.get(at) else { return Choice::default() };
        let own = route.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let forwarded = route.forward.iter().filter_map(|name| Some((name.as_str(), (incoming.parameter)(name)?)));
        Choice {
            route: Some(at + 1),
            agent: route.agent.as_deref(),
            language: route.language.as_deref(),
            parameters: own.chain(forwarded).collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The first route that fits, and how many were looked at.
    fn find(&self, incoming: &Incoming<'_>) -> (Option<usize>, usize) {
        let (mut first, mut looked_at) = (None, 0);
        self.index.each_list(incoming, |candidates| {
            for &at in candidates {
                if first.is_some_and(|first| first <= at) {
                    break;
                }
                looked_at += 1;
                if self.routes.get(at).is_some_and(|route| route.fits(incoming)) {
                    first = Some(at);
                    break;
                }
            }
        });
        (first, looked_at)
    }
}

impl Route {
    fn fits(&self, incoming: &Incoming<'_>) -> bool {
        let has = |numbers: &Option<Numbers<()>>, number| {
            numbers.as_ref().is_none_or(|numbers| numbers.fitting(number).next().is_some())
        };
        has(&self.to, incoming.to)
            && has(&self.from, incoming.from)
            && self.conditions.iter().all(|Condition { name, is }| {
                (incoming.parameter)(name).is_some_and(|value| is.iter().any(|wanted| wanted == value))
            })
    }

    /// True when it asks for nothing, and so takes every call.
    const fn fits_all(&self) -> bool {
        self.to.is_none() && self.from.is_none() && self.conditions.is_empty()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").field("route", &self.route).field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
