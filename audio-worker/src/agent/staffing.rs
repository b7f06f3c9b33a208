//! Makes agents of what the agents file says.

use std::{fmt::Display, sync::Arc};

use serde_json::{Map, Value};

use super::{
    Agent, Agents, Cast, Endpoint, NotHired, Opening, Stage, Talk,
    echo::Echo,
    pipeline::{Persona, Pipeline},
    realtime::{self, Realtime},
    remote::{Remote, Service},
    survey::{Surroundings, Survey, results::Results},
    tools::Toolbox,
};
use crate::{
    agents_file::{
        self as file, AgentSettings, Format, Kind, Provider, RealtimeSettings, RemoteSettings, StageSettings,
        SurveySettings,
    },
    conversation::now,
    provider::{
        Chat, Coding, SpeechToText, TextToSpeech,
        cached_voice::CachedVoice,
        deepgram,
        elevenlabs::{self, transcribe},
        endpoint::{Server, SettingsError},
        fallback::{Chain, Member},
        google::{self, recognize, synthesize},
        http::Client,
        openai::{self, chat, speech, transcriptions},
    },
};

impl Agents {
    /// The agents of a file, and `echo` where the file has none of that name; their providers are asked through `client`,
    /// and what came of surveys is left at `results`.
    /// One whose settings cannot work says so to each call that names it.
    pub fn of_file(agents: &[AgentSettings], client: &Client, results: &Results) -> Self {
        agents.iter().fold(Self::default().asking(client.places()), |staff, AgentSettings { name, language, kind }| {
            match kind {
                Kind::Echo => staff.with(name, |_| Box::new(Echo::default())),
                Kind::Survey(settings) => {
                    let parts = cast(&settings.talk, language, client);
                    let (settings, results) = (Arc::new((**settings).clone()), results.clone());
                    let (called, language) = (name.clone(), language.clone());
                    employ(staff, name, parts, move |cast, opening| {
                        let brain = survey(&settings, &results, (&called, &language), opening);
                        Box::new(Talk::new(Arc::clone(cast), Box::new(brain), opening))
                    })
                }
                Kind::Pipeline(settings) => {
                    let persona = chain(Stage::Chat, &settings.chat, client, thinking).map(|chat| {
                        let chat = Arc::new(chat);
                        let tools = Toolbox::of_file(&settings.tools, client);
                        Arc::new(Persona { chat, tools, settings: (**settings).clone() })
                    });
                    let hired = cast(&settings.talk, language, client).and_then(|cast| Ok((cast, persona?)));
                    employ(staff, name, hired, |(cast, persona), opening| {
                        let brain = Box::new(Pipeline::new(Arc::clone(persona), opening));
                        Box::new(Talk::new(Arc::clone(cast), brain, opening))
                    })
                }
                Kind::Realtime(settings) => {
                    let persona = speaking(settings, language, client);
                    staff.with_trial(name, move |opening| {
                        let persona = persona.as_ref().map_err(|why| NotHired::Failed(why.clone()))?;
                        let agent = Realtime::new(Arc::clone(persona), opening);
                        Ok(Box::new(agent.map_err(|error| NotHired::Failed(error.to_string()))?))
                    })
                }
                Kind::Remote(settings) => {
                    let hired = service(settings, name, language, client);
                    employ(staff, name, hired, |service, opening| Box::new(Remote::new(Arc::clone(service), opening)))
                }
            }
        })
    }
}

/// Adds an agent that is made of `parts`, or fails for their reason.
fn employ<P: Send + Sync + 'static>(
    staff: Agents,
    name: &str,
    parts: Result<P, impl Display + Send + Sync + 'static>,
    make: impl Fn(&P, &Opening) -> Box<dyn Agent> + Send + Sync + 'static,
) -> Agents {
    staff.with_trial(name, move |opening| match &parts {
        Ok(parts) => Ok(make(parts, opening)),
        Err(error) => Err(NotHired::Failed(error.to_string())),
    })
}

fn cast(talk: &file::Talk, language: &str, client: &Client) -> Result<Arc<Cast>, SettingsError> {
    let voice = chain(Stage::TextToSpeech, &talk.text_to_speech, client, voice)?;
    Ok(Arc::new(Cast {
        speech_to_text: Arc::new(chain(Stage::SpeechToText, &talk.speech_to_text, client, hearing)?),
        live: talk.speech_to_text.options.live,
        text_to_speech: Arc::new(CachedVoice::new(Arc::new(voice))),
        turn: talk.turn.clone(),
        language: language.to_owned(),
        apology: talk.apology.clone(),
        max_faults: talk.max_faults,
    }))
}

fn speaking(settings: &RealtimeSettings, language: &str, client: &Client) -> Result<Arc<realtime::Persona>, String> {
    let server = realtime::Server::new(&settings.url, settings.key.as_ref(), settings.patience);
    let voice = own_voice(settings.text_to_speech.as_ref(), client).map_err(|error| error.to_string())?;
    Ok(Arc::new(realtime::Persona {
        client: client.clone(),
        server: server.map_err(|error| error.to_string())?,
        place: client.places().at(Stage::Realtime, Provider::OpenAi.name(), &settings.url, settings.key.as_ref()),
        model: settings.model.clone(),
        patience: settings.patience,
        instructions: settings.instructions.clone(),
        greeting: settings.greeting.clone(),
        greeting_protected: settings.greeting_protected,
        apology: settings.apology.clone(),
        silence_prompts: settings.silence_prompts.clone(),
        goodbye: settings.goodbye.clone(),
        give_up: settings.give_up.clone(),
        max_faults: settings.max_faults,
        turn: settings.turn.clone(),
        language: language.to_owned(),
        voice,
        tools: Arc::new(Toolbox::of_file(&settings.tools, client)),
    }))
}

/// The voice of an agent that needs none for what it mostly says.
fn own_voice(
    stage: Option<&StageSettings<file::Voice>>,
    client: &Client,
) -> Result<Option<Arc<dyn TextToSpeech>>, SettingsError> {
    let chain = stage.map(|stage| chain(Stage::TextToSpeech, stage, client, voice)).transpose()?;
    Ok(chain.map(|chain| Arc::new(CachedVoice::new(Arc::new(chain))) as Arc<dyn TextToSpeech>))
}

/// Who does the work of a stage, and who stands in for it.
fn chain<O, P: ?Sized>(
    stage: Stage,
    settings: &StageSettings<O>,
    client: &Client,
    hire: fn(&StageSettings<O>, &Client) -> Result<Arc<P>, SettingsError>,
) -> Result<Chain<P>, SettingsError> {
    let member = |settings: &StageSettings<O>| {
        let place = client.places().at(stage, settings.provider.name(), &settings.url, settings.key.as_ref());
        Ok(Member { provider: hire(settings, client)?, place })
    };
    let first = member(settings)?;
    match &settings.fallback {
        Some(fallback) => Ok(Chain::of_two(first, member(&fallback.stage)?, fallback.after)),
        None => Ok(Chain::of(first)),
    }
}

fn service(settings: &RemoteSettings, name: &str, language: &str, client: &Client) -> Result<Arc<Service>, String> {
    let wrong = |error: SettingsError| error.to_string();
    let recogniser = settings
        .speech_to_text
        .as_ref()
        .map(|stage| chain(Stage::SpeechToText, stage, client, hearing))
        .transpose()
        .map_err(wrong)?;
    Ok(Arc::new(Service::new(
        (name, language),
        settings.clone(),
        client.places().at(Stage::Agent, "remote", &settings.url, settings.token.as_ref()),
        recogniser.map(|chain| Arc::new(chain) as Arc<dyn SpeechToText>),
        own_voice(settings.text_to_speech.as_ref(), client).map_err(wrong)?,
    )?))
}

fn survey(settings: &SurveySettings, results: &Results, named: (&str, &str), opening: &Opening) -> Survey {
    let began = now();
    let (to, results) = (settings.results.clone(), results.clone());
    let surroundings = Surroundings {
        elapsed: Box::new(move || now() - began),
        report: Box::new(move |report| {
            if let Some(to) = &to {
                results.leave(to, &report);
            }
        }),
    };
    let include_numbers = settings.results.as_ref().is_some_and(|results| results.include_numbers);
    Survey::new(Arc::clone(&settings.plan), named, include_numbers, opening, surroundings)
}

fn server<O>(stage: &StageSettings<O>) -> Server {
    Server { base: stage.url.clone(), key: stage.key.clone(), limits: stage.limits }
}

fn hearing(stage: &StageSettings<file::Hearing>, client: &Client) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    let (server, model) = (server(stage), stage.model.clone());
    let (prompt, temperature) = (stage.options.prompt.clone(), stage.options.temperature);
    match stage.provider {
        Provider::OpenAi => {
            openai::speech_to_text(client, transcriptions::Settings { server, model, prompt, temperature })
        }
        Provider::Google => {
            let ends = stage.options.live.endpoint == Endpoint::Provider;
            let streaming = stage.options.listens.then_some(recognize::Streams { ends });
            google::speech_to_text(client, recognize::Settings { server, model, prompt, streaming })
        }
        Provider::ElevenLabs if elevenlabs::realtime::is_realtime(&model) => {
            let file::Streaming { endpointing, keyterms, .. } = stage.options.streaming.clone();
            let ends_after = (stage.options.live.endpoint == Endpoint::Provider).then_some(endpointing);
            let settings = elevenlabs::realtime::Settings { server, model, ends_after, keyterms, temperature };
            elevenlabs::listening(client, &settings)
        }
        Provider::ElevenLabs => elevenlabs::speech_to_text(client, transcribe::Settings { server, model, temperature }),
        Provider::Deepgram => {
            let file::Streaming { endpointing, utterance_end, keyterms } = stage.options.streaming.clone();
            let settings = deepgram::Settings { server, model, endpointing, utterance_end, keyterms };
            deepgram::speech_to_text(client, &settings)
        }
    }
}

fn thinking(stage: &StageSettings<file::Thinking>, client: &Client) -> Result<Arc<dyn Chat>, SettingsError> {
    match stage.provider {
        Provider::OpenAi => {}
        Provider::Google | Provider::ElevenLabs | Provider::Deepgram => return Err(SettingsError::Unserved),
    }
    let file::Thinking { temperature, top_p, max_tokens } = stage.options;
    let extra: Map<_, _> = top_p.map(|top_p| ("top_p".to_owned(), Value::from(top_p))).into_iter().collect();
    let (server, model) = (server(stage), stage.model.clone());
    let settings = chat::Settings { server, model, temperature, max_tokens, extra, ..chat::Settings::default() };
    chat(client, settings)
}

fn voice(stage: &StageSettings<file::Voice>, client: &Client) -> Result<Arc<dyn TextToSpeech>, SettingsError> {
    let (server, model) = (server(stage), stage.model.clone());
    let file::Voice {
        voice,
        format,
        rate,
        speed,
        instructions,
        stability,
        similarity_boost,
        style,
        word_times,
        streams,
    } = stage.options.clone();
    let format = match format {
        Format::Pcm => Coding::Pcm(rate),
        Format::Wav => Coding::Wav,
        Format::Mp3 => Coding::Mp3,
        Format::Ulaw => Coding::Mulaw,
    };
    match stage.provider {
        Provider::OpenAi => {
            openai::text_to_speech(client, speech::Settings { server, model, voice, format, speed, instructions })
        }
        Provider::Google => google::text_to_speech(
            client,
            synthesize::Settings { server, model, voice, format, rate, speed, instructions, streams },
        ),
        Provider::ElevenLabs => elevenlabs::text_to_speech(
            client,
            elevenlabs::voice::Settings {
                server,
                model,
                voice,
                format,
                rate,
                word_times,
                speed,
                stability,
                similarity_boost,
                style,
            },
        ),
        Provider::Deepgram => Err(SettingsError::Unserved),
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Sensitive;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        agent::survey::sending,
        agents_file::{Defaults, Secrets},
    };

    struct Keys;

    impl Secrets for Keys {
        fn variable(&self, name: &str) -> Option<Sensitive<String>> {
            Some(name.to_owned().into())
        }

        fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
            Err(path.to_owned())
        }
    }

    #[tokio::test]
    async fn every_family_that_speaks_or_hears_is_hired_in_every_format() {
        let stages = [
            ("openai", "pcm"),
            ("openai", "wav"),
            ("openai", "mp3"),
            ("google", "ulaw"),
            ("google", "pcm"),
            ("google", "mp3"),
            ("elevenlabs", "ulaw"),
            ("elevenlabs", "pcm"),
            ("elevenlabs", "mp3"),
        ];
        let agents = stages.map(|(family, format)| {
            let stages = format!(
                "text_to_speech = {{ provider = \"{family}\", key = \"KEY\", format = \"{format}\" }}\n\
                 speech_to_text = {{ provider = \"{family}\", key = \"KEY\" }}\nchat = {{ key = \"KEY\" }}"
            );
            format!("[agent.{family}-{format}]\nkind = \"pipeline\"\ninstructions = \"x\"\n{stages}\n")
        });
        let agents = file::parse(&agents.concat(), &Defaults::default(), &Keys).unwrap();
        let client = Client::new(Handle::current()).unwrap();
        let agents = Agents::of_file(&agents, &client, &Results::start(sending::by(client.clone())));
        for (family, format) in stages {
            let hired = agents.hire(&format!("{family}-{format}"), &Opening::default());
            assert!(hired.is_ok(), "{family} {format}: {:?}", hired.err());
        }
    }
}
