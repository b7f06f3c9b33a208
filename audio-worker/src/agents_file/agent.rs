//! One agent of an agents file: its kind, and what all have that talk.

use super::{
    phrases,
    reader::{Reader, Section},
    realtime, remote,
    settings::{AgentSettings, Defaults, Kind, PipelineSettings, Talk, ms},
    stage, survey, tools, voice,
};
use crate::{agent::text::Text, turn_taking};

/// Longest text that is spoken, in characters: what voices take in one go.
pub(super) const MAX_SPOKEN_CHARS: usize = 4000;

/// Longest instructions, in characters.
pub(super) const MAX_INSTRUCTIONS_CHARS: usize = 32_000;

/// Most prompts to a caller who is silent.
pub(super) const MAX_SILENCE_PROMPTS: usize = 10;

/// Keys of every agent, of those that talk, and of each kind.
const EVERY: &[&str] = &["kind", "language"];
const TALK: &[&str] = &[
    "greeting",
    "greeting_protected",
    "apology",
    "silence_prompts",
    "goodbye",
    "give_up",
    "max_faults",
    "turn",
    "speech_to_text",
    "text_to_speech",
];
const PIPELINE: &[&str] = &["instructions", "max_history", "chat", "tools", "transfer_to"];

pub(super) const TURN: &[&str] = &[
    "min_speech_ms",
    "guess_silence_ms",
    "endpoint_silence_ms",
    "max_utterance_ms",
    "interruptible",
    "barge_in_ms",
    "false_interruption_ms",
    "fillers",
    "silence_prompt_ms",
];

/// Keys that the defaults may have.
pub(super) fn default_keys() -> Vec<&'static str> {
    [EVERY, TALK, PIPELINE, survey::KEYS, realtime::KEYS, remote::KEYS].concat()
}

#[derive(Clone, Copy)]
enum Word {
    Echo,
    Survey,
    Pipeline,
    Realtime,
    Remote,
}

/// Reads an agent; `None` when it is too wrong to go on.
pub(super) fn agent(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    defaults: &Defaults,
) -> Option<AgentSettings> {
    if section.get("kind").is_none() {
        let kinds = "needs a kind: \"echo\", \"survey\", \"pipeline\", \"realtime\" or \"remote\"";
        reader.mistake(section.place.clone(), kinds);
        return None;
    }
    let kinds = [
        ("echo", Word::Echo),
        ("survey", Word::Survey),
        ("pipeline", Word::Pipeline),
        ("realtime", Word::Realtime),
        ("remote", Word::Remote),
    ];
    let word = reader.one_of(section, "kind", &kinds)?;
    let known = match word {
        Word::Echo => EVERY.to_vec(),
        Word::Survey => [EVERY, TALK, survey::KEYS].concat(),
        Word::Pipeline => [EVERY, TALK, PIPELINE].concat(),
        Word::Realtime => [EVERY, realtime::KEYS].concat(),
        Word::Remote => [EVERY, remote::KEYS].concat(),
    };
    reader.check_own_keys(section, &known, &default_keys());
    let language = language(reader, section, defaults);
    let kind = match word {
        Word::Echo => Kind::Echo,
        Word::Survey => {
            let talk = talk(reader, section, &language, defaults);
            let survey = survey::survey(reader, section, phrases::of(&language));
            let (talk, survey) = talk.zip(survey)?;
            Kind::Survey(Box::new(survey.settings(talk)))
        }
        Word::Remote => Kind::Remote(Box::new(remote::remote(reader, section, defaults)?)),
        Word::Pipeline => {
            let talk = talk(reader, section, &language, defaults);
            let chat = stage::chat(reader, section, defaults);
            let instructions = reader.text(section, "instructions", MAX_INSTRUCTIONS_CHARS, true);
            if section.get("instructions").is_none() {
                reader.mistake(section.place.clone(), "needs instructions: what the model is told to be");
            }
            let max_history = reader.whole(section, "max_history", 2..=1000).unwrap_or(100);
            let tools = tools::tools(reader, section);
            let (talk, chat) = talk.zip(chat)?;
            let max_history = usize::try_from(max_history).unwrap_or(usize::MAX);
            Kind::Pipeline(Box::new(PipelineSettings { talk, instructions: instructions?, max_history, chat, tools }))
        }
        Word::Realtime => Kind::Realtime(Box::new(realtime::realtime(reader, section, &language, defaults)?)),
    };
    Some(AgentSettings { name: name.to_owned(), language, kind })
}

fn language(reader: &mut Reader<'_>, section: &Section<'_>, defaults: &Defaults) -> String {
    let Some(value) = section.get("language") else { return defaults.language.clone() };
    let tag = value.get_ref().as_str().unwrap_or_default();
    if !telemetry::language::is_tag(tag) {
        reader.mistake(value.span(), "language must be a BCP 47 tag in quotes, such as \"en-US\" or \"ja\"");
    }
    tag.to_owned()
}

fn talk(reader: &mut Reader<'_>, section: &Section<'_>, language: &str, defaults: &Defaults) -> Option<Talk> {
    let own = phrases::of(language);
    let mut spoken = |key: &str, usual: &str| {
        reader.text(section, key, MAX_SPOKEN_CHARS, false).unwrap_or_else(|| Text::fixed(usual))
    };
    let greeting = spoken("greeting", "");
    let apology = spoken("apology", own.apology);
    let goodbye = spoken("goodbye", own.goodbye);
    let give_up = spoken("give_up", own.give_up);
    let prompts = reader.list(section, "silence_prompts", MAX_SILENCE_PROMPTS).map(|list| {
        let texts = list.into_iter();
        texts.filter_map(|value| reader.text_of(value, "silence_prompts", MAX_SPOKEN_CHARS, false)).collect()
    });
    let greeting_protected = reader.flag(section, "greeting_protected").unwrap_or(false);
    let max_faults = reader.whole(section, "max_faults", 1..=20).unwrap_or(3);
    let turn = turn(reader, section);
    let speech_to_text = stage::speech_to_text(reader, section, defaults);
    let text_to_speech = voice::text_to_speech(reader, section, defaults);
    let (speech_to_text, text_to_speech) = speech_to_text.zip(text_to_speech)?;
    Some(Talk {
        greeting,
        greeting_protected,
        apology,
        silence_prompts: prompts.unwrap_or_else(|| vec![Text::fixed(own.still_there); 2]),
        goodbye,
        give_up,
        max_faults: u32::try_from(max_faults).unwrap_or(u32::MAX),
        turn,
        speech_to_text,
        text_to_speech,
    })
}

pub(super) fn turn(reader: &mut Reader<'_>, agent: &Section<'_>) -> turn_taking::Settings {
    let section = reader.table(agent, "turn", TURN);
    let usual = turn_taking::Settings::default();
    let turn = turn_taking::Settings {
        min_speech: reader.millis(&section, "min_speech_ms", 20..=1000).unwrap_or(usual.min_speech),
        guess_silence: reader.millis(&section, "guess_silence_ms", 20..=5000).unwrap_or(usual.guess_silence),
        endpoint_silence: reader.millis(&section, "endpoint_silence_ms", 100..=5000).unwrap_or(usual.endpoint_silence),
        max_utterance: reader.millis(&section, "max_utterance_ms", 1000..=120_000).unwrap_or(usual.max_utterance),
        interruptible: reader.flag(&section, "interruptible").unwrap_or(usual.interruptible),
        barge_in: reader.millis(&section, "barge_in_ms", 20..=2000).unwrap_or(usual.barge_in),
        false_interruption: reader
            .millis(&section, "false_interruption_ms", 200..=10_000)
            .unwrap_or(usual.false_interruption),
        fillers: reader.words(&section, "fillers").unwrap_or(usual.fillers),
        silence_prompt: reader.millis(&section, "silence_prompt_ms", 1000..=600_000).unwrap_or(usual.silence_prompt),
    };
    let pairs = [
        ("guess_silence_ms", turn.guess_silence, "endpoint_silence_ms", turn.endpoint_silence),
        ("barge_in_ms", turn.barge_in, "false_interruption_ms", turn.false_interruption),
        ("min_speech_ms", turn.min_speech, "max_utterance_ms", turn.max_utterance),
    ];
    for (shorter, short, longer, long) in pairs {
        if short > long {
            let place = section.get(shorter).or_else(|| section.get(longer));
            let place = place.map_or_else(|| section.place.clone(), |value| value.span());
            reader.mistake(
                place,
                format!("{shorter} is {} and must be at most {longer}, which is {}", ms(short), ms(long)),
            );
        }
    }
    turn
}
