//! Finds the few routes that may fit a call among thousands.
//!
//! Each route is filed once, under the one thing that it asks for and that the fewest other routes ask for as well.
//! What is found there still has to fit in full.

use std::collections::HashMap;

use super::{Condition, Incoming, Route, numbers::Numbers};

/// Places of routes, ascending.
type Places = Vec<usize>;

#[derive(Default)]
pub(super) struct Index {
    to: Numbers<Places>,
    from: Numbers<Places>,
    /// By name, then by value.
    parameters: HashMap<String, HashMap<String, Places>>,
    /// Routes that ask for nothing.
    all: Places,
}

/// How many routes ask for each thing.
#[derive(Default)]
struct Popularity<'a> {
    to: Numbers<usize>,
    from: Numbers<usize>,
    parameters: HashMap<(&'a str, &'a str), usize>,
}

/// One of the things that a route asks for.
#[derive(Clone, Copy)]
enum Ask<'a> {
    To(&'a Numbers<()>),
    From(&'a Numbers<()>),
    Parameter(&'a Condition),
}

impl Index {
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut popularity = Popularity::default();
        for ask in routes.iter().flat_map(asks) {
            popularity.add(ask);
        }
        let mut index = Self::default();
        for (at, route) in routes.iter().enumerate() {
            match asks(route).min_by_key(|ask| popularity.of(*ask)) {
                None => index.all.push(at),
                Some(Ask::To(numbers)) => file(&mut index.to, numbers, at),
                Some(Ask::From(numbers)) => file(&mut index.from, numbers, at),
                Some(Ask::Parameter(Condition { name, is })) => {
                    let values = index.parameters.entry(name.clone()).or_default();
                    for value in is {
                        values.entry(value.clone()).or_default().push(at);
                    }
                }
            }
        }
        index
    }

    /// Calls `take` with each list of routes that may fit.
    pub(super) fn each_list(&self, incoming: &Incoming<'_>, take: impl FnMut(&[usize])) {
        let by_parameter = self.parameters.iter().filter_map(|(name, values)| values.get((incoming.parameter)(name)?));
        self.to
            .fitting(incoming.to)
            .chain(self.from.fitting(incoming.from))
            .chain(by_parameter)
            .chain([&self.all])
            .map(Vec::as_slice)
            .for_each(take);
    }
}

impl<'a> Popularity<'a> {
    fn add(&mut self, ask: Ask<'a>) {
        match ask {
            Ask::To(numbers) => numbers.patterns().for_each(|pattern| *self.to.entry(pattern) += 1),
            Ask::From(numbers) => numbers.patterns().for_each(|pattern| *self.from.entry(pattern) += 1),
            Ask::Parameter(Condition { name, is }) => {
                for value in is {
                    *self.parameters.entry((name, value)).or_default() += 1;
                }
            }
        }
    }

    /// The most routes that a call could find in one place if a route were filed under `ask`.
    fn of(&mut self, ask: Ask<'a>) -> usize {
        match ask {
            Ask::To(numbers) => numbers.patterns().map(|pattern| *self.to.entry(pattern)).max(),
            Ask::From(numbers) => numbers.patterns().map(|pattern| *self.from.entry(pattern)).max(),
            Ask::Parameter(Condition { name, is }) => {
                is.iter().filter_map(|value| self.parameters.get(&(name.as_str(), value.as_str())).copied()).max()
            }
        }
        .unwrap_or_default()
    }
}

fn asks(route: &Route) -> impl Iterator<Item = Ask<'_>> {
    let numbers = [route.to.as_ref().map(Ask::To), route.from.as_ref().map(Ask::From)];
    numbers.into_iter().flatten().chain(route.conditions.iter().map(Ask::Parameter))
}

fn file(places: &mut Numbers<Places>, numbers: &Numbers<()>, at: usize) {
    for pattern in numbers.patterns() {
        places.entry(pattern).push(at);
    }
}
