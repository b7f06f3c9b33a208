//! An agent of the kind `realtime` in an agents file: a model that hears and speaks by itself.

use std::time::Duration;

use telemetry::Sensitive;
use url::Url;

use super::{
    agent::{self, MAX_INSTRUCTIONS_CHARS, MAX_SILENCE_PROMPTS, MAX_SPOKEN_CHARS},
    phrases,
    reader::{Reader, Section},
    settings::{Defaults, FIRST, Provider, StageSettings, ToolSettings, Voice},
    stage::{self, MAX_NAME_CHARS, Named},
    tools, voice,
};
use crate::{
    agent::{
        realtime::settings::{Detection, Eagerness, Model, WireFormat},
        text::Text,
    },
    provider::Limits,
    turn_taking,
};

/// Keys of this kind, beside those that all agents have.
pub(super) const KEYS: &[&str] = &[
    "url",
    "model",
    "key",
    "key_file",
    "timeout_first_ms",
    "instructions",
    "greeting",
    "greeting_protected",
    "voice",
    "speed",
    "format",
    "turn_detection",
    "server_threshold",
    "server_prefix_ms",
    "server_silence_ms",
    "eagerness",
    "transcribe",
    "temperature",
    "max_tokens",
    "apology",
    "silence_prompts",
    "goodbye",
    "give_up",
    "max_faults",
    "turn",
    "text_to_speech",
    "tools",
    "transfer_to",
];

/// OpenAI's own model, where the file names none.
const MODEL: &str = "gpt-realtime";

/// What puts the caller's words into text at OpenAI, where the file names nothing.
const TRANSCRIBER: &str = "gpt-4o-mini-transcribe";

/// An agent of the kind `realtime`.
#[derive(Debug, Clone, PartialEq)]
pub struct RealtimeSettings {
    /// Where the server is (ws or wss), with the model in its query.
    pub url: Url,
    /// What it knows us by.
    pub key: Option<Sensitive<String>>,
    /// How long it may be silent when something is expected of it.
    pub patience: Duration,
    /// How the model is asked.
    pub model: Model,
    /// What it is told to be.
    pub instructions: Text,
    /// Its first words; empty to wait for the caller.
    pub greeting: Text,
    /// Whether the greeting must not be interrupted.
    pub greeting_protected: bool,
    /// Said instead of a response that failed.
    pub apology: Text,
    /// Said to a caller who is silent.
    pub silence_prompts: Vec<Text>,
    /// Last words to a caller who says nothing any more.
    pub goodbye: Text,
    /// Last words when the model cannot be had.
    pub give_up: Text,
    /// Failures in a row after which it takes its leave.
    pub max_faults: u32,
    /// Turn-taking.
    pub turn: turn_taking::Settings,
    /// A voice for when the model has none.
    pub text_to_speech: Option<StageSettings<Voice>>,
    /// What the model may call.
    pub tools: Vec<ToolSettings>,
}

pub(super) fn realtime(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    language: &str,
    defaults: &Defaults,
) -> Option<RealtimeSettings> {
    let own = phrases::of(language);
    let instructions = reader.text(section, "instructions", MAX_INSTRUCTIONS_CHARS, true);
    if section.get("instructions").is_none() {
        reader.mistake(section.place.clone(), "needs instructions: what the model is told to be");
    }
    let mut spoken = |key: &str, usual: &str| {
        reader.text(section, key, MAX_SPOKEN_CHARS, false).unwrap_or_else(|| Text::fixed(usual))
    };
    let (greeting, apology) = (spoken("greeting", ""), spoken("apology", own.apology));
    let (goodbye, give_up) = (spoken("goodbye", own.goodbye), spoken("give_up", own.give_up));
    let prompts = reader.list(section, "silence_prompts", MAX_SILENCE_PROMPTS).map(|list| {
        let texts = list.into_iter();
        texts.filter_map(|value| reader.text_of(value, "silence_prompts", MAX_SPOKEN_CHARS, false)).collect()
    });
    let place = place(reader, section, defaults);
    let is_openai = place.as_ref().is_some_and(stage::is_openai);
    let model = model(reader, section, is_openai);
    let patience = reader.millis(section, "timeout_first_ms", FIRST).unwrap_or_else(|| Limits::default().first);
    let max_faults = reader.whole(section, "max_faults", 1..=20).unwrap_or(3);
    let greeting_protected = reader.flag(section, "greeting_protected").unwrap_or(false);
    let turn = agent::turn(reader, section);
    let has_voice = section.get("text_to_speech").is_some();
    let text_to_speech = if has_voice { voice::text_to_speech(reader, section, defaults) } else { None };
    let tools = tools::tools(reader, section);
    let (url, key) = server(reader, section, place?, defaults)?;
    Some(RealtimeSettings {
        url,
        key,
        patience,
        model,
        instructions: instructions?,
        greeting,
        greeting_protected,
        apology,
        silence_prompts: prompts.unwrap_or_else(|| vec![Text::fixed(own.still_there); 2]),
        goodbye,
        give_up,
        max_faults: u32::try_from(max_faults).unwrap_or(u32::MAX),
        turn,
        text_to_speech,
        tools,
    })
}

/// How the model is asked.
fn model(reader: &mut Reader<'_>, section: &Section<'_>, is_openai: bool) -> Model {
    let formats = [("ulaw", WireFormat::Ulaw), ("pcm", WireFormat::Pcm)];
    let eagernesses =
        [("low", Eagerness::Low), ("medium", Eagerness::Medium), ("high", Eagerness::High), ("auto", Eagerness::Auto)];
    let eagerness = reader.one_of(section, "eagerness", &eagernesses);
    let ms = |reader: &mut Reader<'_>, key: &str, range| {
        reader.whole(section, key, range).and_then(|ms| u32::try_from(ms).ok())
    };
    let server = Detection::Server {
        threshold: reader.decimal(section, "server_threshold", 0.0..=1.0),
        prefix_ms: ms(reader, "server_prefix_ms", 0..=2000),
        silence_ms: ms(reader, "server_silence_ms", 100..=5000),
    };
    let detections = [("server", server), ("semantic", Detection::Semantic(eagerness)), ("own", Detection::Own)];
    let detection = reader.one_of(section, "turn_detection", &detections).unwrap_or(server);
    for (key, is_used) in [
        ("server_threshold", matches!(detection, Detection::Server { .. })),
        ("server_prefix_ms", matches!(detection, Detection::Server { .. })),
        ("server_silence_ms", matches!(detection, Detection::Server { .. })),
        ("eagerness", matches!(detection, Detection::Semantic(_))),
    ] {
        if let Some(value) = section.own(key).filter(|_| !is_used) {
            let of = if key == "eagerness" { "semantic" } else { "server" };
            reader.mistake(value.span(), format!("{key} is only for turn_detection = \"{of}\""));
        }
    }
    let temperature = reader.decimal(section, "temperature", 0.0..=2.0);
    if let Some(value) = section.own("temperature").filter(|_| is_openai) {
        reader.mistake(value.span(), "temperature is not taken by OpenAI's realtime models");
    }
    // An empty name is for none.
    let transcribe = match section.get("transcribe") {
        Some(value) if value.get_ref().as_str() == Some("") => None,
        Some(_) => reader.string(section, "transcribe", MAX_NAME_CHARS, false),
        None => is_openai.then(|| TRANSCRIBER.to_owned()),
    };
    Model {
        format: reader.one_of(section, "format", &formats).unwrap_or_default(),
        detection,
        voice: reader.string(section, "voice", MAX_NAME_CHARS, false),
        speed: reader.decimal(section, "speed", 0.25..=1.5),
        transcribe,
        temperature: temperature.filter(|_| !is_openai),
        max_tokens: reader.whole(section, "max_tokens", 1..=4096).and_then(|tokens| u32::try_from(tokens).ok()),
    }
}

/// Where the server is; by default where OpenAI's family is.
fn place(reader: &mut Reader<'_>, section: &Section<'_>, defaults: &Defaults) -> Option<Url> {
    let Some(value) = section.get("url") else {
        let mut url = defaults.url.clone();
        let path = format!("{}/realtime", url.path().trim_end_matches('/'));
        url.set_path(&path);
        return spoken_over_a_socket(url);
    };
    // What holds for addresses of HTTP holds here as well.
    let written = value.get_ref().as_str().unwrap_or_default();
    let http = written.strip_prefix("ws").map(|rest| format!("http{rest}"));
    let url = http.and_then(|http| stage::address(&http).ok()).and_then(spoken_over_a_socket);
    if url.is_none() {
        let what = "url must begin with wss:// (ws:// only on this machine or a private network), such as \
                    wss://api.openai.com/v1/realtime, without a user name or password";
        reader.mistake(value.span(), what);
    }
    url
}

fn spoken_over_a_socket(mut url: Url) -> Option<Url> {
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).ok()?;
    Some(url)
}

/// The address with the model, and the key that belongs to it.
fn server(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    mut url: Url,
    defaults: &Defaults,
) -> Option<(Url, Option<Sensitive<String>>)> {
    let is_openai = stage::is_openai(&url);
    let place_of = |key: &str| section.get(key).map_or_else(|| section.place.clone(), |value| value.span());
    let named = reader.string(section, "model", MAX_NAME_CHARS, false);
    let is_in_url = url.query_pairs().any(|(name, _)| name == "model");
    match named.or_else(|| is_openai.then(|| MODEL.to_owned())) {
        Some(model) if !is_in_url => {
            url.query_pairs_mut().append_pair("model", &model);
        }
        Some(_) => {}
        None if is_in_url => {}
        None => reader.mistake(place_of("url"), "needs a model: the name that the server at its url has for it"),
    }
    let is_default_place = spoken_over_a_socket(defaults.url.clone()).is_some_and(|place| {
        (place.scheme(), place.host(), place.port_or_known_default())
            == (url.scheme(), url.host(), url.port_or_known_default())
    });
    let key = match stage::key(reader, section, "key", "key_file") {
        Named::Found(key) => Some(key),
        Named::Wrong => None,
        Named::Nothing => match defaults.keys.get(&Provider::OpenAi).filter(|_| is_default_place) {
            Some(key) => stage::default_key(reader, section, key),
            None => {
                if is_openai {
                    stage::needs_key(reader, section, "a realtime agent", Provider::OpenAi, &url);
                }
                None
            }
        },
    };
    Some((url, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents_file::{self, DefaultKey, Kind, Secrets};

    struct Keys;

    impl Secrets for Keys {
        fn variable(&self, name: &str) -> Option<Sensitive<String>> {
            (name == "OTHER_KEY").then(|| Sensitive::new("other".to_owned()))
        }

        fn file(&self, _: &str) -> Result<Sensitive<String>, String> {
            Err("cannot be read".to_owned())
        }
    }

    fn defaults() -> Defaults {
        Defaults {
            language: "en-US".to_owned(),
            url: Url::parse("https://api.openai.com/v1").unwrap(),
            keys: [(Provider::OpenAi, DefaultKey::Value("key".to_owned().into()))].into(),
            ..Defaults::default()
        }
    }

    fn read(lines: &str) -> Result<RealtimeSettings, String> {
        let text = format!("[agent.a]\nkind = \"realtime\"\ninstructions = \"Be brief.\"\n{lines}\n");
        let agents = agents_file::parse(&text, &defaults(), &Keys).map_err(|mistakes| mistakes.to_string())?;
        let Kind::Realtime(settings) = agents[0].kind.clone() else { panic!("{agents:?}") };
        Ok(*settings)
    }

    fn key(settings: &RealtimeSettings) -> Option<&str> {
        settings.key.as_ref().map(|key| key.expose().as_str())
    }

    #[test]
    fn with_instructions_alone_it_is_openais() {
        let plain = read("").unwrap();
        assert_eq!(plain.url.as_str(), "wss://api.openai.com/v1/realtime?model=gpt-realtime");
        assert_eq!((key(&plain), plain.model.format), (Some("key"), WireFormat::Ulaw));
        assert_eq!(plain.model.transcribe.as_deref(), Some(TRANSCRIBER));
        assert!(matches!(plain.model.detection, Detection::Server { .. }) && plain.text_to_speech.is_none());
    }

    #[test]
    fn a_server_of_ones_own_gets_no_key_that_is_not_its_own() {
        let own = "url = \"ws://localhost:8000/v1/realtime\"\nmodel = \"m\"\n";
        let settings = read(own).unwrap();
        assert_eq!(settings.url.as_str(), "ws://localhost:8000/v1/realtime?model=m");
        assert_eq!((key(&settings), settings.model.transcribe.as_deref()), (None, None));
        let more = "key = \"OTHER_KEY\"\nturn_detection = \"own\"\nformat = \"pcm\"\ntemperature = 0.7\n";
        let settings = read(&format!("{own}{more}[agent.a.text_to_speech]\nvoice = \"coral\"")).unwrap();
        assert_eq!((key(&settings), settings.model.temperature), (Some("other"), Some(0.7)));
        assert!(settings.model.detection == Detection::Own && settings.text_to_speech.is_some());
    }

    #[test]
    fn it_may_have_tools() {
        let tool = "[tool.hours]\ndescription = \"Opening hours.\"\nurl = \"https://shop.example/hours\"";
        let lines = "tools = [\"hang_up\", \"transfer\", \"hours\"]\ntransfer_to = { sales = \"+15550100\" }";
        let tools = read(&format!("{lines}\n{tool}")).unwrap().tools;
        let [ToolSettings::HangUp, ToolSettings::Transfer(people), ToolSettings::Function(hours)] = &tools[..] else {
            panic!("{tools:?}")
        };
        assert_eq!((people.expose()["sales"].as_str(), hours.spec.name.as_str()), ("+15550100", "hours"));
        assert!(read("").unwrap().tools.is_empty());
    }

    #[test]
    fn mistakes_are_told() {
        for (lines, told) in [
            ("url = \"ws://example.com/v1\"", "must begin with wss://"),
            ("url = \"https://example.com/v1\"", "must begin with wss://"),
            ("url = \"wss://user:secret@example.com/\"\nmodel = \"m\"", "must begin with wss://"),
            ("url = \"wss://example.com/v1\"", "needs a model"),
            ("url = \"wss://eu.example.com/v1\"\nmodel = \"m\"\nkey = \"NO_KEY\"", "is not set"),
            ("turn_detection = \"mine\"", "turn_detection must be one of"),
            ("turn_detection = \"own\"\nserver_silence_ms = 500", "only for turn_detection = \"server\""),
            ("eagerness = \"high\"", "only for turn_detection = \"semantic\""),
            ("temperature = 0.7", "is not taken"),
            ("speed = 4", "speed must be"),
            ("chat = {}", "this kind of agent has no chat"),
            ("tools = [\"hours\"]", "tools names one that there is not"),
            ("tools = [\"transfer\"]", "to whom"),
        ] {
            let mistakes = read(lines).unwrap_err();
            assert!(mistakes.contains(told) && !mistakes.contains("secret"), "{lines}: {mistakes}");
        }
    }
}
