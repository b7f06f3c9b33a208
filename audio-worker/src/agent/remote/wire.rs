//! What a remote agent is told, as messages of `tandem.agent.v1`. Pure.

use bytes::Bytes;
use proto::agent::v1::{
    CallerAudio, ConverseRequest, Dtmf, Encoding, End, EndReason, Held, Interrupted, Notice, Played, Refused, Speech,
    Start, Turn, converse_request::Message,
};

use super::listening;
use crate::{
    agent::Opening,
    agents_file::{InterruptBy, RemoteFormat, RemoteSettings},
    dsp::mulaw,
};

/// The first message. `language` is the agent's own.
pub(super) fn start(opening: &Opening, name: &str, language: &str, settings: &RemoteSettings) -> ConverseRequest {
    let number = |number: &str| if settings.share_numbers { number.to_owned() } else { String::new() };
    let language = if opening.language.is_empty() { language } else { &opening.language };
    let (encoding, hz) = match settings.format {
        RemoteFormat::Pcm(rate) => (Encoding::PcmS16le, rate.hz()),
        RemoteFormat::Mulaw => (Encoding::Mulaw, 8000),
    };
    let interrupt_by = match settings.interrupt {
        InterruptBy::Worker => proto::agent::v1::InterruptBy::Worker,
        InterruptBy::Agent => proto::agent::v1::InterruptBy::Agent,
    };
    message(Message::Start(Box::new(Start {
        call_id: opening.call_id.clone(),
        from: number(opening.from.expose()),
        to: number(opening.to.expose()),
        agent: name.to_owned(),
        language: language.to_owned(),
        parameters: opening.parameters.expose().clone().into_iter().collect(),
        encoding: encoding.into(),
        sample_rate: u32::try_from(hz).unwrap_or_default(),
        can_say: settings.text_to_speech.is_some(),
        has_words: settings.speech_to_text.is_some(),
        interrupt_by: interrupt_by.into(),
        taken_over_from: opening.taken_over_from.clone().unwrap_or_default(),
    })))
}

/// The caller's sound as PCM.
pub(super) fn pcm(samples: &[i16], media_time_ms: u64) -> ConverseRequest {
    let mut sound = Vec::with_capacity(2 * samples.len());
    for sample in samples {
        sound.extend_from_slice(&sample.to_le_bytes());
    }
    message(Message::Audio(CallerAudio { media_time_ms, sound: sound.into() }))
}

/// The same of mu-law, at its own rate.
pub(super) fn decoded(codes: &[u8], media_time_ms: u64) -> ConverseRequest {
    let mut samples = Vec::with_capacity(codes.len());
    mulaw::decode(codes, &mut samples);
    pcm(&samples, media_time_ms)
}

/// The caller's sound as it came.
pub(super) fn codes(codes: &[u8], media_time_ms: u64) -> ConverseRequest {
    message(Message::Audio(CallerAudio { media_time_ms, sound: Bytes::copy_from_slice(codes) }))
}

pub(super) fn speech(speaking: bool, media_time_ms: u64) -> ConverseRequest {
    message(Message::Speech(Speech { speaking, media_time_ms }))
}

/// The `number`th turn of the caller.
pub(super) fn turn(number: u64, turn: &listening::Turn) -> ConverseRequest {
    let listening::Turn { text, began_ms, ended_ms, .. } = turn;
    message(Message::Turn(Turn { turn: number, text: text.clone(), began_ms: *began_ms, ended_ms: *ended_ms }))
}

pub(super) fn key(key: char) -> ConverseRequest {
    message(Message::Dtmf(Dtmf { digit: key.to_string() }))
}

pub(super) const fn played(played: Played) -> ConverseRequest {
    message(Message::Played(played))
}

pub(super) const fn interrupted(utterance: u64) -> ConverseRequest {
    message(Message::Interrupted(Interrupted { utterance }))
}

pub(super) fn notice(kind: &str, value: &str) -> ConverseRequest {
    message(Message::Notice(Notice { kind: kind.to_owned(), value: value.to_owned() }))
}

pub(super) const fn held(held: bool) -> ConverseRequest {
    message(Message::Held(Held { held }))
}

pub(super) fn refused(what: &str, reason: &str) -> ConverseRequest {
    message(Message::Refused(Refused { what: what.to_owned(), reason: reason.to_owned() }))
}

pub(super) fn end(reason: EndReason, code: i32, detail: &str) -> ConverseRequest {
    message(Message::End(End { reason: reason.into(), code, detail: detail.to_owned() }))
}

/// Audio is the only thing of which there is always more.
pub(super) const fn is_audio(request: &ConverseRequest) -> bool {
    matches!(request.message, Some(Message::Audio(_)))
}

const fn message(message: Message) -> ConverseRequest {
    ConverseRequest { message: Some(message) }
}
