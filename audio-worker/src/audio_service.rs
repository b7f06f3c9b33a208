//! `AudioService`: the signal path on its own, for whole clips.

use proto::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, ResampleRequest, ResampleResponse,
    audio_service_server::AudioService,
};
use tonic::{Request, Response, Status};

use crate::{
    conversation::ConversationError,
    dsp::{SampleRate, mulaw, resample_clip},
    status::Problem,
};

/// Longest clip, in seconds.
const MAX_SECONDS: usize = 60;

/// Largest message of the service: the longest clip of 16-bit samples at the highest rate, and its frame.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_SECONDS * SampleRate::Hz48000.hz() * 2 + 1024;

/// The service. It has no state: each clip is its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audio;

#[tonic::async_trait]
impl AudioService for Audio {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let DecodeRequest { mulaw: codes, sample_rate } = request.into_inner();
        let to = match sample_rate {
            0 | 16_000 => SampleRate::Hz16000,
            8_000 => SampleRate::Hz8000,
            _ => return Err(field("sample_rate", "must be 8000 or 16000; use Resample for others")),
        };
        let length = codes.len();
        within("mulaw", length, SampleRate::Hz8000)?;
        let mut pcm = Vec::with_capacity(length);
        mulaw::decode(&codes, &mut pcm);
        let pcm = resample(&pcm, SampleRate::Hz8000, to)?;
        Ok(Response::new(DecodeResponse { pcm: to_bytes(&pcm).into(), sample_rate: hz(to) }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let EncodeRequest { pcm, sample_rate } = request.into_inner();
        let from = rate("sample_rate", sample_rate, SampleRate::Hz16000)?;
        let pcm = resample(&samples(&pcm, from)?, from, SampleRate::Hz8000)?;
        let mut codes = Vec::with_capacity(pcm.len());
        mulaw::encode(&pcm, &mut codes);
        Ok(Response::new(EncodeResponse { mulaw: codes.into() }))
    }

    async fn resample(&self, request: Request<ResampleRequest>) -> Result<Response<ResampleResponse>, Status> {
        let ResampleRequest { pcm, from_rate, to_rate } = request.into_inner();
        let from = rate("from_rate", from_rate, SampleRate::Hz8000)?;
        let to = rate("to_rate", to_rate, SampleRate::Hz16000)?;
        let pcm = resample(&samples(&pcm, from)?, from, to)?;
        Ok(Response::new(ResampleResponse { pcm: to_bytes(&pcm).into(), sample_rate: hz(to) }))
    }
}

fn rate(name: &'static str, hz: u32, default: SampleRate) -> Result<SampleRate, Status> {
    match hz {
        0 => Ok(default),
        hz => SampleRate::from_hz(hz).ok_or_else(|| field(name, &format!("must be {}", SampleRate::NAMES))),
    }
}

fn samples(pcm: &[u8], rate: SampleRate) -> Result<Vec<i16>, Status> {
    if !pcm.len().is_multiple_of(2) {
        return Err(field("pcm", "must be 16-bit samples, so an even number of bytes"));
    }
    if pcm.starts_with(b"RIFF") || pcm.starts_with(b"ID3") {
        return Err(field("pcm", "looks like a WAV or MP3 file; send the bare samples without a header"));
    }
    within("pcm", pcm.len() / 2, rate)?;
    Ok(pcm.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect())
}

fn within(name: &'static str, samples: usize, rate: SampleRate) -> Result<(), Status> {
    if samples > MAX_SECONDS * rate.hz() {
        return Err(field(name, "at most 60 s of audio a request"));
    }
    Ok(())
}

fn resample(pcm: &[i16], from: SampleRate, to: SampleRate) -> Result<Vec<i16>, Status> {
    Ok(resample_clip(pcm, from, to).map_err(|error| Problem::Conversation(ConversationError::Signal(error)))?)
}

fn field(field: &'static str, what: &str) -> Status {
    Problem::Field { field, what: what.to_owned() }.into()
}

fn to_bytes(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn hz(rate: SampleRate) -> u32 {
    u32::try_from(rate.hz()).unwrap_or_default()
}
