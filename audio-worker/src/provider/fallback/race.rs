//! One request on its way: one provider after the other, or beside it, until one has a first piece.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use tokio::time::{Sleep, sleep};

use super::{
    Chain, Member,
    bill::{Bill, End},
};
use crate::provider::{
    Fault, ProviderError, Sound, Streaming, Token,
    meter::{Cost, Meter},
    place::{Asking, Place, now},
};

/// What may come ahead of a piece that counts: times of words ahead of their sound, empty texts. Beyond it, they count.
const MAX_EARLY: usize = 64;

/// A piece of an answer.
pub(super) trait Piece: Send + Unpin + 'static {
    /// Whether the answer has begun with it.
    fn counts(&self) -> bool {
        true
    }

    /// Tokens that were read and written, where it tells.
    fn usage(&self) -> Option<(u64, u64)> {
        None
    }

    /// Whether answers of its kind tell that at all.
    const HAS_USAGE: bool = false;
}

impl Piece for String {}

impl Piece for Token {
    fn counts(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Call(_) => true,
            Self::Usage { .. } => false,
        }
    }

    fn usage(&self) -> Option<(u64, u64)> {
        match self {
            Self::Usage { prompt, completion } => Some((*prompt, *completion)),
            Self::Text(_) | Self::Call(_) => None,
        }
    }

    const HAS_USAGE: bool = true;
}

impl Piece for Sound {
    fn counts(&self) -> bool {
        match self {
            Self::Pcm(_, pcm) => !pcm.is_empty(),
            Self::Mulaw(codes) => !codes.is_empty(),
            Self::Word { .. } => false,
        }
    }
}

type Ask<T, P> = Box<dyn Fn(&P) -> Streaming<T> + Send>;

/// One request, at one provider after the other.
pub(super) struct Race<T: Piece, P: ?Sized> {
    ask: Ask<T, P>,
    cost: Cost,
    meter: Meter,
    stand_ins: Arc<AtomicU64>,
    after: Duration,
    members: Arc<[Member<P>]>,
    /// Who is asked next, and, when all others failed, in spite of an open breaker; by place.
    waiting: VecDeque<usize>,
    resort: VecDeque<usize>,
    /// Until the next is asked beside.
    patience: Option<Pin<Box<Sleep>>>,
    runners: Vec<Runner<T>>,
    winner: Option<Runner<T>>,
    /// Of whoever failed last.
    error: Option<ProviderError>,
}

impl<T: Piece, P: ?Sized> Race<T, P> {
    /// Asks the first of `chain`.
    pub(super) fn begin(chain: &Chain<P>, cost: Cost, ask: Ask<T, P>) -> Self {
        let mut race = Self {
            ask,
            cost,
            meter: chain.meter.clone(),
            stand_ins: Arc::clone(&chain.stand_ins),
            after: chain.after,
            members: Arc::clone(&chain.members),
            waiting: VecDeque::new(),
            resort: VecDeque::new(),
            patience: None,
            runners: Vec::new(),
            winner: None,
            error: None,
        };
        race.start();
        race
    }

    fn start(&mut self) {
        let moment = now();
        for at in 0..self.members.len() {
            if !self.runners.is_empty() {
                self.waiting.push_back(at);
            } else if let Some(asking) = self.members[at].place.ask(moment) {
                self.run(at, asking, moment);
            } else {
                self.resort.push_back(at);
            }
        }
        if self.runners.is_empty() {
            // All are left alone; the caller is not.
            self.waiting = std::mem::take(&mut self.resort);
            self.ask_next(moment);
        }
    }

    /// Asks the next one, if there is any.
    fn ask_next(&mut self, moment: Instant) -> bool {
        let next = self.waiting.pop_front();
        let next = next.or_else(|| if self.runners.is_empty() { self.resort.pop_front() } else { None });
        let Some(at) = next else { return false };
        let place = &self.members[at].place;
        let asking = place.ask(moment).unwrap_or_else(|| place.insist());
        self.run(at, asking, moment);
        true
    }

    fn run(&mut self, at: usize, asking: Asking, moment: Instant) {
        let stream = (self.ask)(&self.members[at].provider);
        let Place { stage, family, .. } = asking.place();
        let bill = Bill {
            meter: self.meter.clone(),
            of: (*stage, family),
            cost: self.cost,
            has_usage: T::HAS_USAGE,
            usage: None,
            has_given: false,
            end: End::GivenUp,
        };
        self.runners.push(Runner { at, stream, asking, bill, begun: moment, early: VecDeque::new() });
        self.patience = None;
    }

    /// Waits until the next one should be asked; false when nobody is there to be asked.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_empty() {
            return Poll::Pending;
        }
        self.patience.get_or_insert_with(|| Box::pin(sleep(self.after))).as_mut().poll(cx)
    }

    fn win(&mut self, at: usize) {
        let mut winner = self.runners.swap_remove(at);
        let moment = now();
        for runner in &mut self.runners {
            if moment.saturating_duration_since(runner.begun) >= self.after {
                runner.asking.outrun(moment);
            }
        }
        self.runners.clear();
        (self.waiting, self.resort, self.patience) = (VecDeque::new(), VecDeque::new(), None);
        if winner.at > 0 {
            winner.bill.cost.stood_in = 1;
            self.stand_ins.fetch_add(1, Ordering::Relaxed);
        }
        self.winner = Some(winner);
    }
}

impl<T: Piece, P: ?Sized> Stream for Race<T, P> {
    type Item = Result<T, ProviderError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(winner) = &mut this.winner {
                return winner.poll(cx);
            }
            let mut won = None;
            let mut at = 0;
            while at < this.runners.len() && won.is_none() {
                match this.runners[at].poll_first(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(())) => won = Some(at),
                    Poll::Ready(Err(error)) => {
                        let failed = this.runners.remove(at);
                        if this.members.len() > 1 {
                            let Place { stage, family, host, .. } = failed.asking.place();
                            let stage = stage.label();
                            tracing::warn!(stage, provider = family, host, %error, "a provider failed within a request");
                        }
                        this.error = Some(error);
                    }
                }
            }
            if let Some(won) = won {
                this.win(won);
            } else if this.runners.is_empty() {
                if !this.ask_next(now()) {
                    return Poll::Ready(this.error.take().map(Err));
                }
            } else {
                ready!(this.poll_patience(cx));
                this.ask_next(now());
            }
        }
    }
}

/// One provider that was asked.
struct Runner<T> {
    at: usize,
    stream: Streaming<T>,
    asking: Asking,
    bill: Bill,
    begun: Instant,
    /// What came while nobody had won.
    early: VecDeque<T>,
}

impl<T: Piece> Runner<T> {
    /// Ready once its answer has begun, or never will.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProviderError>> {
        loop {
            match ready!(self.read(cx)) {
                Some(Ok(piece)) => {
                    let begins = piece.counts() || self.early.len() >= MAX_EARLY;
                    self.early.push_back(piece);
                    if begins {
                        self.bill.has_given = true;
                        self.asking.answered();
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(nothing())),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, ProviderError>>> {
        match self.early.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => self.read(cx),
        }
    }

    /// The next piece; what becomes of the request is noted.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, ProviderError>>> {
        if self.bill.end != End::GivenUp {
            return Poll::Ready(None);
        }
        let piece = ready!(self.stream.poll_next_unpin(cx));
        match &piece {
            Some(Ok(piece)) => self.bill.usage = piece.usage().or(self.bill.usage),
            Some(Err(error)) => {
                self.asking.failed(error, now());
                self.bill.end = End::Failed;
            }
            None if self.bill.has_given => {
                self.asking.ended();
                self.bill.end = End::Ended;
            }
            None => {
                self.asking.failed(&nothing(), now());
                self.bill.end = End::Failed;
            }
        }
        Poll::Ready(piece)
    }
}

/// Nothing came.
pub(super) fn nothing() -> ProviderError {
    ProviderError { kind: Fault::Empty, detail: "nothing came".to_owned() }
}
