//! Sound as an agent sends it, and what is wrong with what it sends. Pure.

use bytes::Bytes;
use proto::agent::v1::{AgentAudio, agent_audio};

use super::said::{MAX_TEXT_CHARS, MAX_TEXTS, MAX_WAITING, SECOND};
use crate::dsp::SampleRate;

/// What is wrong with something that an agent sent, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("audio of an odd number of bytes; PCM has two bytes a sample: send whole samples")]
    OddBytes,
    #[error("PCM of {0} Hz; send {names}, or resample before", names = SampleRate::NAMES)]
    UnknownRate(u32),
    #[error("a text of more than {MAX_TEXT_CHARS} characters; say it sentence by sentence")]
    TextTooLong,
    #[error(
        "too much ahead of the caller: at most 60 s of sound, {MAX_TEXTS} texts or {MAX_WAITING} messages; Played tells what was heard"
    )]
    TooFarAhead,
}

impl Broken {
    /// As a `google.rpc.Code`.
    pub(super) const fn code(self) -> i32 {
        match self {
            Self::OddBytes | Self::UnknownRate(_) | Self::TextTooLong => 3,
            Self::TooFarAhead => 8,
        }
    }
}

/// Sound as an agent sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audio {
    Pcm(SampleRate, Vec<i16>),
    Mulaw(Bytes),
}

impl Audio {
    /// Of a message; `None` when there is nothing in it. A rate of 0 is `usual`.
    pub(super) fn of(message: AgentAudio, usual: SampleRate) -> Result<Option<Self>, Broken> {
        match message.sound {
            None => Ok(None),
            Some(agent_audio::Sound::Mulaw(codes)) => Ok((!codes.is_empty()).then_some(Self::Mulaw(codes))),
            Some(agent_audio::Sound::Pcm(bytes)) => {
                let hz = message.sample_rate;
                let known = if hz == 0 { Some(usual) } else { SampleRate::from_hz(hz) };
                let rate = known.ok_or(Broken::UnknownRate(hz))?;
                let (samples, rest) = bytes.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(Broken::OddBytes);
                }
                let pcm: Vec<_> = samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
                Ok((!pcm.is_empty()).then_some(Self::Pcm(rate, pcm)))
            }
        }
    }

    /// How long it lasts, in microseconds.
    pub(super) fn us(&self) -> u64 {
        let (samples, hz) = match self {
            Self::Pcm(rate, pcm) => (pcm.len(), rate.hz()),
            Self::Mulaw(codes) => (codes.len(), SampleRate::Hz8000.hz()),
        };
        samples as u64 * SECOND / hz as u64
    }
}
