//! A voice that is the body of an answer: its bytes become sound as they come.

use bytes::Bytes;

use super::{
    Fault, Limits, ProviderError, Sound, Streaming,
    exchange::{self, Answer, Exchange, Outlet},
    fault::{self, Secrets, error},
    http::Client,
    intake::{Coding, Intake, NoSound},
    question::Question,
};
use crate::dsp::SampleRate;

/// Most that is read of a text that came instead of a voice.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Asks for a voice that is the body of the answer, and should come as `coding`.
pub(super) fn speak<Q: Question>(client: &Client, limits: Limits, question: Q, coding: Coding) -> Streaming<Sound> {
    exchange::stream(client, limits, Spoken { question, coding })
}

struct Spoken<Q> {
    question: Q,
    coding: Coding,
}

impl<Q: Question> Exchange for Spoken<Q> {
    type Piece = Sound;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        let (answer, secrets) = self.question.ask(client, outlet).await?;
        play(answer, outlet, self.coding, &secrets).await
    }
}

/// Gives the voice that `answer` carries, which should come as `coding`.
///
/// # Errors
/// When it breaks off, takes too long, or is none.
async fn play(
    mut answer: Answer,
    outlet: &mut Outlet<Sound>,
    coding: Coding,
    secrets: &Secrets,
) -> Result<(), ProviderError> {
    let content_type = answer.content_type();
    if is_text(&content_type) {
        return Err(text_instead(Vec::new(), &mut answer, outlet, secrets).await);
    }
    if let (Coding::Pcm(set), Some(told)) = (coding, answer.rate())
        && SampleRate::from_hz(told) != Some(set)
    {
        let what = format!("sound of {told} Hz where {} Hz are set", set.hz());
        return Err(error(Fault::Malformed, &what));
    }
    let mut intake = Intake::new(coding, &content_type);
    loop {
        let bytes = outlet.chunk(&mut answer).await?;
        let is_all = bytes.is_none();
        let taken = match bytes {
            Some(bytes) => intake.push(bytes),
            None => intake.finish(),
        };
        let sound = match taken {
            Ok(sound) => sound,
            Err(NoSound::Text(text)) => return Err(text_instead(text, &mut answer, outlet, secrets).await),
            Err(none) => return Err(none.into()),
        };
        if let Some(sound) = sound {
            give(sound, outlet).await;
        }
        if is_all {
            return Ok(());
        }
    }
}

/// Gives the voice that `bytes` are.
///
/// # Errors
/// When they are none.
pub(super) async fn play_whole(
    mut bytes: Bytes,
    outlet: &mut Outlet<Sound>,
    coding: Coding,
) -> Result<(), ProviderError> {
    let mut intake = Intake::new(coding, "");
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        if let Some(sound) = intake.push(piece)? {
            give(sound, outlet).await;
        }
    }
    if let Some(sound) = intake.finish()? {
        give(sound, outlet).await;
    }
    Ok(())
}

/// Gives `sound` in pieces of a bounded size: so many of them wait for whoever asked.
pub(super) async fn give(sound: Sound, outlet: &mut Outlet<Sound>) {
    match sound {
        Sound::Pcm(rate, pcm) if pcm.len() > MAX_GIVEN_BYTES / 2 => {
            for piece in pcm.chunks(MAX_GIVEN_BYTES / 2) {
                outlet.give(Sound::Pcm(rate, piece.to_vec())).await;
            }
        }
        Sound::Mulaw(mut codes) if codes.len() > MAX_GIVEN_BYTES => {
            while !codes.is_empty() {
                outlet.give(Sound::Mulaw(codes.split_to(codes.len().min(MAX_GIVEN_BYTES)))).await;
            }
        }
        Sound::Pcm(..) | Sound::Mulaw(_) | Sound::Word { .. } => outlet.give(sound).await,
    }
}

/// Largest piece of sound that is given.
const MAX_GIVEN_BYTES: usize = 64 << 10;

/// Bytes that become sound at once: the first of them are heard while others are still decoded.
const PIECE_BYTES: usize = 16 << 10;

/// What came instead of a voice; a server may say why.
async fn text_instead(
    mut text: Vec<u8>,
    answer: &mut Answer,
    outlet: &Outlet<Sound>,
    secrets: &Secrets,
) -> ProviderError {
    text.extend(outlet.whole(answer, MAX_TEXT_BYTES).await.unwrap_or_default());
    let message = fault::message(&text, secrets);
    let what = message.map_or_else(String::new, |message| format!(": {message}"));
    error(Fault::Malformed, &format!("text where sound belongs{what}"))
}

/// Whether a content type is one of text.
fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || ["json", "xml", "html"].iter().any(|kind| content_type.ends_with(kind))
}
