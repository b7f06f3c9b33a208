//! A provider and the one that stands in for it, behind the same port: when the first fails or keeps silent, the other is
//! asked within the same request, as long as nothing was given out.
//!
//! Whoever gives the first piece answers; the others are dropped. One whose breaker is open is asked only when there is
//! nobody else. Every request is metered here, so a provider without another one is behind this, too.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{
    Chat, Message, Pending, Sound, Speech, SpeechToText, Streaming, TextToSpeech, Token, ToolSpec,
    listening::Listening,
    meter::{Cost, Meter},
    place::{Place, now},
};

mod bill;
mod listened;
mod race;

use listened::Listened;
use race::{Piece, Race, nothing};

/// Who is asked, in this order.
pub struct Chain<P: ?Sized> {
    members: Arc<[Member<P>]>,
    /// How long the first may keep silent before the next is asked beside it.
    after: Duration,
    meter: Meter,
    /// Answers that did not come from the first.
    stand_ins: Arc<AtomicU64>,
}

/// A provider and where it is.
pub struct Member<P: ?Sized> {
    /// What is asked.
    pub provider: Arc<P>,
    /// Its breaker is there.
    pub place: Arc<Place>,
}

impl<P: ?Sized> Chain<P> {
    /// `first` alone.
    pub fn of(first: Member<P>) -> Self {
        let (meter, stand_ins) = (Meter::default(), Arc::default());
        Self { members: [first].into(), after: Duration::MAX, meter, stand_ins }
    }

    /// `first`, and `second` when the first fails or gives nothing in the time `after`.
    pub fn of_two(first: Member<P>, second: Member<P>, after: Duration) -> Self {
        Self { members: [first, second].into(), after, ..Self::of_none() }
    }

    fn of_none() -> Self {
        Self { members: [].into(), after: Duration::MAX, meter: Meter::default(), stand_ins: Arc::default() }
    }

    /// The same, with what it costs told to `meter`.
    fn for_call(&self, meter: &Meter) -> Self {
        let (members, stand_ins) = (Arc::clone(&self.members), Arc::clone(&self.stand_ins));
        Self { members, after: self.after, meter: meter.clone(), stand_ins }
    }

    /// Asks; what the request costs is `cost`, tokens apart.
    fn ask<T: Piece>(&self, cost: Cost, ask: impl Fn(&P) -> Streaming<T> + Send + 'static) -> Race<T, P> {
        Race::begin(self, Cost { requests: 1, ..cost }, Box::new(ask))
    }
}

impl SpeechToText for Chain<dyn SpeechToText> {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        let cost = Cost { audio_ms: speech.pcm.len() as u64 / 16, ..Cost::default() };
        let mut race = self.ask(cost, move |provider| Box::pin(stream::once(provider.transcribe(speech.clone()))));
        Box::pin(async move {
            let words = race.next().await;
            // Taken to its end it was not given up.
            let _ = race.next().await;
            words.unwrap_or_else(|| Err(nothing()))
        })
    }

    fn wants_native(&self) -> bool {
        self.members.iter().any(|member| member.provider.wants_native())
    }

    /// The first that is not left alone, if it can: who stands in for one that takes recordings is asked for recordings, when
    /// that fails. When all are left alone, the first that can.
    fn listen(&self, language: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        let moment = now();
        let begin = |provider: &Arc<dyn SpeechToText>, asking| {
            let session = provider.listen(language, earlier.clone())?;
            let listened = Listened::begin(session, asking, earlier.len(), &self.meter);
            Some(Box::new(listened) as Box<dyn Listening>)
        };
        let first = self.members.iter().find_map(|member| Some((member, member.place.ask(moment)?)));
        if let Some((Member { provider, .. }, asking)) = first {
            return begin(provider, asking);
        }
        self.members.iter().find_map(|Member { provider, place }| begin(provider, place.insist()))
    }

    fn warm(&self) {
        self.members.iter().for_each(|member| member.provider.warm());
    }

    fn metered(&self, meter: &Meter) -> Option<Arc<dyn SpeechToText>> {
        Some(Arc::new(self.for_call(meter)))
    }
}

impl Chat for Chain<dyn Chat> {
    fn answer(&self, prompt: Vec<Message>, tools: &[ToolSpec]) -> Streaming<Token> {
        let tools: Arc<[ToolSpec]> = tools.into();
        Box::pin(self.ask(Cost::default(), move |provider| provider.answer(prompt.clone(), &tools)))
    }

    fn warm(&self) {
        self.members.iter().for_each(|member| member.provider.warm());
    }

    fn metered(&self, meter: &Meter) -> Option<Arc<dyn Chat>> {
        Some(Arc::new(self.for_call(meter)))
    }
}

impl TextToSpeech for Chain<dyn TextToSpeech> {
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound> {
        let cost = Cost { characters: text.chars().count() as u64, ..Cost::default() };
        let (text, language) = (text.to_owned(), language.to_owned());
        Box::pin(self.ask(cost, move |provider| provider.speak(&text, &language)))
    }

    fn warm(&self) {
        self.members.iter().for_each(|member| member.provider.warm());
    }

    fn metered(&self, meter: &Meter) -> Option<Arc<dyn TextToSpeech>> {
        Some(Arc::new(self.for_call(meter)))
    }

    fn stand_ins(&self) -> u64 {
        self.stand_ins.load(Ordering::Relaxed)
    }
}

impl<P: ?Sized> fmt::Debug for Chain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.members.iter().map(|member| &member.place).collect();
        f.debug_struct("Chain").field("places", &places).field("after", &self.after).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
