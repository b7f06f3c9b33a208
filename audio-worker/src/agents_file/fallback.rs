//! The table `fallback` of a stage: who stands in for its provider, and when. It is a whole stage of its own, of any family.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::{Reader, Section},
    settings::{Fallback, StageSettings},
};

/// Keys that a stage has for it.
const KEYS: [&str; 2] = ["fallback", "fallback_after_ms"];

/// How long a provider may keep silent, and its bounds: with the time that it takes to ask another, a caller waits less
/// than a second longer.
const AFTER: Duration = Duration::from_millis(800);
const AFTER_MS: RangeInclusive<u64> = 50..=10_000;

/// Reads the stage `name`, which has `keys`, and the one that stands in for it; `read` reads either.
pub(super) fn backed<O>(
    reader: &mut Reader<'_>,
    agent: &Section<'_>,
    (name, keys): (&str, &[&str]),
    read: impl Fn(&mut Reader<'_>, Section<'_>) -> Option<StageSettings<O>>,
) -> Option<StageSettings<O>> {
    let section = reader.table(agent, name, &[keys, &KEYS].concat());
    let after = reader.millis(&section, "fallback_after_ms", AFTER_MS).unwrap_or(AFTER);
    let fallback = match section.get("fallback") {
        Some(_) => {
            let second = reader.table(&section, "fallback", keys);
            let stage = read(reader, second);
            stage.map(|stage| Box::new(Fallback { after, stage }))
        }
        None => {
            if let Some(value) = section.own("fallback_after_ms") {
                reader.mistake(value.span(), format!("fallback_after_ms needs a table fallback in {name}"));
            }
            None
        }
    };
    let stage = read(reader, section)?;
    Some(StageSettings { fallback, ..stage })
}
