//! `simulated-twilio`: places calls to a gateway as Twilio would and says what came of them; with `serve`, is the REST
//! API through which calls are made.
//!
//! Exit code 0 when every call went through without errors.

#[path = "simulated-twilio/serve.rs"]
mod serve;

use std::{
    io::IsTerminal as _,
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use ::tests::{
    replaying::{Replaying, replay_all},
    sim::{
        CallPlan, CallReport, Caller, Cue, Deed, FramePlan, Level, Method, Progress, Quirks, Turn, bundled_speech,
        read_wav, write_wav,
    },
};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::{task::JoinSet, time};
use url::Url;

/// A frame of the usual 20 ms; concurrent calls are spread over it.
const FRAME: Duration = Duration::from_millis(20);

/// Places phone calls to a gateway as Twilio would, without Twilio.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    target: Target,
    /// Told of the end of each call, as when it is set at the number.
    #[arg(long)]
    status_callback: Option<Url>,
    /// The caller's number.
    #[arg(long, default_value = "+15550100")]
    from: String,
    /// The number called.
    #[arg(long, default_value = "+15550199")]
    to: String,
    /// What the caller says: WAV, PCM 16 bit, mono, 8 kHz. Bundled speech when left out, or nothing with --turn.
    #[arg(long, value_name = "WAV")]
    say: Option<PathBuf>,
    /// A key press and its time, as `1@2.5s`; may be repeated.
    #[arg(long, value_parser = digit)]
    dtmf: Vec<(Duration, char)>,
    /// A turn of the caller, as `silent 800ms say yes.wav`: may be repeated, and each waits for the one before. First the
    /// cue, counted from there: `silent TIME`, the agent spoke and has been silent for so long; `speaking TIME`, it began
    /// to speak so long ago; `after TIME`. Then the deed: `say WAV`, `press KEYS` or `hang-up`.
    #[arg(long, value_parser = turn)]
    turn: Vec<Turn>,
    /// Writes what the caller heard in real time (of several calls, the first).
    #[arg(long, value_name = "WAV")]
    heard: Option<PathBuf>,
    /// Writes what the caller said.
    #[arg(long, value_name = "WAV")]
    sent: Option<PathBuf>,
    /// Concurrent calls.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
    /// Time over which the calls begin.
    #[arg(long, default_value = "1s", value_parser = duration)]
    ramp: Duration,
    /// Hang up after so long; when left out, two seconds after the last word, or with --turn after five minutes.
    #[arg(long, value_parser = duration)]
    hangup_after: Option<Duration>,
    /// Sizes of the caller's frames in bytes (8 per ms), taken in turn.
    #[arg(long, value_delimiter = ',', default_value = "160")]
    frame_bytes: Vec<usize>,
    /// Leave out silent frames.
    #[arg(long)]
    suppress_silence: bool,
    /// Do not compare what is heard with what was said: for many long calls.
    #[arg(long)]
    no_echo: bool,
    /// Print the reports as JSON.
    #[arg(long)]
    json: bool,
    /// Print a line per second even when standard error is not a terminal.
    #[arg(long)]
    progress: bool,
    /// Warnings count as failures too.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    quirks: QuirkFlags,
}

#[derive(Subcommand)]
enum Command {
    /// Be Twilio's REST API until Ctrl-C, and carry the calls that are made through it.
    Serve(Box<serve::Arguments>),
    /// Plays captured calls again and compares what the gateway says now with what it said then.
    Replay(Box<Replay>),
}

#[derive(clap::Args)]
struct Replay {
    #[command(flatten)]
    replaying: Replaying,
    #[command(flatten)]
    target: Target,
}

/// Where calls go.
#[derive(clap::Args)]
struct Target {
    /// Where the gateway listens, by address or name; connections go there in the clear, whatever the URLs say.
    #[arg(long, default_value = "127.0.0.1:8000", value_parser = address)]
    gateway: SocketAddr,
    /// What the gateway calls itself, of which scheme and host count; requests are signed with it. `https://` and
    /// the gateway's address when left out.
    #[arg(long, env = "TWILIO_VOICE_WEBHOOK_URL")]
    public_url: Option<Url>,
    /// Signs requests; of several with commas the first. Needed.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    auth_token: Option<String>,
    /// The account that the number belongs to; a gateway with a TWILIO_ACCOUNT_SID takes no other.
    #[arg(long, env = "TWILIO_ACCOUNT_SID")]
    account_sid: Option<String>,
    /// Path of the voice webhook.
    #[arg(long, default_value = "/voice/incoming")]
    path: String,
}

/// `host:port`, of which the host may be a name.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "that name has no address".to_owned())
}

/// What Twilio's documentation leaves open; each flag chooses the other answer than the default.
#[derive(clap::Args)]
#[command(next_help_heading = "Open questions about Twilio")]
struct QuirkFlags {
    /// The action is not asked after the socket was lost without a close frame.
    #[arg(long)]
    no_action_after_loss: bool,
    /// The action is asked when the caller hangs up.
    #[arg(long)]
    action_after_hangup: bool,
    /// Close code 1000 is not logged as 31921.
    #[arg(long)]
    no_log_of_normal_close: bool,
    /// Pings are not answered.
    #[arg(long)]
    no_pongs: bool,
    /// Connect and handshake of the stream may take so long.
    #[arg(long, default_value = "5s", value_parser = duration)]
    handshake_timeout: Duration,
    /// Largest message taken from the server.
    #[arg(long, default_value_t = Quirks::default().max_message_bytes)]
    max_message_bytes: usize,
    /// `chunk` counts the server's media as well.
    #[arg(long)]
    chunk_over_stream: bool,
    /// The upgrade is signed over the URL with a slash at the end.
    #[arg(long)]
    sign_trailing_slash: bool,
    /// Counters are JSON numbers, not strings.
    #[arg(long)]
    numbers: bool,
    /// The call ends without `stop` and without a close frame.
    #[arg(long)]
    vanish: bool,
    /// Unknown events and fields are mixed in.
    #[arg(long)]
    extras: bool,
}

impl From<&QuirkFlags> for Quirks {
    fn from(flags: &QuirkFlags) -> Self {
        Self {
            action_after_loss: !flags.no_action_after_loss,
            action_after_hangup: flags.action_after_hangup,
            logs_normal_close: !flags.no_log_of_normal_close,
            answers_pings: !flags.no_pongs,
            handshake_timeout: flags.handshake_timeout,
            max_message_bytes: flags.max_message_bytes,
            chunk_over_stream: flags.chunk_over_stream,
            sign_trailing_slash: flags.sign_trailing_slash,
            numbers_as_strings: !flags.numbers,
            sends_stop: !flags.vanish,
            extras: flags.extras,
        }
    }
}

impl Target {
    fn plan(&self) -> anyhow::Result<CallPlan> {
        let mut public_url = match &self.public_url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("https://{}", self.gateway))?,
        };
        public_url.set_path("");
        public_url.set_query(None);
        let auth_token = self.auth_token.as_deref().context("--auth-token or TWILIO_AUTH_TOKEN is needed")?;
        let auth_token = auth_token.split(',').next().unwrap_or_default().trim();
        let mut plan = CallPlan::new(self.gateway, public_url, auth_token);
        if let Some(sid) = &self.account_sid {
            plan.account_sid.clone_from(sid);
        }
        plan.path.clone_from(&self.path);
        Ok(plan)
    }
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<CallPlan> {
        let mut plan = self.target.plan()?;
        plan.status_callback = self.status_callback.clone().map(|url| (Method::Post, url));
        plan.from.clone_from(&self.from);
        plan.to.clone_from(&self.to);
        plan.speech = match &self.say {
            Some(path) => read_wav(path)?.into(),
            None if self.turn.is_empty() => bundled_speech().into(),
            None => [].into(),
        };
        plan.turns.clone_from(&self.turn);
        plan.frames = FramePlan { sizes: self.frame_bytes.clone(), suppress_silence: self.suppress_silence };
        plan.digits.clone_from(&self.dtmf);
        plan.hangup_after = self.hangup_after;
        plan.compares_echo = !self.no_echo;
        plan.quirks = Quirks::from(&self.quirks);
        Ok(plan)
    }

    fn is_ok(&self, report: &CallReport) -> bool {
        let warned = report.level() >= Some(Level::Warning);
        report.is_ok() && !(self.strict && warned)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Serve(serve)) => return serve.run().await,
        Some(Command::Replay(replay)) => {
            let all_same = replay_all(&replay.replaying, &replay.target.plan()?).await?;
            return Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        None => {}
    }
    let plan = arguments.plan()?;
    let shows_progress = arguments.progress || std::io::stderr().is_terminal();
    let progress = Arc::clone(&plan.progress);
    let calls = place_all(plan, &arguments);
    let reports = if shows_progress {
        tokio::select! {
            reports = calls => reports,
            () = show(&progress) => unreachable!("progress never ends"),
        }
    } else {
        calls.await
    };
    print(&reports, arguments.json)?;
    if let (Some(path), Some(report)) = (&arguments.heard, reports.first()) {
        write_wav(path, &report.heard_pcm()).with_context(|| path.display().to_string())?;
    }
    if let (Some(path), Some(report)) = (&arguments.sent, reports.first()) {
        write_wav(path, &report.sent_pcm()).with_context(|| path.display().to_string())?;
    }
    let all_ok = reports.iter().all(|report| arguments.is_ok(report));
    Ok(if all_ok && !reports.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Places the calls, spread over the ramp and over the 20 ms of a frame; reports in that order.
async fn place_all(plan: CallPlan, arguments: &Arguments) -> Vec<CallReport> {
    let mut calls = JoinSet::new();
    for index in 0..arguments.calls {
        let ramp = arguments.ramp * index / arguments.calls;
        let phase = FRAME * index / arguments.calls;
        // Whole frames of the ramp plus this call's share of one frame.
        let frames = ramp.as_millis() / FRAME.as_millis();
        let delay = FRAME * u32::try_from(frames).unwrap_or(u32::MAX) + phase;
        let caller = Caller::new(plan.clone());
        calls.spawn(async move {
            time::sleep(delay).await;
            (index, caller.place().await)
        });
    }
    let mut reports = calls.join_all().await;
    reports.sort_by_key(|&(index, _)| index);
    reports.into_iter().map(|(_, report)| report).collect()
}

#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
async fn show(progress: &Progress) {
    loop {
        time::sleep(Duration::from_secs(1)).await;
        eprintln!("{}", progress.line());
    }
}

#[expect(clippy::print_stdout, reason = "the report is the output")]
fn print(reports: &[CallReport], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(reports)?);
        return Ok(());
    }
    for report in reports {
        print!("{report}");
    }
    if reports.len() > 1 {
        let ok = reports.iter().filter(|report| report.is_ok()).count();
        println!("{ok} of {} calls ok", reports.len());
    }
    Ok(())
}

/// `2.5s`, `250ms` or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a time"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

/// `1@2.5s`.
fn digit(text: &str) -> Result<(Duration, char), String> {
    let wrong = || format!("{text:?} is not a key and a time, such as 1@2.5s");
    let (key, time) = text.split_once('@').ok_or_else(wrong)?;
    let mut keys = key.chars();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok((duration(time)?, key)),
        _ => Err(wrong()),
    }
}

/// `silent 800ms say yes.wav`.
fn turn(text: &str) -> Result<Turn, String> {
    let mut words = text.trim().splitn(4, ' ');
    let (cue, time) = (words.next().unwrap_or_default(), duration(words.next().unwrap_or_default())?);
    let cue = match cue {
        "silent" => Cue::Silent(time),
        "speaking" => Cue::Speaking(time),
        "after" => Cue::After(time),
        _ => return Err(format!("{cue:?} is not silent, speaking or after")),
    };
    let deed = match (words.next(), words.next()) {
        (Some("say"), Some(path)) => Deed::Say(read_wav(path.as_ref()).map_err(|error| format!("{error:#}"))?.into()),
        (Some("press"), Some(keys)) if keys.chars().all(is_key) => Deed::Press(keys.to_owned()),
        (Some("hang-up"), None) => Deed::HangUp,
        _ => return Err("say WAV, press KEYS or hang-up is missing".to_owned()),
    };
    Ok(Turn { cue, deed })
}

fn is_key(key: char) -> bool {
    "0123456789*#".contains(key)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent_and_default_to_the_default_quirks() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["simulated-twilio", "--auth-token", "t"]);
        assert_eq!(Quirks::from(&arguments.quirks), Quirks::default());
        assert!(Arguments::try_parse_from(["simulated-twilio", "serve", "--auth-token", "t"]).is_ok());
        assert!(
            Arguments::try_parse_from(["simulated-twilio", "serve", "--auth-token", "t", "--busy", "--no-answer"])
                .is_err()
        );
    }

    #[test]
    fn replays_have_flags_of_their_own_and_the_same_target() {
        let line = ["simulated-twilio", "replay", "a.jsonl", "b.jsonl", "--fast", "--auth-token", "t", "--path", "/x"];
        let arguments = Arguments::parse_from(line);
        let Some(Command::Replay(replay)) = arguments.command else { panic!("no replay") };
        let target = replay.target;
        assert_eq!(target.plan().unwrap().path, "/x");
        assert!(Arguments::try_parse_from(["simulated-twilio", "replay"]).is_err(), "no file");
    }

    #[test]
    fn times_and_digits_are_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("-1s").is_err());
        assert_eq!(digit("#@2.5s"), Ok((Duration::from_millis(2500), '#')));
        let keys = Turn { cue: Cue::Silent(Duration::from_millis(800)), deed: Deed::Press("12#".to_owned()) };
        assert_eq!(turn("silent 800ms press 12#"), Ok(keys));
        assert_eq!(turn("after 1s hang-up").map(|turn| turn.deed), Ok(Deed::HangUp));
        for wrong in ["", "silent", "silent 1s", "silent 1s press x", "soon 1s hang-up", "after 1s hang-up now"] {
            assert!(turn(wrong).is_err(), "{wrong}");
        }
        let missing = turn("speaking 1s say no such file.wav").unwrap_err();
        assert!(missing.contains("no such file.wav"), "{missing}");
        assert!(digit("12@1s").is_err() && digit("a@1s").is_err() && digit("1").is_err());
    }
}
