//! `simulated-twilio serve`: the REST API on a port, until Ctrl-C, with one line for each call that is over.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use ::tests::sim::{
    Delivery, Route, bundled_speech, read_wav,
    rest::{
        AnsweredBy, Exchange, Fault, Gateway, Line, Mishap, Outcome, OwnedNumber, PlacedCall, Rate, RestPlan, Target,
    },
};
use anyhow::Context as _;
use tokio::sync::broadcast::error::RecvError;
use url::Url;

use super::{digit, duration};

/// How late an answer is with `--fault delay`: later than most clients wait.
const DELAY: Duration = Duration::from_secs(20);

/// An account of its own, on this machine.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the REST API listens; what a client takes for api.twilio.com. Port 0 for any that is free.
    #[arg(long, default_value = "127.0.0.1:8800")]
    listen: SocketAddr,
    /// Where all requests for TwiML, callbacks and streams go, in the clear, whatever host the URLs name.
    #[arg(long, default_value = "127.0.0.1:8000")]
    gateway: SocketAddr,
    /// What the gateway calls itself. `https://` and its address when left out.
    #[arg(long)]
    public_url: Option<Url>,
    /// Password of the account; signs requests.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    auth_token: String,
    /// The account.
    #[arg(long, default_value = "AC00000000000000000000000000000000")]
    account_sid: String,
    /// A key of the account, as `SK…=secret`; may be repeated.
    #[arg(long, value_parser = pair, value_name = "SID=SECRET")]
    api_key: Vec<(String, String)>,
    /// A number of the account; may be repeated.
    #[arg(long, default_value = "+15550199")]
    number: Vec<String>,
    /// What is set as VoiceUrl at every number.
    #[arg(long)]
    voice_url: Option<Url>,
    /// Calls that are dialled per second; more wait. 0 for no limit.
    #[arg(long, default_value_t = 1.0)]
    calls_per_second: f64,
    /// More are refused with 429 instead.
    #[arg(long)]
    refuse_over_rate: bool,
    #[command(flatten)]
    line: LineFlags,
    /// How status callbacks arrive: in-order, reversed or duplicated.
    #[arg(long, default_value = "in-order", value_parser = delivery)]
    callbacks: Delivery,
    /// Something that goes wrong, in the order given: 429, 429+5 (Retry-After), 401, 404, 500, 502 (a page in HTML),
    /// lost (the answer, after the call was made), silent, delay; as `list:429=3` for three requests for a list.
    /// Targets are create (the default), list, fetch, update, numbers, account and any.
    #[arg(long, value_parser = fault, value_name = "[TARGET:]WHAT[=TIMES]")]
    fault: Vec<Fault>,
}

/// What happens to every call that is dialled.
#[derive(clap::Args)]
#[command(next_help_heading = "Who is called")]
struct LineFlags {
    /// It is busy.
    #[arg(long, group = "outcome")]
    busy: bool,
    /// Nobody answers.
    #[arg(long, group = "outcome")]
    no_answer: bool,
    /// There is no such number.
    #[arg(long, group = "outcome")]
    failed: bool,
    /// Who answers: human, machine_start, machine_end_beep, machine_end_silence, machine_end_other, fax, unknown.
    #[arg(long, default_value = "human", value_parser = answered_by)]
    answered_by: AnsweredBy,
    /// How long it takes to tell.
    #[arg(long, default_value = "1s", value_parser = duration)]
    detected_after: Duration,
    /// How long it rings.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    ring: Duration,
    /// What is said: WAV, PCM 16 bit, mono, 8 kHz. Bundled speech when left out.
    #[arg(long, value_name = "WAV")]
    say: Option<PathBuf>,
    /// A key press and its time, as `1@2.5s`; may be repeated.
    #[arg(long, value_parser = digit)]
    dtmf: Vec<(Duration, char)>,
    /// Hang up so long after the stream began; two seconds after the last word when left out.
    #[arg(long, value_parser = duration)]
    hangup_after: Option<Duration>,
}

impl Arguments {
    pub(crate) async fn run(&self) -> anyhow::Result<ExitCode> {
        let exchange =
            Exchange::start(self.plan()?).await.with_context(|| format!("cannot listen at {}", self.listen))?;
        let mut settled = exchange.settled();
        say(&format!("listening on {}", exchange.api_url()));
        loop {
            tokio::select! {
                stopped = tokio::signal::ctrl_c() => {
                    stopped.context("cannot wait for Ctrl-C")?;
                    break;
                }
                call = settled.recv() => match call {
                    Ok(call) => say(&line(&call)),
                    Err(RecvError::Lagged(missed)) => say(&format!("{missed} calls were too fast to be told of")),
                    Err(RecvError::Closed) => break,
                },
            }
        }
        exchange.stop().await;
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self) -> anyhow::Result<RestPlan> {
        let public_url = match &self.public_url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("https://{}", self.gateway))?,
        };
        let number = |number: &String| {
            let own = OwnedNumber::new(number);
            match &self.voice_url {
                Some(url) => own.with("VoiceUrl", url.as_str()).with("VoiceMethod", "POST"),
                None => own,
            }
        };
        let unlimited = self.calls_per_second <= 0.0;
        let per_second = if unlimited { f64::INFINITY } else { self.calls_per_second };
        Ok(RestPlan {
            listen: self.listen,
            account_sid: self.account_sid.clone(),
            api_keys: self.api_key.clone(),
            numbers: self.number.iter().map(number).collect(),
            gateway: Some(Gateway { route: Route::Tcp(self.gateway), public_url }),
            line: self.line.plan()?,
            rate: Rate { per_second, refuses: self.refuse_over_rate },
            delivery: self.callbacks.clone(),
            faults: self.fault.clone(),
            ..RestPlan::new(&self.auth_token)
        })
    }
}

impl LineFlags {
    fn plan(&self) -> anyhow::Result<Line> {
        let outcome = match (self.busy, self.no_answer, self.failed) {
            (true, _, _) => Outcome::Busy,
            (_, true, _) => Outcome::NoAnswer,
            (_, _, true) => Outcome::Failed,
            (false, false, false) => Outcome::Answered,
        };
        Ok(Line {
            outcome,
            answered_by: self.answered_by,
            detected_after: self.detected_after,
            rings: self.ring,
            speech: match &self.say {
                Some(path) => read_wav(path)?.into(),
                None => bundled_speech().into(),
            },
            digits: self.dtmf.clone(),
            hangup_after: self.hangup_after,
            ..Line::default()
        })
    }
}

#[expect(clippy::print_stdout, reason = "the lines are the output")]
fn say(line: &str) {
    println!("{line}");
}

fn line(call: &PlacedCall) -> String {
    let told = call.callbacks.iter().filter(|(_, status)| status.is_some_and(|s| s < 300)).count();
    let mut line = format!("{} {} {}", call.sid, call.direction.as_str(), call.status.as_str());
    if let Some(who) = call.answered_by {
        line.push_str(&format!(", answered by {who}"));
    }
    if let Some(report) = &call.report {
        let seconds: f64 = report.streams.iter().map(|stream| stream.lasted.as_secs_f64()).sum();
        line.push_str(&format!(", {} streams in {seconds:.1} s", report.streams.len()));
        for finding in report.all_findings() {
            line.push_str(&format!("; {finding}"));
        }
    }
    line.push_str(&format!("; {told} of {} callbacks taken", call.callbacks.len()));
    line
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (sid, secret) = text.split_once('=').ok_or("a SID and its secret, such as SK…=secret")?;
    Ok((sid.to_owned(), secret.to_owned()))
}

fn answered_by(text: &str) -> Result<AnsweredBy, String> {
    let found = AnsweredBy::ALL.into_iter().find(|who| who.as_str() == text);
    found.ok_or_else(|| format!("{text:?} is not one of {}", AnsweredBy::ALL.map(AnsweredBy::as_str).join(", ")))
}

fn delivery(text: &str) -> Result<Delivery, String> {
    match text {
        "in-order" => Ok(Delivery::InOrder),
        "reversed" => Ok(Delivery::Reversed),
        "duplicated" => Ok(Delivery::Duplicated),
        _ => Err(format!("{text:?} is not in-order, reversed or duplicated")),
    }
}

/// `list:429=3`.
fn fault(text: &str) -> Result<Fault, String> {
    let (rest, times) = match text.split_once('=') {
        Some((rest, times)) => (rest, times.parse().map_err(|_| format!("{times:?} is not a number of times"))?),
        None => (text, 1),
    };
    let (target, what) = rest.split_once(':').unwrap_or(("create", rest));
    let target = match target {
        "any" => Target::Any,
        "create" => Target::Create,
        "list" => Target::List,
        "fetch" => Target::Fetch,
        "update" => Target::Update,
        "numbers" => Target::Numbers,
        "account" => Target::Account,
        _ => return Err(format!("there are no requests called {target:?}")),
    };
    let mishap = match what.split_once('+') {
        Some(("429", seconds)) => {
            let seconds = seconds.parse().map_err(|_| format!("{seconds:?} is not a number of seconds"))?;
            Mishap::TooMany { retry_after: Some(Duration::from_secs(seconds)) }
        }
        Some(_) => return Err("only 429 takes a Retry-After".to_owned()),
        None => match what {
            "429" => Mishap::TooMany { retry_after: None },
            "401" => Mishap::unauthorized(),
            "404" => Mishap::not_found(),
            "500" => Mishap::internal(),
            "502" => Mishap::Page { status: 502 },
            "lost" => Mishap::LostAnswer { carried_out: true },
            "silent" => Mishap::NoAnswer { carried_out: true },
            "delay" => Mishap::Delay(DELAY),
            _ => return Err(format!("{what:?} is nothing that can go wrong here")),
        },
    };
    Ok(Fault::on_create(mishap).target(target).times(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let listed = Fault::on_create(Mishap::TooMany { retry_after: None }).target(Target::List).times(3);
        assert_eq!(fault("list:429=3"), Ok(listed));
        let polite = Mishap::TooMany { retry_after: Some(Duration::from_secs(5)) };
        assert_eq!(fault("429+5"), Ok(Fault::on_create(polite)));
        for text in ["", "429=x", "nobody:429", "500+1", "429+soon", "rain"] {
            assert!(fault(text).is_err(), "{text}");
        }
    }
}
