//! One call of a caller who listens: frames go out against an absolute clock, what comes back plays in real time, and
//! marks return when they have played, as with Twilio.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use super::Clip;
use crate::sim::{
    CallPlan, Connect, Document, Identity, Incoming, MediaSocket, Playout, PlayoutStats, SILENCE, Said, Verb, Writer,
    judge, webhook,
};

/// Samples of a frame, and how long it lasts.
const FRAME: usize = 160;
const TICK: Duration = Duration::from_millis(20);

/// The call of one caller.
pub struct Phone {
    socket: MediaSocket,
    writer: Writer,
    call_sid: String,
    connect: Connect,
    playout: Playout,
    began: Instant,
    /// Frames sent.
    frames: u32,
    to_say: VecDeque<u8>,
    log: Log,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// What the caller said, the newest last; it may not have ended.
    pub spoken: Vec<Spoken>,
    /// What came of the agent.
    pub media: Vec<Media>,
    /// When `clear` came.
    pub clears: Vec<Instant>,
    /// Samples of the agent that wait to be heard.
    pub queued: u64,
    /// Samples of the agent that were heard.
    pub played: u64,
    /// Since when nothing of the agent is left to be heard; `None` while something is.
    pub silent_since: Option<Instant>,
    /// How the agent's side ended the stream.
    pub closed: Option<Closed>,
}

/// Something that the caller said.
#[derive(Debug, Clone, Copy)]
pub struct Spoken {
    /// When its first sample was spoken.
    pub began: Instant,
    /// When the frame with its last sample was sent.
    pub ended: Option<Instant>,
}

/// A message of the agent's sound.
#[derive(Debug, Clone, Copy)]
pub struct Media {
    /// When it came.
    pub at: Instant,
    /// Samples in it.
    pub samples: u64,
    /// It came too late: what was before it in its utterance had been heard for at least a frame.
    pub is_late: bool,
}

/// The end of a stream, with the code of its close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(pub Option<u16>);

impl Log {
    /// The agent's first sound after `moment`.
    pub fn media_after(&self, moment: Instant) -> Option<&Media> {
        let at = self.media.partition_point(|media| media.at <= moment);
        self.media.get(at)
    }

    /// True once the agent has been silent for so long after it said something later than `moment`.
    pub fn has_answered(&self, moment: Instant, silence: Duration) -> bool {
        self.media_after(moment).is_some() && self.silent_since.is_some_and(|since| since.elapsed() >= silence)
    }

    /// When the caller had said all, if it has said anything.
    pub fn last_word(&self) -> Option<Instant> {
        self.spoken.last()?.ended
    }
}

impl Phone {
    /// Calls: webhook, handshake, `connected`, `start`.
    ///
    /// # Errors
    /// When there is no stream, or none can be had.
    pub async fn dial(plan: &CallPlan) -> anyhow::Result<Self> {
        let identity = Identity::random(&plan.account_sid);
        let call_sid = plan.call_sid.clone().unwrap_or(identity.call_sid);
        let reply = webhook(plan, &call_sid).await?;
        anyhow::ensure!(reply.status == 200, "webhook answered {}", reply.status);
        let verb = Document::parse(&reply.body)?.verbs.into_iter().next();
        let Some(Verb::Connect(connect)) = verb else { bail!("no stream: {verb:?}") };
        let mut socket = MediaSocket::connect(&plan.route, &connect.stream.url, &plan.auth_token, &plan.quirks).await?;
        let identity = Identity { call_sid: call_sid.clone(), ..Identity::random(&plan.account_sid) };
        let mut writer = Writer::new(identity, &plan.quirks);
        socket.send_text(writer.connected()).await?;
        socket.send_text(writer.start(&connect.stream.parameters)).await?;
        let began = now();
        let log = Log { silent_since: Some(began), ..Log::default() };
        Ok(Self {
            socket,
            writer,
            call_sid,
            connect,
            playout: Playout::default(),
            began,
            frames: 0,
            to_say: VecDeque::new(),
            log,
        })
    }

    /// The call's id.
    pub fn call_sid(&self) -> &str {
        &self.call_sid
    }

    /// `<Connect>` of its TwiML.
    pub fn connect(&self) -> &Connect {
        &self.connect
    }

    /// What happened so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Counters of what was played.
    pub fn playout(&self) -> &PlayoutStats {
        self.playout.stats()
    }

    /// When the call began: sample 0 of what was heard.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What was heard in mu-law, from the beginning of the call in real time.
    pub fn into_heard(self) -> Vec<u8> {
        self.playout.into_heard().0
    }

    /// Begins to say it with the next frame.
    pub fn say(&mut self, clip: &Clip) {
        self.to_say.extend(&clip.mulaw);
        let began = self.due() - TICK;
        self.log.spoken.push(Spoken { began, ended: None });
    }

    /// Says it and goes on until all of it was sent.
    ///
    /// # Errors
    /// As [`Phone::until`].
    pub async fn say_all(&mut self, clip: &Clip) -> anyhow::Result<Spoken> {
        self.say(clip);
        let limit = Duration::from_millis(clip.ms()) + Duration::from_secs(10);
        self.until("the words are said", limit, |log| log.last_word().is_some()).await?;
        self.log.spoken.last().copied().context("nothing was said")
    }

    /// Goes on for so long.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = now() + time;
        while now() < end {
            self.step().await?;
            if let Some(closed) = self.log.closed {
                bail!("the stream ended: {closed:?}");
            }
        }
        Ok(())
    }

    /// Goes on until `enough`.
    ///
    /// # Errors
    /// When that takes longer than `limit`, or the stream ends before.
    pub async fn until(&mut self, what: &str, limit: Duration, enough: impl Fn(&Log) -> bool) -> anyhow::Result<()> {
        let deadline = now() + limit;
        while !enough(&self.log) {
            if let Some(closed) = self.log.closed {
                bail!("the stream ended before {what}: {closed:?}");
            }
            if now() >= deadline {
                let (spoken, last) = (self.log.spoken.len(), self.log.media.last());
                bail!("not within {limit:?}: {what}; {spoken} things were said, the last sound was {last:?}");
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Presses a key.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn press(&mut self, key: char) -> anyhow::Result<()> {
        let dtmf = self.writer.dtmf(key);
        Ok(self.socket.send_text(dtmf).await?)
    }

    /// Says goodbye as Twilio does, and reads on until the other side has gone.
    pub async fn hang_up(&mut self) {
        let stop = self.writer.stop();
        // That it is gone already is as good.
        let _ = self.socket.send_text(stop).await;
        let _ = self.socket.close(1000).await;
        while matches!(self.socket.next(Duration::from_secs(5)).await, Incoming::Text(_)) {}
    }

    /// One thing: a frame, a mark, or what came.
    async fn step(&mut self) -> anyhow::Result<()> {
        let mark = self.playout.poll_timeout().map(|at| self.began + at);
        let wake = mark.unwrap_or(self.due()).min(self.due());
        match self.socket.next(wake.saturating_duration_since(now())).await {
            Incoming::Text(text) => self.take(&text)?,
            Incoming::Silence | Incoming::Ping | Incoming::Pong => {}
            Incoming::Closed(code) => self.log.closed = Some(Closed(code)),
            Incoming::Lost(_) => self.log.closed = Some(Closed(None)),
            other @ (Incoming::Binary(_) | Incoming::Violation(_)) => bail!("{other:?}"),
        }
        let at = now();
        while self.log.closed.is_none() && self.due() <= at {
            self.send_frame().await;
        }
        self.playout.handle_time(at - self.began);
        while let Some(echo) = self.playout.poll_echo() {
            let mark = self.writer.mark(&echo.name);
            // A broken socket shows when it is read.
            let _ = self.socket.send_text(mark).await;
        }
        self.look(at);
        Ok(())
    }

    fn take(&mut self, text: &str) -> anyhow::Result<()> {
        let (at, is_mute) = (now(), self.log.silent_since);
        let elapsed = at - self.began;
        match judge(text, &self.writer.identity().stream_sid).map_err(|why| anyhow::anyhow!("{why}"))? {
            Said::Media(mulaw) => {
                let samples = mulaw.len() as u64;
                let gaps = self.playout.stats().gap_samples;
                self.playout.handle_media(mulaw, elapsed);
                let gap = self.playout.stats().gap_samples - gaps;
                let is_late = is_mute.is_some() && gap >= FRAME as u64;
                self.log.media.push(Media { at, samples, is_late });
            }
            Said::Mark(name) => self.playout.handle_mark(name, elapsed),
            Said::Clear => {
                self.playout.handle_clear(elapsed);
                self.log.clears.push(at);
            }
        }
        self.look(at);
        Ok(())
    }

    fn look(&mut self, at: Instant) {
        self.log.queued = self.playout.queued();
        self.log.played = self.playout.stats().played;
        let is_silent = self.log.queued == 0;
        self.log.silent_since = if is_silent { self.log.silent_since.or(Some(at)) } else { None };
    }

    /// When the next frame is due: once its last sample was spoken.
    fn due(&self) -> Instant {
        self.began + TICK * (self.frames + 1)
    }

    async fn send_frame(&mut self) {
        let said = self.to_say.len().min(FRAME);
        let mut frame: Vec<u8> = self.to_say.drain(..said).collect();
        frame.resize(FRAME, SILENCE);
        let media = self.writer.media(u64::from(self.frames) * 20, &frame);
        self.frames += 1;
        // A broken socket shows when it is read.
        let _ = self.socket.send_text(media).await;
        if said > 0
            && self.to_say.is_empty()
            && let Some(spoken) = self.log.spoken.last_mut()
        {
            spoken.ended.get_or_insert_with(now);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a caller speaks in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
