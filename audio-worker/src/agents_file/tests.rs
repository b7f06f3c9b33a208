//! What an agents file says, and what it is told when it is wrong.

use proptest::prelude::*;

use super::*;
use crate::{
    agent::{
        Endpoint, LiveSettings, Stage,
        survey::{self, Value, Wanted},
        tools::function::Sends,
    },
    dsp::SampleRate,
    provider::Limits,
};
use std::time::Duration;

struct Keys;

impl Secrets for Keys {
    fn variable(&self, name: &str) -> Option<Sensitive<String>> {
        ["OPENAI_API_KEY", "GOOGLE_API_KEY", "ELEVENLABS_API_KEY", "SPEECH_KEY", "SURVEY_SECRET", "SHOP_API_KEY"]
            .contains(&name)
            .then(|| Sensitive::new(format!("value of {name}")))
    }

    fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
        match path {
            "/run/secrets/openai" => Ok(Sensitive::new("value of the file".to_owned())),
            _ => Err("cannot be read".to_owned()),
        }
    }
}

fn defaults(key: Option<&str>) -> Defaults {
    let defaults = Defaults::default();
    match key {
        Some(key) => defaults.with_key(Provider::OpenAi, key.to_owned().into()),
        None => defaults,
    }
}

fn read(text: &str) -> Vec<AgentSettings> {
    parse(text, &defaults(Some("k3y")), &Keys).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn mistakes(text: &str) -> Vec<String> {
    parse(text, &defaults(Some("k3y")), &Keys).unwrap_err().lines()
}

fn pipeline(agents: &[AgentSettings], at: usize) -> &PipelineSettings {
    let Kind::Pipeline(pipeline) = &agents[at].kind else { panic!("{agents:?}") };
    pipeline
}

const SHORT: &str = "[agent.a]\nkind = \"pipeline\"\ninstructions = \"x\"\n";

const REALTIME: &str = include_str!("../../../docs/realtime.md");

#[test]
fn the_examples_are_good_files() {
    let example = include_str!("../../../agents.example.toml");
    let names = |agents: Vec<AgentSettings>| agents.into_iter().map(|agent| agent.name).collect::<Vec<_>>();
    assert_eq!(names(read(example)), ["desk", "echo", "eligibility"]);
    let document = include_str!("../../../docs/agents.md");
    let document = [document, include_str!("../../../docs/providers.md"), REALTIME].concat();
    let examples: Vec<_> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        read(example);
    }
}

#[test]
fn every_key_is_documented_and_nothing_else() {
    let document = include_str!("../../../docs/agents.md");
    let documented: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let names = |document: &str, key| document.contains(&format!("`{key}`")) || document.contains(&format!(".{key}"));
    for key in agent::default_keys() {
        assert!(names(document, key) || names(REALTIME, key), "{key}");
    }
    for key in realtime::KEYS {
        assert!(names(REALTIME, key), "{key}");
    }
    for keys in
        [agent::TURN, stage::SPEECH_TO_TEXT_KEYS, stage::CHAT_KEYS, stage::TEXT_TO_SPEECH_KEYS, super::survey::QUESTION]
    {
        for key in keys {
            assert!(document.contains(&format!("`{key}`")), "{key}");
        }
    }
    let sources = [
        include_str!("agent.rs"),
        include_str!("fallback.rs"),
        include_str!("realtime.rs"),
        include_str!("remote.rs"),
        include_str!("stage.rs"),
        include_str!("survey.rs"),
        include_str!("tools.rs"),
    ]
    .concat();
    for key in documented {
        assert!(sources.contains(&format!("\"{key}\"")) || survey::outcome::ALL.contains(&key), "{key}");
    }
}

#[test]
fn what_is_left_out_has_a_good_value() {
    let agents = read(SHORT);
    let PipelineSettings { talk, instructions, max_history, chat, tools } = pipeline(&agents, 0);
    assert!(tools.is_empty());
    assert_eq!((instructions.fill(&Default::default()), *max_history), ("x".to_owned(), 100));
    assert_eq!(talk.turn, crate::turn_taking::Settings::default());
    assert_eq!((chat.model.as_str(), chat.limits, chat.options.temperature), ("gpt-4o-mini", Limits::default(), None));
    assert_eq!(chat.key.as_ref().unwrap().expose(), "k3y");
    let voice = &talk.text_to_speech.options;
    assert_eq!((voice.voice.as_str(), voice.format, voice.rate), ("alloy", Format::Pcm, SampleRate::Hz24000));
    assert!(talk.greeting.is_empty() && !talk.apology.is_empty() && talk.silence_prompts.len() == 2);
    assert!(!format!("{agents:?}").contains("k3y"));
}

#[test]
fn defaults_stand_in_key_by_key() {
    let agents = read(
        r#"
        [defaults]
        kind = "pipeline"
        language = "de-DE"
        instructions = "Sei {parameters.mood|freundlich}."
        turn = { endpoint_silence_ms = 700, interruptible = false }
        chat = { url = "http://ollama:11434/v1", model = "gemma3", temperature = 1 }
        speech_to_text = { url = "https://stt.example/v1", model = "large", key = "SPEECH_KEY" }

        [agent.a]
        turn.endpoint_silence_ms = 500
        chat.model = "other"
        speech_to_text.url = "https://elsewhere.example/v1"

        [agent.b]
        language = "ja"
        speech_to_text.timeout_first_ms = 2_000

        [agent.c]
        kind = "echo"
        "#,
    );
    let (a, b) = (pipeline(&agents, 0), pipeline(&agents, 1));
    assert_eq!(a.talk.turn.endpoint_silence, Duration::from_millis(500));
    assert!(!a.talk.turn.interruptible && !b.talk.turn.interruptible);
    assert_eq!(b.talk.turn.endpoint_silence, Duration::from_millis(700));
    assert_eq!((a.chat.model.as_str(), b.chat.model.as_str()), ("other", "gemma3"));
    assert_eq!((a.chat.url.as_str(), a.chat.options.temperature), ("http://ollama:11434/v1", Some(1.0)));
    assert_eq!(b.talk.speech_to_text.limits.first, Duration::from_secs(2));
    assert_eq!((agents[0].language.as_str(), agents[1].language.as_str()), ("de-DE", "ja"));
    assert_eq!(a.talk.goodbye.fill(&Default::default()), "Auf Wiederhören.");
    assert_eq!(agents[2].kind, Kind::Echo);
    // A key goes nowhere but to the address that it stands beside.
    assert_eq!(b.talk.speech_to_text.key.as_ref().unwrap().expose(), "value of SPEECH_KEY");
    assert_eq!((&a.talk.speech_to_text.key, &a.chat.key), (&None, &None));
}

#[test]
fn a_key_is_needed_where_openai_is() {
    let without = parse(SHORT, &defaults(None), &Keys).unwrap_err().lines();
    assert_eq!(without.len(), 3, "{without:?}");
    assert!(without[0].starts_with("line 1, agent a: "), "{without:?}");
    assert!(without.iter().all(|what| what.contains("set OPENAI_API_KEY")), "{without:?}");
    // A key of the defaults that stands beside another address is none.
    let elsewhere = format!("[defaults.chat]\nkey = \"SPEECH_KEY\"\n{SHORT}chat.url = \"https://api.openai.com/v1\"\n");
    let without = parse(&elsewhere, &defaults(None), &Keys).unwrap_err().lines();
    assert!(without.iter().any(|what| what.starts_with("line 6, agent a: chat needs a key")), "{without:?}");
    let given = "[defaults.chat]\nkey_file = \"/run/secrets/openai\"\n[defaults.speech_to_text]\nkey = \"SPEECH_KEY\"\n\
                 [defaults.text_to_speech]\nurl = \"http://localhost:8880/v1\"\nmodel = \"kokoro\"\n";
    let agents = parse(&format!("{given}{SHORT}"), &defaults(None), &Keys).unwrap();
    assert_eq!(pipeline(&agents, 0).chat.key.as_ref().unwrap().expose(), "value of the file");
    assert_eq!(pipeline(&agents, 0).talk.text_to_speech.key, None);
}

#[test]
fn families_have_places_models_and_keys_of_their_own() {
    let defaults = Defaults { speech_to_text: Provider::Google, ..defaults(Some("k3y")) };
    let defaults = defaults.with_key(Provider::Google, "g00gle".to_owned().into());
    let file = format!(
        r#"
        [defaults.text_to_speech]
        url = "http://kokoro:8880/v1"
        model = "kokoro"
        voice = "af_sky"
        {SHORT}
        [agent.a.text_to_speech]
        provider = "elevenlabs"
        key = "SPEECH_KEY"
        stability = 0.4
        [agent.b]
        kind = "pipeline"
        instructions = "x"
        [agent.b.text_to_speech]
        provider = "google"
        format = "mp3"
        [agent.b.speech_to_text]
        url = "https://eu-speech.googleapis.com/v1"
        [agent.c]
        kind = "pipeline"
        instructions = "x"
        [agent.c.text_to_speech]
        provider = "openai"
        format = "mp3"
        "#
    );
    let agents = parse(&file, &defaults, &Keys).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let of = |at: usize| &pipeline(&agents, at).talk;
    let key = |key: &Option<Sensitive<String>>| key.as_ref().map(|key| key.expose().clone());
    let stt = &of(0).speech_to_text;
    assert_eq!((stt.provider, stt.url.as_str()), (Provider::Google, "https://speech.googleapis.com/v1"));
    assert_eq!((stt.model.as_str(), key(&stt.key).as_deref()), ("latest_long", Some("g00gle")));
    // What the defaults say to a server of OpenAI's family is nothing to another family.
    let tts = &of(0).text_to_speech;
    assert_eq!((tts.url.as_str(), tts.model.as_str()), ("https://api.elevenlabs.io/v1", "eleven_flash_v2_5"));
    assert_eq!((key(&tts.key).as_deref(), tts.options.stability), (Some("value of SPEECH_KEY"), Some(0.4)));
    assert_eq!((tts.options.voice.len(), tts.options.format, tts.options.rate), (20, Format::Ulaw, SampleRate::Hz8000));
    let tts = &of(1).text_to_speech;
    assert_eq!(
        (tts.url.as_str(), key(&tts.key).as_deref()),
        ("https://texttospeech.googleapis.com/v1", Some("g00gle"))
    );
    assert_eq!((tts.options.format, tts.options.rate), (Format::Mp3, SampleRate::Hz24000));
    assert_eq!((tts.options.voice.as_str(), tts.model.as_str()), ("", ""));
    // Another place of the same family does not get the key of the default place.
    assert_eq!(key(&of(1).speech_to_text.key), None);
    let tts = &of(2).text_to_speech;
    assert_eq!((tts.url.as_str(), tts.options.voice.as_str()), ("http://kokoro:8880/v1", "af_sky"));
    assert_eq!(tts.key, None);
}

#[test]
fn the_page_of_providers_says_what_the_table_says() {
    let document = include_str!("../../../docs/providers.md");
    for provider in Provider::ALL {
        let family = provider.family();
        assert!(document.contains(provider.key_variable()), "{provider:?}");
        // OpenAI's is the page of agents; that of Deepgram is its own.
        if matches!(provider, Provider::Google | Provider::ElevenLabs) {
            for service in [Stage::SpeechToText, Stage::TextToSpeech].map(|stage| family.service(stage).unwrap()) {
                for option in service.options {
                    assert!(document.contains(&format!("`{option}`")), "{provider:?} {option}");
                }
                let place = service.public_place();
                assert!(document.contains(place.as_str().trim_end_matches('/')) && document.contains(service.model));
            }
            assert!(document.contains(family.voices().unwrap().voice));
        }
    }
}

#[test]
fn a_default_key_may_be_in_a_file() {
    let with = |path: &str| {
        let file = DefaultKey::File("GOOGLE_APPLICATION_CREDENTIALS", path.to_owned());
        let defaults = Defaults { speech_to_text: Provider::Google, ..defaults(Some("k3y")) };
        Defaults {
            keys: [defaults.keys, [(Provider::Google, file)].into()].into_iter().flatten().collect(),
            ..defaults
        }
    };
    let agents = parse(SHORT, &with("/run/secrets/openai"), &Keys).unwrap();
    let key = pipeline(&agents, 0).talk.speech_to_text.key.clone();
    assert_eq!(key.unwrap().expose(), "value of the file");
    let told = parse(SHORT, &with("/nowhere"), &Keys).unwrap_err().lines();
    assert_eq!(told, ["line 1, agent a: the file that GOOGLE_APPLICATION_CREDENTIALS names cannot be read"]);
}

#[test]
fn a_recogniser_that_listens_is_read() {
    let agents = read(
        r#"
        [agent.a]
        kind = "pipeline"
        instructions = "x"
        [agent.a.speech_to_text]
        provider = "deepgram"
        key = "SPEECH_KEY"
        endpoint = "provider"
        endpointing_ms = 250
        utterance_end_ms = 1200
        finalize_wait_ms = 400
        keyterms = ["Tandem", "mu-law"]
        "#,
    );
    let stage = &pipeline(&agents, 0).talk.speech_to_text;
    assert_eq!((stage.url.as_str(), stage.model.as_str()), ("https://api.deepgram.com/v1", "nova-3"));
    let ms = Duration::from_millis;
    assert_eq!(stage.options.live, LiveSettings { endpoint: Endpoint::Provider, finalize_wait: ms(400) });
    let keyterms = vec!["Tandem".to_owned(), "mu-law".to_owned()];
    assert_eq!(stage.options.streaming, Streaming { endpointing: ms(250), utterance_end: ms(1200), keyterms });
}

#[test]
fn google_listens_unless_the_file_says_otherwise() {
    for (more, listens) in [("", true), ("streaming = true", true), ("streaming = false", false)] {
        let stage = "[agent.a.speech_to_text]\nprovider = \"google\"\nkey = \"SPEECH_KEY\"\nendpoint = \"provider\"";
        let agents = read(&format!("[agent.a]\nkind = \"pipeline\"\ninstructions = \"x\"\n{stage}\n{more}"));
        let options = &pipeline(&agents, 0).talk.speech_to_text.options;
        assert_eq!((options.listens, options.live.endpoint), (listens, Endpoint::Provider), "{more}");
    }
}

#[test]
fn elevenlabs_has_bounds_of_its_own_for_what_listens() {
    let stage = format!("{SHORT}[agent.a.speech_to_text]\nprovider = \"elevenlabs\"\nkey = \"SPEECH_KEY\"\n");
    let of = |more: &str| pipeline(&read(&format!("{stage}{more}")), 0).talk.speech_to_text.clone();
    let (usual, ms) = (of(""), Duration::from_millis);
    assert_eq!(usual.model, "scribe_v2_realtime");
    assert_eq!(usual.options.live, LiveSettings { endpoint: Endpoint::Own, finalize_wait: ms(500) });
    assert_eq!(usual.options.streaming.endpointing, ms(500));
    let most = "endpoint = \"provider\"\nendpointing_ms = 3000\nkeyterms = [\"Straßenbahnhaltestel\"]";
    assert_eq!(of(most).options.streaming.endpointing, ms(3000));
    for (more, told) in [
        ("endpointing_ms = 299", "endpointing_ms must be a whole number from 300 to 3000"),
        ("keyterms = [\"Straßenbahnhaltestelle\"]", "at most 50, of 1000 characters in all, and of 20 each"),
        ("utterance_end_ms = 1000", "elevenlabs knows no utterance_end_ms"),
    ] {
        let mistakes = mistakes(&format!("{stage}{more}"));
        assert!(mistakes.len() == 1 && mistakes[0].contains(told), "{mistakes:?}");
    }
}

#[test]
fn keyterms_are_no_more_than_deepgram_takes() {
    let with = |count: usize, term: &str| {
        let terms = vec![format!("{term:?}"); count].join(", ");
        let stage = "[agent.a.speech_to_text]\nprovider = \"deepgram\"\nkey = \"SPEECH_KEY\"";
        format!("{SHORT}{stage}\nkeyterms = [{terms}]\n")
    };
    for (count, term) in [(101, "a"), (51, "Straßenbahnhaltestel")] {
        let told = mistakes(&with(count, term));
        assert!(told.len() == 1 && told[0].contains("at most 100, of 1000 characters in all"), "{told:?}");
    }
    for (count, term) in [(100, "a"), (50, "Straßenbahnhaltestel")] {
        let agents = read(&with(count, term));
        assert_eq!(pipeline(&agents, 0).talk.speech_to_text.options.streaming.keyterms.len(), count);
    }
}

#[test]
fn a_stage_may_have_another_one_to_stand_in_for_it() {
    let file = format!(
        r#"
        [defaults.chat]
        fallback_after_ms = 600
        [defaults.chat.fallback]
        url = "http://vllm:8000/v1"
        model = "gemma"
        timeout_first_ms = 3000
        {SHORT}
        [agent.a.chat]
        model = "gpt-5"
        [agent.a.chat.fallback]
        model = "llama"
        [agent.a.speech_to_text.fallback]
        provider = "deepgram"
        key = "SPEECH_KEY"
        [agent.b]
        kind = "pipeline"
        instructions = "x"
        "#
    );
    let agents = parse(&file, &defaults(Some("k3y")), &Keys).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let (a, b) = (pipeline(&agents, 0), pipeline(&agents, 1));
    let chat = a.chat.fallback.as_ref().unwrap();
    // Key by key of its own, and nothing of the stage that it stands in for.
    assert_eq!((a.chat.model.as_str(), chat.stage.model.as_str()), ("gpt-5", "llama"));
    assert_eq!((chat.stage.url.as_str(), chat.stage.key.as_ref()), ("http://vllm:8000/v1", None));
    assert_eq!((chat.after, chat.stage.limits.first), (Duration::from_millis(600), Duration::from_secs(3)));
    assert_eq!(b.chat.fallback.as_ref().map(|fallback| fallback.stage.model.as_str()), Some("gemma"));
    let hearing = a.talk.speech_to_text.fallback.as_ref().unwrap();
    assert_eq!((a.talk.speech_to_text.provider, hearing.stage.provider), (Provider::OpenAi, Provider::Deepgram));
    assert_eq!((hearing.after, hearing.stage.fallback.is_none()), (Duration::from_millis(800), true));
    assert!(a.talk.text_to_speech.fallback.is_none() && b.talk.speech_to_text.fallback.is_none());
}

#[test]
fn the_own_stages_of_agents_without_a_pipeline_may_have_one_too() {
    let backed = |head: &str, stage: &str| {
        let stage = format!("[agent.a.{stage}]\nfallback_after_ms = 300\n[agent.a.{stage}.fallback]\nmodel = \"m\"");
        let text = format!("[agent.a]\n{head}\n{stage}\nurl = \"http://spare:8000/v1\"\n");
        read(&text).remove(0).kind
    };
    let spare = |after: Duration, url: &url::Url| (after, url.to_string());
    let expected = (Duration::from_millis(300), "http://spare:8000/v1".to_owned());
    let remote = "kind = \"remote\"\nurl = \"http://agent:9000\"";
    for (head, stage) in [
        ("kind = \"realtime\"\ninstructions = \"x\"\nkey = \"SPEECH_KEY\"", "text_to_speech"),
        (remote, "text_to_speech"),
        (remote, "speech_to_text"),
    ] {
        let kind = backed(head, stage);
        let voice = match &kind {
            Kind::Realtime(settings) => settings.text_to_speech.as_ref(),
            Kind::Remote(settings) => settings.text_to_speech.as_ref(),
            Kind::Echo | Kind::Survey(_) | Kind::Pipeline(_) => panic!("{kind:?}"),
        };
        let voice = voice.and_then(|stage| stage.fallback.as_ref()).map(|other| spare(other.after, &other.stage.url));
        let hearing = match &kind {
            Kind::Remote(settings) => settings.speech_to_text.as_ref().and_then(|stage| stage.fallback.as_ref()),
            Kind::Realtime(_) | Kind::Echo | Kind::Survey(_) | Kind::Pipeline(_) => None,
        };
        let hearing = hearing.map(|other| spare(other.after, &other.stage.url));
        assert_eq!(voice.or(hearing), Some(expected.clone()), "{head} {stage}");
    }
}

#[test]
fn a_survey_is_read() {
    let agents = read(
        r#"
        [agent.poll]
        kind = "survey"
        [[agent.poll.question]]
        id = "adult"
        kind = "yes_no"
        ask = "Are you eighteen?"
        ends = { no = "too_young" }
        [[agent.poll.question]]
        id = "colour"
        kind = "choice"
        ask = "Which colour?"
        options = ["red", { id = "dark_blue", words = ["navy"], key = "5" }]
        [[agent.poll.question]]
        id = "age"
        kind = "number"
        ask = "How old?"
        max = 120
        [[agent.poll.rule]]
        all = { colour = ["red", "skipped"] }
        any = { age = "65..", adult = "yes" }
        outcome = "completed"
        [agent.poll.outcome.too_young]
        say = "Please call again in some years."
        [agent.poll.results]
        url = "https://example.com/s3cret"
        secret = "SURVEY_SECRET"
        "#,
    );
    let Kind::Survey(survey) = &agents[0].kind else { panic!("{agents:?}") };
    let questions = &survey.plan.questions;
    assert_eq!(questions[0].ends, [(Wanted::Is(Value::No), "too_young".to_owned())]);
    let survey::Kind::Choice(choices) = &questions[1].kind else { panic!("{questions:?}") };
    assert_eq!((choices[0].key, choices[1].key), ('1', '5'));
    assert_eq!(choices[1].words, ["navy", "dark blue"]);
    assert_eq!(questions[2].kind, survey::Kind::Number(0, 120));
    let rule = &survey.plan.rules[0];
    assert_eq!(rule.all[0].wanted, [Wanted::Is(Value::Choice(0)), Wanted::Is(Value::Skipped)]);
    assert_eq!(rule.any[1].wanted, [Wanted::Within(65, u64::MAX)]);
    assert!(!survey.results.as_ref().unwrap().include_numbers);
    assert!(!format!("{agents:?}").contains("s3cret"));
}

/// Lines added to [`SHORT`] from line 4 on, and the end of what is told about them.
#[test]
fn every_mistake_has_its_line_and_its_cure() {
    for (added, line, cure) in [
        ("gretting = \"x\"", 4, "an agent has an unknown key; did you mean greeting?"),
        ("colour = \"x\"", 4, "goodbye, give_up, max_faults"),
        ("greeting = 5", 4, "greeting must be a text in quotes, of 1 to 4000 characters, without control characters"),
        ("greeting = \"{parameters.x\"", 4, "with letters, digits, _ and - as its name"),
        ("language = \"english\"", 4, "language must be a BCP 47 tag in quotes, such as \"en-US\" or \"ja\""),
        ("rule = []", 4, "this kind of agent has no rule"),
        ("max_faults = 0", 4, "max_faults must be a whole number from 1 to 20"),
        ("silence_prompts = \"x\"", 4, "silence_prompts must be a list in brackets, of at most 10"),
        ("greeting_protected = \"yes\"", 4, "greeting_protected must be true or false, without quotes"),
        ("turn = 5", 4, "turn must be a table"),
        ("[agent.a.turn]\nendpoint_ms = 1", 5, "turn has an unknown key; did you mean endpoint_silence_ms?"),
        ("[agent.a.turn]\n\nguess_silence_ms = 800", 6, "must be at most endpoint_silence_ms, which is 448"),
        ("[agent.a.turn]\nbarge_in_ms = 1.5", 5, "barge_in_ms must be a whole number from 20 to 2000"),
        ("[agent.a.chat]\nprovider = \"google\"", 5, "does not serve chat here; those that do: openai"),
        ("[agent.a.speech_to_text]\nprovider = \"hal\"", 5, "must be one of openai, google, elevenlabs, deepgram"),
        ("[agent.a.speech_to_text]\nprovider = \"google\"", 4, "a key for speech.googleapis.com: set GOOGLE_API_KEY"),
        (
            "[agent.a.speech_to_text]\nprovider = \"google\"\nkey = \"SPEECH_KEY\"\ntemperature = 0.5",
            7,
            "google knows no temperature; its keys for speech_to_text are prompt",
        ),
        ("[agent.a.text_to_speech]\nprovider = \"deepgram\"", 5, "those that do: openai, google, elevenlabs"),
        ("[agent.a.text_to_speech]\nstyle = 0.5", 5, "openai knows no style"),
        (
            "[agent.a.text_to_speech]\nprovider = \"elevenlabs\"\nkey = \"SPEECH_KEY\"\nformat = \"wav\"",
            7,
            "one of \"pcm\", \"mp3\", \"ulaw\"",
        ),
        (
            "[agent.a.text_to_speech]\nprovider = \"elevenlabs\"\nkey = \"SPEECH_KEY\"\nrate = 16000",
            7,
            "rate must be one of 8000 for this format of elevenlabs",
        ),
        (
            "[agent.a.text_to_speech]\nprovider = \"elevenlabs\"\nkey = \"SPEECH_KEY\"\nspeed = 2",
            7,
            "speed must be a number from 0.7 to 1.2",
        ),
        (
            "[agent.a.speech_to_text]\nprovider = \"deepgram\"\nkey = \"SPEECH_KEY\"\nutterance_end_ms = 500",
            7,
            "utterance_end_ms must be a whole number from 1000 to 5000",
        ),
        (
            "[agent.a.speech_to_text]\nprovider = \"deepgram\"\nkey = \"SPEECH_KEY\"\nendpoint = \"theirs\"",
            7,
            "endpoint must be one of \"own\", \"provider\"",
        ),
        ("[agent.a.speech_to_text]\nkeyterms = [\"Tandem\"]", 5, "openai knows no keyterms"),
        ("[agent.a.chat]\nkey = \"sk-proj-s3cret\"", 5, "the key itself must not stand in this file"),
        ("[agent.a.chat]\nkey = \"NOT_SET\"", 5, "key names an environment variable that is not set"),
        ("[agent.a.chat]\nkey_file = \"/nowhere\"", 5, "key_file cannot be read"),
        ("[agent.a.chat]\nkey_file = \"key\"", 5, "must be a whole path, such as /run/secrets/openai"),
        ("[agent.a.chat]\nkey = \"SPEECH_KEY\"\nkey_file = \"/run/secrets/openai\"", 6, "not both"),
        ("[agent.a.chat]\nurl = \"http://example.com\"\nmodel = \"x\"", 5, "on this machine or a private network)"),
        ("[agent.a.chat]\nurl = \"https://u:p@example.com\"", 5, "a user name or password; name a key instead"),
        ("[agent.a.chat]\nurl = \"https://example.com/v1\"", 5, "the name that the server at its url has for it"),
        ("[agent.a.chat]\ntimeout_ms = 5000\ntimeout_first_ms = 6000", 6, "at most timeout_ms, which is 5000"),
        ("[agent.a.chat]\ntemperature = 3", 5, "temperature must be a number from 0 to 2"),
        ("[agent.a.text_to_speech]\nrate = 11025", 5, "rate must be 8000, 16000, 22050, 24000, 44100 or 48000"),
        ("[agent.a.text_to_speech]\nformat = \"ulaw\"", 5, "format must be one of \"pcm\", \"wav\", \"mp3\""),
        ("[agent.a.chat]\nfallback = \"gpt\"", 5, "fallback must be a table"),
        ("[agent.a.chat]\nfallback_after_ms = 500", 5, "fallback_after_ms needs a table fallback in chat"),
        ("[agent.a.chat.fallback]\n[agent.a.chat]\nfallback_after_ms = 5", 6, "a whole number from 50 to 10000"),
        ("[agent.a.chat.fallback]\nmodell = \"x\"", 5, "fallback has an unknown key; did you mean model?"),
        ("[agent.a.chat.fallback]\nurl = \"https://example.com/v1\"", 5, "the name that the server at its url has"),
        ("[agent.a.chat.fallback.fallback]\nmodel = \"x\"", 4, "fallback has an unknown key"),
        ("[agent.a.text_to_speech.fallback]\nprovider = \"deepgram\"", 5, "those that do: openai, google, elevenlabs"),
        ("[agent.\"a b\"]\nkind = \"echo\"", 4, "must be 1 to 100 letters, digits and any of ._-"),
        (
            "[agent.b]\nlanguage = \"en\"",
            4,
            "needs a kind: \"echo\", \"survey\", \"pipeline\", \"realtime\" or \"remote\"",
        ),
        (
            "[agent.b]\nkind = \"parrot\"",
            5,
            "kind must be one of \"echo\", \"survey\", \"pipeline\", \"realtime\", \"remote\"",
        ),
        ("[agent.b]\nkind = \"survey\"", 4, "needs questions; begin each with [[agent.NAME.question]]"),
        ("[agents.b]\nkind = \"echo\"", 4, "the file has an unknown key; did you mean agent?"),
        ("[defaults]\nmax_faults = 99", 5, "max_faults must be a whole number from 1 to 20"),
        ("greeting = ", 4, "is no TOML"),
    ] {
        let told = mistakes(&format!("{SHORT}{added}\n"));
        assert!(told.len() == 1 && told[0].contains(cure), "{added}: {told:#?}");
        assert!(told[0].starts_with(&format!("line {line}")), "{added}: {told:?}");
        assert!(!told[0].contains("s3cret"));
    }
}

#[test]
fn a_survey_has_its_mistakes_told() {
    let question = "[agent.p]\nkind = \"survey\"\n[[agent.p.question]]\nid = \"q\"\nask = \"x\"\nkind = ";
    for (added, line, cure) in [
        ("\"open\"", 6, "kind of a question must be one of \"yes_no\", \"choice\", \"number\""),
        ("\"choice\"", 3, "a choice needs 2 to 10 options"),
        ("\"choice\"\noptions = [\"a\", { id = \"b\", key = \"1\" }]", 7, "the same id or the same key"),
        ("\"choice\"\noptions = [\"a\", { id = \"b\", key = \"#\" }]", 7, "have meanings of their own"),
        ("\"yes_no\"\nmin = 5", 7, "this kind of question has no min"),
        ("\"number\"\nmin = 5\nmax = 4", 6, "min must be at most max"),
        ("\"yes_no\"\nends = { maybe = \"completed\" }", 7, "must be yes or no; or skipped, or unanswered"),
        ("\"yes_no\"\nends = { no = \"nowhere\" }", 7, "there is no outcome of this name"),
        ("\"yes_no\"\n[[agent.p.question]]\nid = \"q\"\nask = \"y\"\nkind = \"yes_no\"", 8, "has the same id"),
        ("\"yes_no\"\n[[agent.p.rule]]\noutcome = \"completed\"", 7, "a rule needs all or any"),
        ("\"yes_no\"\n[[agent.p.rule]]\nall = { x = \"yes\" }\noutcome = \"completed\"", 8, "does not have"),
        ("\"number\"\n[[agent.p.rule]]\nall = { q = \"old\" }\noutcome = \"completed\"", 8, "18..65, 18.. or ..17"),
        ("\"yes_no\"\n[agent.p.results]\nurl = \"https://example.com\"", 7, "results need a secret"),
        ("\"yes_no\"\n[agent.p.results]\nsecret = \"SURVEY_SECRET\"", 7, "results need a url"),
        ("\"yes_no\"\ninstructions = \"x\"", 7, "question has an unknown key"),
    ] {
        let told = mistakes(&format!("{question}{added}\n"));
        assert!(told.len() == 1 && told[0].contains(cure), "{added}: {told:#?}");
        assert!(told[0].starts_with(&format!("line {line}, agent p: ")), "{added}: {told:?}");
    }
}

#[test]
fn functions_are_read() {
    let agents = read(
        r#"
        [agent.a]
        kind = "pipeline"
        instructions = "x"
        tools = ["hang_up", "order_status", "transfer", "book"]
        transfer_to = { sales = "+15550100", desk = "sip:desk@example.com" }

        [tool.order_status]
        description = "Looks an order up."
        url = "https://shop.example/orders/{order_id}?full=1"
        safe = true
        filler = "One moment, {parameters.first_name|please}."
        timeout_ms = 2_000
        headers = { Authorization = "Bearer {secret.shop}", X-File = "{secret.file}" }
        secrets = { shop = "SHOP_API_KEY", file = "/run/secrets/openai" }
        share = ["call_id", "from", "to", "parameters.customer"]
        [tool.order_status.parameters]
        type = "object"
        required = ["order_id"]
        properties.order_id = { type = "integer", description = "Its number", minimum = 1 }
        properties.size = { enum = ["s", 2, 1.5, true] }

        [tool.book]
        description = "Books a table."
        url = "http://10.0.0.7/tables"
        method = "POST"
        parameters = '{"type": "object", "properties": {"persons": {"type": "integer"}}}'

        [tool.unused]
        description = "x"
        url = "https://shop.example"
        "#,
    );
    let tools = &pipeline(&agents, 0).tools;
    let [
        ToolSettings::HangUp,
        ToolSettings::Function(look),
        ToolSettings::Transfer(people),
        ToolSettings::Function(book),
    ] = &tools[..]
    else {
        panic!("{tools:?}")
    };
    assert_eq!(people.expose()["sales"], "+15550100");
    assert_eq!((look.method.as_str(), look.body, look.safe), ("GET", Sends::Query, true));
    assert_eq!((look.limit, look.share.len()), (Duration::from_secs(2), 4));
    let schema = &look.spec.parameters;
    assert_eq!(schema["properties"]["order_id"]["minimum"], 1);
    assert_eq!(schema["properties"]["size"]["enum"], serde_json::json!(["s", 2, 1.5, true]));
    let values: Vec<_> =
        look.headers.iter().map(|(name, value)| (name.as_str(), value.expose().to_str().unwrap())).collect();
    assert_eq!(values, [("authorization", "Bearer value of SHOP_API_KEY"), ("x-file", "value of the file")]);
    assert_eq!(
        (book.method.as_str(), book.body, book.safe, book.limit),
        ("POST", Sends::Json, false, Duration::from_secs(5))
    );
    let shown = format!("{agents:?}");
    assert!(!shown.contains("value of") && !shown.contains("5550100") && !shown.contains("shop.example"), "{shown}");
}

#[test]
fn a_function_has_its_mistakes_told() {
    let tool = "[tool.t]\ndescription = \"x\"\n";
    let url = "url = \"https://a.example/\"\n";
    for (added, line, cure) in [
        ("", 4, "needs a url"),
        ("url = \"http://example.com\"", 6, "private network"),
        ("url = \"https://{host}/\"", 6, "behind the host"),
        ("url = \"https://a.example/{id}\"", 6, "do not have and require"),
        (&format!("{url}metod = \"POST\""), 7, "did you mean method?"),
        (&format!("{url}method = \"HEAD\""), 7, "method must be one of \"GET\", \"POST\""),
        (&format!("{url}body = \"json\""), 7, "has no body"),
        (&format!("{url}parameters = \"{{\""), 7, "parameters must be a table, or JSON in quotes"),
        (&format!("{url}parameters = {{ type = \"string\" }}"), 7, "type = \"object\""),
        (&format!("{url}parameters = {{ type = \"object\", x = 2026-01-01 }}"), 7, "of what JSON has"),
        (&format!("{url}headers = {{ Authorization = \"{{secret.x}}\" }}"), 7, "a secret that secrets does not name"),
        (&format!("{url}headers = {{ Host = \"x\" }}"), 7, "none of a header"),
        (&format!("{url}secrets = {{ x = \"NOT_SET\" }}"), 7, "variable that is not set"),
        (&format!("{url}secrets = {{ x = \"s3cret-key\" }}"), 7, "must not stand in this file"),
        (&format!("{url}share = [\"everything\"]"), 7, "share must list"),
        (&format!("{url}timeout_ms = 5"), 7, "from 100 to 60000"),
        (&format!("{url}[tool.hang_up]\n{url}description = \"x\""), 7, "the worker has itself"),
    ] {
        let told = mistakes(&format!("{SHORT}{tool}{added}\n"));
        assert!(told.len() == 1 && told[0].contains(cure), "{added}: {told:#?}");
        assert!(told[0].starts_with(&format!("line {line}, tool ")), "{added}: {told:?}");
        assert!(!told[0].contains("s3cret"));
    }
    for (added, cure) in [
        ("tools = [\"order\"]", "tools names one that there is not"),
        ("tools = [\"hang_up\", \"hang_up\"]", "the same tool twice"),
        ("tools = [\"transfer\"]", "to whom"),
        ("transfer_to = { sales = \"5550100\" }", "transfer_to needs a number"),
        ("transfer_to = {}", "1 to 100"),
    ] {
        let told = mistakes(&format!("{SHORT}{added}\n"));
        assert!(told.len() == 1 && told[0].starts_with("line 4, agent a: ") && told[0].contains(cure), "{told:?}");
    }
}

#[test]
fn every_key_of_a_tool_is_documented_and_the_examples_are_good() {
    let document = include_str!("../../../docs/tools.md");
    for key in tools::FUNCTION {
        assert!(document.contains(&format!("| `{key}`")), "{key}");
    }
    let examples: Vec<_> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        read(example);
    }
}

#[test]
fn mistakes_are_bounded_sorted_and_told_once() {
    let agents: String = (0..40).map(|n| format!("[agent.a{n}]\nkind = \"pipeline\"\n")).collect();
    let told = mistakes(&agents);
    assert_eq!((told.len(), told[20].as_str()), (21, "and 20 more mistakes"));
    assert!(told[0].starts_with("line 1, ") && told[19].starts_with("line 39, "), "{told:?}");
    let shared = format!("[defaults]\nmax_faults = 0\n{SHORT}{}", SHORT.replace("agent.a", "agent.b"));
    assert_eq!(mistakes(&shared), ["line 2, defaults: max_faults must be a whole number from 1 to 20"]);
    for empty in ["", "[defaults]\n", "agent = {}", "agent = 5", "agent = []"] {
        assert_eq!(mistakes(empty).len(), 1, "{empty}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "(\\[agent\\.a\\]\n|\\[\\[agent\\.a\\.question\\]\\]\n|kind = |\"survey\"|\"choice\"|ends|rule|=|\\[|\\]|\\{|\\}|,|\n|5|-|\"\\{parameters\\.|é|key){0,40}") {
        let _ = parse(&text, &defaults(None), &Keys);
    }
}

fn remote(text: &str) -> RemoteSettings {
    let agents = read(&format!("[agent.a]\nkind = \"remote\"\n{text}"));
    let Kind::Remote(remote) = &agents[0].kind else { panic!("{agents:?}") };
    (**remote).clone()
}

#[test]
fn a_remote_agent_needs_an_address_and_nothing_else() {
    let agent = remote("url = \"http://agent:9000\"");
    assert_eq!(
        (agent.url.as_str(), agent.token, agent.format),
        ("http://agent:9000/", None, RemoteFormat::Pcm(SampleRate::Hz16000))
    );
    assert_eq!((agent.interrupt, agent.share_numbers), (InterruptBy::Worker, false));
    assert_eq!((agent.connect_limit, agent.first_answer), (Duration::from_secs(5), Duration::from_secs(10)));
    assert_eq!((agent.speech_to_text, agent.text_to_speech), (None, None));
    // Without words, only a voice that lasts interrupts.
    assert_eq!(agent.turn.barge_in, Duration::from_millis(320));
    let agent = remote(
        "url = \"https://agent.example:443\"\ntoken = \"SPEECH_KEY\"\nformat = \"mulaw\"\ninterrupt = \"agent\"\n\
         share_numbers = true\nfirst_answer_ms = 500\napology = \"Sorry.\"\nturn = { barge_in_ms = 64 }\n\
         [agent.a.text_to_speech]\nvoice = \"nova\"",
    );
    assert_eq!((agent.format, agent.interrupt, agent.share_numbers), (RemoteFormat::Mulaw, InterruptBy::Agent, true));
    assert_eq!(agent.token.map(|token| token.expose().clone()).as_deref(), Some("value of SPEECH_KEY"));
    assert_eq!((agent.turn.barge_in, agent.first_answer), (Duration::from_millis(64), Duration::from_millis(500)));
    assert_eq!((agent.apology, agent.text_to_speech.is_some()), (crate::agent::text::Text::fixed("Sorry."), true));
    assert_eq!(remote("url = \"http://agent\"\nrate = 8000").format, RemoteFormat::Pcm(SampleRate::Hz8000));
}

#[test]
fn stages_of_the_defaults_are_not_paid_for_by_remote_agents_that_do_not_name_them() {
    let agents = read(
        "[defaults]\napology = \"Sorry.\"\nspeech_to_text = { prompt = \"x\" }\ntext_to_speech = { voice = \"nova\" }\n\
         [agent.a]\nkind = \"remote\"\nurl = \"http://agent:1\"\nspeech_to_text = {}",
    );
    let Kind::Remote(remote) = &agents[0].kind else { panic!("{agents:?}") };
    let prompt = remote.speech_to_text.as_ref().and_then(|stage| stage.options.prompt.as_deref());
    assert_eq!((prompt, &remote.text_to_speech), (Some("x"), &None));
}

#[test]
fn mistakes_about_remote_agents_are_told() {
    let told = |text: &str| mistakes(&format!("[agent.a]\nkind = \"remote\"\n{text}")).join("\n");
    for (text, expected) in [
        ("", "needs a url"),
        ("url = \"agent:9000\"", "url must begin with https://"),
        ("url = \"http://example.com\"", "only on this machine or a private network"),
        ("url = \"http://agent/v1\"", "url must end with the host or the port"),
        ("url = \"http://agent\"\ntoken = \"secret\"", "token must be the name of an environment variable"),
        ("url = \"http://agent\"\nrate = 24000", "rate must be 16000 or 8000"),
        ("url = \"http://agent\"\nrate = 16000\nformat = \"mulaw\"", "leave rate out"),
        ("url = \"http://agent\"\ninterrupt = \"nobody\"", "interrupt must be one of \"worker\", \"agent\""),
        ("url = \"http://agent\"\napology = \"Sorry.\"", "apology needs a voice"),
        ("url = \"http://agent\"\nturn = { fillers = [] }", "fillers does nothing for this kind of agent"),
        ("url = \"http://agent\"\nfirst_answer_ms = 1", "first_answer_ms must be a whole number from 100"),
        ("url = \"http://agent\"\ninstructions = \"x\"", "this kind of agent has no instructions"),
    ] {
        assert!(told(text).contains(expected), "{text}: {}", told(text));
    }
    assert!(mistakes("[agent.a]\nkind = \"echo\"\nurl = \"http://agent\"")[0].contains("has no url"));
}
