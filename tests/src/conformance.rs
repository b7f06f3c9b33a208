//! Checks that any service of `tandem.agent.v1` should pass: it is dialled as the worker dials it, spoken to, interrupted, left
//! alone and hung up on. Each check says what is wrong and what to do.

use std::time::Duration;

use proto::agent::v1::{
    Dtmf, Encoding, End, EndReason, Held, Interrupted, Notice, Played, Speech, Turn, converse_request::Message as Tell,
};
use telemetry::Sensitive;
use tokio::time::timeout;
use tonic::Code;
use url::Url;

mod call;

use call::{Call, now, refusal};

/// Most sound ahead of the caller, in microseconds.
const MAX_AHEAD_US: u64 = 60_000_000;
/// How long an agent may take to stop when it is interrupted, and to end its stream after `End`.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What to check.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where the service is: `http://host:port`.
    pub url: Url,
    /// The token that it wants, if any.
    pub token: Option<Sensitive<String>>,
    /// How long it may take to be ready.
    pub ready_limit: Duration,
    /// How long it may take to say something after a turn of the caller.
    pub answer_limit: Duration,
}

impl Candidate {
    /// The service at `url`, with the limits of the worker.
    pub fn new(url: Url) -> Self {
        let (ready_limit, answer_limit) = (Duration::from_secs(10), Duration::from_secs(15));
        Self { url, token: None, ready_limit, answer_limit }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The check's name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What is wrong and what to do; nothing when it passed.
    pub wrong: Option<String>,
}

/// Names of the checks and what they are about, in the order in which they are made.
pub const CHECKS: [(&str, &str); 10] = [
    ("ready", "takes a call: Ready is its first message, in time"),
    ("speaks", "says something at the start or after a turn, in sound or words that can be taken"),
    ("encodings", "takes a call in 8 kHz PCM and in mu-law, or refuses it with INVALID_ARGUMENT"),
    ("messages", "goes on after keys, notices, reports, holds and messages that it does not know"),
    ("hold", "says nothing while the call is on hold, and can be heard after it"),
    ("interrupted", "stops an utterance that the caller interrupted"),
    ("pace", "is never more than 60 s of sound ahead of the caller"),
    ("end", "ends its stream with OK after End"),
    ("two_calls", "holds two calls at once; the end of one leaves the other alone"),
    ("lost_call", "takes the next call after one that was lost without a word"),
];

/// Makes all checks, one after the other.
pub async fn check(candidate: &Candidate) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (name, about) in CHECKS {
        let result = match name {
            "ready" => ready(candidate).await,
            "speaks" => speaks(candidate).await,
            "encodings" => encodings(candidate).await,
            "messages" => messages(candidate).await,
            "hold" => hold(candidate).await,
            "interrupted" => interrupted(candidate).await,
            "pace" => pace(candidate).await,
            "end" => end(candidate).await,
            "two_calls" => two_calls(candidate).await,
            _ => lost_call(candidate).await,
        };
        let wrong = result.err();
        let is_unusable = name == "ready" && wrong.is_some();
        verdicts.push(Verdict { name, about, wrong });
        if is_unusable {
            // All others would wait for the same.
            break;
        }
    }
    verdicts
}

async fn ready(candidate: &Candidate) -> Result<(), String> {
    Call::open(candidate, Encoding::PcmS16le, 16_000).await?.hang_up().await;
    Ok(())
}

async fn speaks(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    call.listen(Duration::from_secs(1)).await?;
    call.say_something().await?;
    let deadline = now() + candidate.answer_limit;
    while call.said == 0 {
        if now() >= deadline {
            let seconds = candidate.answer_limit.as_secs();
            return Err(format!(
                "nothing was said within {seconds} s after Turn; send AgentAudio, or Say where Start.can_say is true"
            ));
        }
        call.listen(Duration::from_millis(100)).await?;
    }
    call.hang_up().await;
    Ok(())
}

async fn encodings(candidate: &Candidate) -> Result<(), String> {
    for (encoding, rate, name) in [(Encoding::PcmS16le, 8000, "8 kHz PCM"), (Encoding::Mulaw, 8000, "mu-law")] {
        let heard = async {
            let mut call = Call::open(candidate, encoding, rate).await?;
            call.say_something().await?;
            call.listen(Duration::from_millis(500)).await?;
            call.hang_up().await;
            Ok::<_, String>(())
        };
        match heard.await {
            // Saying at once what it cannot take is as good.
            Err(what) if what.starts_with(&refusal(Code::InvalidArgument)) => {}
            heard => heard.map_err(|what| format!("with {name} (Start.encoding, Start.sample_rate): {what}"))?,
        }
    }
    Ok(())
}

async fn messages(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    let text = |text: &str| text.to_owned();
    let told = [
        ("a message that it does not know", None),
        ("Notice", Some(Tell::Notice(Notice { kind: text("answered_by"), value: text("human") }))),
        ("Dtmf", Some(Tell::Dtmf(Dtmf { digit: text("5") }))),
        ("Played", Some(Tell::Played(Played { utterance: 1, ms: 100, cleared: false }))),
        ("Played of an utterance that never was", Some(Tell::Played(Played { utterance: 999, ms: 0, cleared: true }))),
        ("Held", Some(Tell::Held(Held { held: true }))),
        ("Held", Some(Tell::Held(Held { held: false }))),
        ("Speech", Some(Tell::Speech(Speech { speaking: true, media_time_ms: 0 }))),
        ("Turn without words", Some(Tell::Turn(Turn { turn: 1, text: text(""), began_ms: 0, ended_ms: 0 }))),
    ];
    for (name, message) in told {
        call.tell(message).await.map_err(|what| format!("before {name}: {what}"))?;
        call.listen(Duration::from_millis(100)).await.map_err(|what| format!("after {name}: {what}"))?;
        if call.asked_to_end {
            // A key may well mean that.
            return Ok(());
        }
    }
    call.hang_up().await;
    Ok(())
}

async fn hold(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    call.say_something().await?;
    call.listen(Duration::from_millis(500)).await?;
    call.tell(Some(Tell::Held(Held { held: true }))).await?;
    let before = call.newest;
    if let Some(utterance) = before {
        call.tell(Some(Tell::Played(Played { utterance, ms: 40, cleared: true }))).await?;
    }
    call.listen(STOP_LIMIT).await?;
    let (said, ended) = (call.said, call.ended);
    call.listen(Duration::from_secs(1)).await?;
    if call.said > said && !call.asked_to_end {
        let seconds = STOP_LIMIT.as_secs();
        return Err(format!("speaks {seconds} s after Held, and nobody hears it; say nothing until held is false"));
    }
    call.tell(Some(Tell::Held(Held { held: false }))).await?;
    call.say_something().await?;
    let deadline = now() + candidate.answer_limit;
    // One that never says anything is another check's.
    while call.said == said && before.is_some() && !call.asked_to_end {
        if now() >= deadline {
            let seconds = candidate.answer_limit.as_secs();
            return Err(format!(
                "nothing was said within {seconds} s after a hold and a Turn; go on when held is false"
            ));
        }
        call.listen(Duration::from_millis(100)).await?;
    }
    // What was open is muted until it is ended.
    if call.said > said && call.newest == before && call.ended == ended {
        let number = before.unwrap_or_default();
        return Err(format!(
            "utterance {number} goes on after a hold, and is thrown away; send EndUtterance, or take another number"
        ));
    }
    call.hang_up().await;
    Ok(())
}

async fn interrupted(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    call.say_something().await?;
    call.listen(Duration::from_millis(500)).await?;
    let Some(newest) = call.newest else {
        // It said nothing yet, which another check is about.
        call.hang_up().await;
        return Ok(());
    };
    call.tell(Some(Tell::Interrupted(Interrupted { utterance: newest }))).await?;
    call.tell(Some(Tell::Played(Played { utterance: newest, ms: 40, cleared: true }))).await?;
    call.listen(STOP_LIMIT).await?;
    let before = call.said_of_newest;
    call.listen(Duration::from_secs(1)).await?;
    // An echo goes on as long as it hears; without a new number what it says is thrown away for ever.
    if call.newest == Some(newest) && call.said_of_newest > before && !call.has_ended_utterance {
        return Err(format!(
            "utterance {newest} goes on {} s after Interrupted, and is thrown away; send EndUtterance, or take another number",
            STOP_LIMIT.as_secs()
        ));
    }
    call.hang_up().await;
    Ok(())
}

async fn pace(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    call.say_something().await?;
    call.listen(Duration::from_secs(2)).await?;
    let said_us = call.said_us;
    call.hang_up().await;
    if said_us > MAX_AHEAD_US {
        let seconds = said_us / 1_000_000;
        return Err(format!(
            "{seconds} s of sound came, of which Played told nothing; wait for Played after 60 s at most"
        ));
    }
    Ok(())
}

async fn end(candidate: &Candidate) -> Result<(), String> {
    let mut call = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    call.listen(Duration::from_millis(300)).await?;
    let reason = EndReason::CallOver.into();
    call.tell(Some(Tell::End(End { reason, code: 0, detail: String::new() }))).await?;
    drop(call.tell);
    let ended = timeout(STOP_LIMIT, async {
        loop {
            match call.inbound.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => {
                    return Err(format!("the stream ended with {:?} after End; end it with OK", status.code()));
                }
            }
        }
    });
    ended.await.unwrap_or_else(|_| {
        let seconds = STOP_LIMIT.as_secs();
        Err(format!("the stream is open {seconds} s after End; read all that you are told, and end the stream then"))
    })
}

async fn two_calls(candidate: &Candidate) -> Result<(), String> {
    let first = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    let second = Call::open(candidate, Encoding::PcmS16le, 16_000).await;
    let mut second = second.map_err(|what| format!("while another call was live: {what}"))?;
    first.hang_up().await;
    second.say_something().await.map_err(|what| format!("after the other call had ended: {what}"))?;
    second.hang_up().await;
    Ok(())
}

async fn lost_call(candidate: &Candidate) -> Result<(), String> {
    let mut lost = Call::open(candidate, Encoding::PcmS16le, 16_000).await?;
    lost.listen(Duration::from_millis(200)).await?;
    drop(lost);
    let next = Call::open(candidate, Encoding::PcmS16le, 16_000).await;
    next.map_err(|what| format!("after a call that was lost: {what}"))?.hang_up().await;
    Ok(())
}
