//! `bench-talk`: starts a gateway and a worker of their own, a stand-in for OpenAI, and callers who converse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::tests::{
    openai::{OpenAi, Script, tone},
    pair::{PairArguments, PairProcesses},
    talk::{Course, TalkPlan, converse, knobs, recorded, talk_markdown},
};
use anyhow::Context as _;
use clap::Parser;

/// How long the pair may take to drain.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The stand-in's voice takes so long for a character.
const CHARACTER: Duration = Duration::from_millis(20);

/// Measures conversations: how soon callers are answered, how often cut off, how soon the agent stops for them.
///
/// Providers are stood in for: 120 ms to the words, 150 ms to the first token, 80 ms to the first sound.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    pair: PairArguments,
    /// Instead of calls: what each knob buys, in virtual time.
    #[arg(long)]
    knobs: bool,
    /// Calls at once for response, pauses and interruptions.
    #[arg(long, default_value_t = 5)]
    calls: u32,
    /// Things said in each of them.
    #[arg(long, default_value_t = 20)]
    turns: u32,
    /// Calls at once for the last step; none when 0.
    #[arg(long, default_value_t = 100)]
    crowd: u32,
    /// More lines of the agent's table of the agents file, such as `turn.endpoint_silence_ms = 500`.
    #[arg(long = "agent", value_name = "LINE")]
    agent: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the tables are the output, progress goes beside them")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.knobs {
        println!("{}", knobs()?);
        return Ok(());
    }
    let mut settings = arguments.pair.settings()?;
    std::fs::create_dir_all(&settings.logs).with_context(|| settings.logs.display().to_string())?;
    let server = stand_in().await?;
    let (agents, transcripts) = (settings.logs.join("agents.toml"), settings.logs.join("transcripts"));
    std::fs::write(&agents, agents_file(&arguments.agent))?;
    settings.max_calls = Some(arguments.crowd.max(arguments.calls) + 10);
    settings.environment.extend(
        [
            ("MAX_CALLS_PER_SECOND", "0"),
            ("DEFAULT_AGENT", "desk"),
            ("OPENAI_BASE_URL", server.base().as_str()),
            ("AGENTS_FILE", &agents.to_string_lossy()),
            ("TRANSCRIPTS_DIR", &transcripts.to_string_lossy()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let pair = PairProcesses::start(&settings).await?;
    let (call, watched, clips) = (pair.call_plan()?, pair.watched(), Arc::from(recorded()));
    let steps = [
        (Course::Turns, arguments.calls, arguments.turns),
        (Course::Pauses, arguments.calls, arguments.turns),
        (Course::Interruptions, arguments.calls, arguments.turns / 2),
        (Course::Turns, arguments.crowd, 8),
    ];
    let mut reports = Vec::new();
    for (course, calls, turns) in steps.into_iter().filter(|(_, calls, turns)| calls * turns > 0) {
        eprintln!("{calls} calls: {course:?}");
        let (clips, transcripts) = (Arc::clone(&clips), transcripts.as_path());
        let plan = TalkPlan { call: &call, watched: &watched, clips, transcripts, course, calls, turns };
        let report = converse(&plan).await?;
        eprintln!("{}", talk_markdown(std::slice::from_ref(&report)));
        reports.push(report);
    }
    pair.stop(STOP_LIMIT).await?;
    let table = talk_markdown(&reports);
    println!("{table}");
    arguments.pair.write(&serde_json::to_string_pretty(&reports)?, &table)
}

/// On a thread of its own, so that it and the callers do not hold each other up.
async fn stand_in() -> anyhow::Result<OpenAi> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot build a runtime")?;
    let (started, starting) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || {
        runtime.block_on(async {
            // Nobody waits any more only when this program ends.
            let _ = started.send(OpenAi::start(script()).await);
            std::future::pending::<()>().await;
        });
    })?;
    Ok(starting.await??)
}

/// No two answers are the same, so that none is remembered by the voice.
fn script() -> Script {
    let asked = AtomicU64::new(0);
    Script {
        think: Arc::new(move |_| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            format!(
                "This is answer {number}. It goes on for a while, so that callers who want to can interrupt number {number}."
            )
        }),
        say: Arc::new(|text, _| tone(440.0, CHARACTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX))),
        ..Script::default()
    }
}

fn agents_file(more: &[String]) -> String {
    let more = more.join("\n");
    format!(
        r#"
[agent.desk]
kind = "pipeline"
instructions = "Answer."
greeting = "Hello."
{more}
[agent.desk.speech_to_text]
model = "stand-in"
[agent.desk.chat]
model = "stand-in"
[agent.desk.text_to_speech]
model = "stand-in"
"#
    )
}
