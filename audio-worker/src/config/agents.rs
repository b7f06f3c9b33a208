//! Settings of agents: where their file is, and what the file may leave out.

use std::{collections::BTreeMap, fs::File, io::Read as _};

use telemetry::{
    Sensitive, language,
    live_file::LiveFile,
    settings::{Reader, Setting, Variables},
};

use crate::{
    agent::Stage,
    agents_file::{self, AgentSettings, DefaultKey, Defaults, Provider, Secrets, address, provider},
};

/// Settings that are read here.
pub(super) const SETTINGS: &[Setting] = &[
    Setting { name: "AGENTS_FILE", default: None, help: "TOML file of agents; read again on SIGHUP" },
    Setting {
        name: "STT_PROVIDER",
        default: Some("whisper"),
        help: "Who understands, where the agents file names nobody: whisper (or openai), google, elevenlabs, deepgram",
    },
    Setting {
        name: "TWILIO_AI",
        default: Some("openai"),
        help: "Who thinks, where the agents file names nobody: openai",
    },
    Setting {
        name: "TWILIO_LANGUAGE",
        default: None,
        help: "Language of agents that have none of their own, such as en-US or ja",
    },
    Setting {
        name: "OPENAI_BASE_URL",
        default: Some("https://api.openai.com/v1"),
        help: "Where OpenAI, or a server that speaks its protocol, is for stages that name no url",
    },
    Setting { name: "OPENAI_API_KEY", default: None, help: "Key for OPENAI_BASE_URL" },
    Setting { name: "GOOGLE_API_KEY", default: None, help: "Key for Google's speech services" },
    Setting {
        name: GOOGLE_CREDENTIALS,
        default: None,
        help: "File of a service account for Google's speech services, where there is no GOOGLE_API_KEY",
    },
    Setting { name: "ELEVENLABS_API_KEY", default: None, help: "Key for ElevenLabs" },
    Setting { name: "DEEPGRAM_API_KEY", default: None, help: "Key for Deepgram" },
];

/// What Google's own libraries call it.
const GOOGLE_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Largest file with a key.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// The agents of the file; none when there is no file. Every mistake in it is one of the settings'.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<LiveFile<Vec<AgentSettings>>> {
    let defaults = defaults(reader);
    let file = reader.text("AGENTS_FILE")?;
    // What is wrong with the settings is told first: the file is judged by them.
    let defaults = defaults?;
    let places = Places(reader.variables());
    let parse = move |text: &str| agents_file::parse(text, &defaults, &places);
    match LiveFile::open("agents", file.into(), parse) {
        Ok(file) => Some(file),
        Err(unusable) => {
            for mistake in unusable.lines() {
                reader.mistake("AGENTS_FILE", mistake);
            }
            None
        }
    }
}

fn defaults(reader: &mut Reader<'_>) -> Option<Defaults> {
    let speech_to_text = family(reader, "STT_PROVIDER", Stage::SpeechToText);
    let chat = family(reader, "TWILIO_AI", Stage::Chat);
    let language = reader.text("TWILIO_LANGUAGE").unwrap_or_default().to_owned();
    if !language.is_empty() && !language::is_tag(&language) {
        reader.mistake("TWILIO_LANGUAGE", "must be a BCP 47 tag such as en-US or ja");
    }
    let url = match address(reader.text("OPENAI_BASE_URL").unwrap_or_default()) {
        Ok(url) => Some(url),
        Err(what) => {
            reader.mistake("OPENAI_BASE_URL", what);
            None
        }
    };
    let found = Provider::ALL.map(|provider| (provider, reader.secret(provider.key_variable())));
    let mut keys: BTreeMap<_, _> =
        found.into_iter().filter_map(|(provider, key)| Some((provider, DefaultKey::Value(key?)))).collect();
    if let Some(path) = reader.text(GOOGLE_CREDENTIALS) {
        keys.entry(Provider::Google).or_insert_with(|| DefaultKey::File(GOOGLE_CREDENTIALS, path.to_owned()));
    }
    Some(Defaults { speech_to_text: speech_to_text?, chat: chat?, language, url: url?, keys })
}

fn family(reader: &mut Reader<'_>, name: &'static str, stage: Stage) -> Option<Provider> {
    match provider(reader.text(name).unwrap_or_default(), stage) {
        Ok(provider) => Some(provider),
        Err(what) => {
            reader.mistake(name, what);
            None
        }
    }
}

/// Where keys are in earnest.
struct Places(Variables);

impl Secrets for Places {
    fn variable(&self, name: &str) -> Option<Sensitive<String>> {
        self.0.get(name).map(|value| Sensitive::new(value.expose().trim().to_owned()))
    }

    fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text));
        let text = Sensitive::new(text);
        read.map_err(|error| format!("cannot be read: {error}"))?;
        let key = text.expose().trim();
        if key.is_empty() || text.expose().len() as u64 > MAX_KEY_BYTES {
            return Err("must hold a key and nothing else".to_owned());
        }
        Ok(Sensitive::new(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use telemetry::settings::{Mistakes, Values};

    use super::*;
    use crate::agents_file::Kind;

    type Agents = Option<LiveFile<Vec<AgentSettings>>>;

    fn read_with(pairs: &[(&str, &str)], variables: Variables) -> Result<Agents, Mistakes> {
        let values = Values::from_lookup(SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        let values = values.with_variables(variables);
        let mut reader = Reader::new(&values);
        let agents = read(&mut reader);
        reader.finish(Some(agents))
    }

    fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
        let mistakes = read_with(pairs, Variables::default()).unwrap_err().0;
        mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.name, mistake.what)).collect()
    }

    #[test]
    fn without_a_file_there_are_no_agents() {
        assert!(read_with(&[], Variables::default()).unwrap().is_none());
        assert!(read_with(&[("STT_PROVIDER", "openai"), ("TWILIO_LANGUAGE", "ja")], Variables::default()).is_ok());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let told = mistakes(&[("STT_PROVIDER", "hal"), ("TWILIO_AI", "google"), ("TWILIO_LANGUAGE", "english")]);
        assert!(told[0].starts_with("STT_PROVIDER: must be one of openai, google, elevenlabs, deepgram"), "{told:?}");
        assert!(told[1].starts_with("TWILIO_AI: names google, which does not serve chat"), "{told:?}");
        assert!(told[2].starts_with("TWILIO_LANGUAGE: must be a BCP 47 tag"), "{told:?}");
        let told = mistakes(&[("OPENAI_BASE_URL", "http://example.com/v1"), ("AGENTS_FILE", "/does/not/exist")]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(mistakes(&[("AGENTS_FILE", "/does/not/exist")])[0].contains("cannot be read"));
    }

    #[test]
    fn keys_come_from_variables_and_files_and_are_read_again() {
        let folder = std::env::temp_dir().join(format!("agents-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, key) = (folder.join("agents.toml"), folder.join("key"));
        let agent = format!(
            "[agent.a]\nkind = \"pipeline\"\ninstructions = \"x\"\n[agent.a.chat]\nkey_file = \"{}\"\n\
             [agent.a.speech_to_text]\nkey = \"OTHER_KEY\"\n",
            key.display()
        );
        fs::write(&file, &agent).unwrap();
        fs::write(&key, "first\n").unwrap();
        let other = std::sync::Arc::new(Mutex::new("one".to_owned()));
        let variables = Variables::new({
            let other = other.clone();
            move |name| (name == "OTHER_KEY").then(|| Sensitive::new(other.lock().unwrap().clone()))
        });
        let given = [("AGENTS_FILE", file.to_str().unwrap()), ("OPENAI_API_KEY", "k3y")];
        let agents = read_with(&given, variables).unwrap().unwrap();
        let keys = || {
            let agents = agents.current();
            let Kind::Pipeline(pipeline) = &agents[0].kind else { panic!("{agents:?}") };
            let (talk, chat) = (&pipeline.talk, &pipeline.chat.key);
            [chat, &talk.speech_to_text.key, &talk.text_to_speech.key].map(|key| key.clone().unwrap().expose().clone())
        };
        assert_eq!(keys(), ["first", "one", "k3y"]);
        fs::write(&key, "second").unwrap();
        *other.lock().unwrap() = "two".to_owned();
        assert!(agents.reload());
        assert_eq!(keys(), ["second", "two", "k3y"]);
        for broken in ["", " \n", &"x".repeat(20_000)] {
            fs::write(&key, broken).unwrap();
            assert!(!agents.reload());
        }
        assert_eq!(keys(), ["second", "two", "k3y"]);
        assert!(!format!("{agents:?}{:?}", agents.current()).contains("second"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
