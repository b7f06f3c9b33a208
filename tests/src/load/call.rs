//! Driver of one cheap call: set up as Twilio would, then a lean loop that sends ready frames against
//! an absolute clock, counts what comes back and times the tones.

use std::{borrow::Cow, collections::VecDeque, fmt::Write as _, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    Phase, Shared,
    script::{FRAME, Script, holds_tone},
};
use crate::sim::{CallPlan, Document, Identity, MediaSocket, Verb, Wire, Writer, webhook};

/// Time between two frames.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Time of one sample at 8 kHz.
const SAMPLE: Duration = Duration::from_micros(125);
/// How long the last frames may take to come back.
const DRAIN: Duration = Duration::from_secs(2);

/// A message of the server, as far as the load looks at it.
#[derive(Deserialize)]
struct Heard<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<HeardMedia<'a>>,
    #[serde(borrow)]
    mark: Option<HeardMark<'a>>,
}

#[derive(Deserialize)]
struct HeardMedia<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
struct HeardMark<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// A call that is up.
pub(super) struct Call {
    socket: WebSocketStream<Wire>,
    writer: Writer,
    script: Arc<Script>,
    shared: Arc<Shared>,
    /// Frames sent.
    sent: u64,
    /// Samples received.
    received: u64,
    /// When TwiML came, until the first media is back.
    answered: Option<Instant>,
    /// When the onset was sent that has not come back yet.
    waiting_since: Option<Instant>,
    /// When all that was received has been played, and marks that come back once what is before them was. A server that
    /// sends ahead of real time must see that: it is what it goes by.
    played_out: Instant,
    marks: VecDeque<(Instant, String)>,
    text: String,
}

impl Call {
    /// Webhook, handshake and `start`.
    pub(super) async fn set_up(plan: &CallPlan, script: Arc<Script>, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let identity = Identity::random(&plan.account_sid);
        let reply = webhook(plan, &identity.call_sid).await?;
        let answered = Some(now());
        anyhow::ensure!(reply.status == 200, "webhook answered {}", reply.status);
        let document = Document::parse(&reply.body)?;
        let connect = document.verbs.into_iter().find_map(|verb| match verb {
            Verb::Connect(connect) => Some(connect),
            Verb::Say(_)
            | Verb::Dial(_)
            | Verb::Enqueue(_)
            | Verb::Hangup
            | Verb::Reject(_)
            | Verb::Redirect(_)
            | Verb::Pause(_) => None,
        });
        let Some(connect) = connect else {
            anyhow::bail!("no <Connect> in {}", reply.body);
        };
        let noun = connect.stream;
        let url = noun.check(&plan.webhook_url()?).map_err(|finding| anyhow::anyhow!("{finding}"))?;
        let mut socket = MediaSocket::connect(&plan.route, &url, &plan.auth_token, &plan.quirks).await?;
        let mut writer = Writer::new(identity, &plan.quirks);
        socket.send_text(writer.connected()).await?;
        socket.send_text(writer.start(&noun.parameters)).await?;
        Ok(Self {
            socket: socket.into_inner(),
            writer,
            script,
            shared,
            sent: 0,
            received: 0,
            answered,
            waiting_since: None,
            played_out: now(),
            marks: VecDeque::new(),
            text: String::new(),
        })
    }

    /// Sends a frame every 20 ms from `first` on until the phase says stop, then waits for what is
    /// under way and hangs up.
    pub(super) async fn run(mut self, first: Instant, mut phase: watch::Receiver<Phase>) {
        let due = sleep_until(first);
        tokio::pin!(due);
        let mut stopping = false;
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(message)) => self.handle(message),
                    Some(Err(_)) | None => return self.lost(),
                },
                () = &mut due => {
                    if stopping {
                        break;
                    }
                    let scheduled = due.deadline();
                    self.answer_marks().await;
                    if *phase.borrow_and_update() == Phase::Stopping {
                        stopping = true;
                        due.as_mut().reset(scheduled + DRAIN);
                    } else {
                        self.send_frame(scheduled).await;
                        due.as_mut().reset(scheduled + TICK);
                    }
                }
            }
            if stopping && self.received >= self.sent * FRAME as u64 {
                break;
            }
        }
        let lost = (self.sent * FRAME as u64).saturating_sub(self.received);
        self.shared.add_lost(lost / FRAME as u64);
        let stop = self.writer.stop();
        // Whether the goodbye arrives changes nothing that is measured.
        let _ = self.socket.send(Message::text(stop)).await;
        let _ = self.socket.close(None).await;
    }

    fn lost(&self) {
        self.shared.add_dropped_call();
        let lost = (self.sent * FRAME as u64).saturating_sub(self.received);
        self.shared.add_lost(lost / FRAME as u64);
    }

    async fn send_frame(&mut self, scheduled: Instant) {
        let index = self.sent;
        let sequence = self.writer.next_sequence();
        let text = &mut self.text;
        text.clear();
        let written = write!(
            text,
            r#"{{"event":"media","sequenceNumber":"{}","streamSid":"{}","media":{{"track":"inbound","chunk":"{}","timestamp":"{}","payload":"{}"}}}}"#,
            sequence,
            self.writer.identity().stream_sid,
            index + 1,
            index * 20,
            self.script.payload(index)
        );
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        let now = now();
        self.shared.add_sent(now.saturating_duration_since(scheduled));
        if self.script.is_onset(index) && self.waiting_since.replace(now).is_some() {
            self.shared.add_missed();
        }
        self.sent += 1;
        let message = Message::text(self.text.as_str());
        // A broken socket shows when it is read.
        let _ = self.socket.send(message).await;
    }

    fn handle(&mut self, message: Message) {
        let Message::Text(text) = message else {
            return;
        };
        let Ok(heard) = serde_json::from_str::<Heard<'_>>(text.as_str()) else {
            return;
        };
        match (heard.event.as_ref(), heard.media, heard.mark) {
            ("media", Some(media), _) => self.handle_media(&media.payload),
            ("mark", _, Some(mark)) => self.marks.push_back((self.played_out, mark.name.into_owned())),
            ("clear", _, _) => {
                // What was not played never is, and its marks come back at once.
                self.played_out = now();
                self.marks.iter_mut().for_each(|(due, _)| *due = self.played_out);
            }
            _ => {}
        }
    }

    /// Sends the marks whose time has come: looked at with each frame, which is as fine as a carrier's playout.
    async fn answer_marks(&mut self) {
        let now = now();
        while let Some((_, name)) = self.marks.pop_front_if(|(due, _)| *due <= now) {
            let text = self.writer.mark(&name);
            // A broken socket shows when it is read.
            let _ = self.socket.send(Message::text(text)).await;
        }
    }

    fn handle_media(&mut self, payload: &str) {
        let padding = payload.bytes().rev().take_while(|&b| b == b'=').count();
        let samples = (payload.len() / 4 * 3).saturating_sub(padding) as u64;
        self.received += samples;
        self.played_out = self.played_out.max(now()) + SAMPLE * u32::try_from(samples).unwrap_or(u32::MAX);
        self.shared.add_received(samples);
        if let Some(answered) = self.answered.take() {
            self.shared.add_setup(now().saturating_duration_since(answered));
        }
        let Some(since) = self.waiting_since else {
            return;
        };
        let Ok(mulaw) = BASE64_STANDARD.decode(payload) else {
            return;
        };
        if holds_tone(&mulaw) {
            self.waiting_since = None;
            self.shared.add_latency(now().saturating_duration_since(since));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver of a call asks the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
