//! A phone call by hand: the same steps as the simulated Twilio's, one at a time, so that a test can leave one out or
//! do one wrong. Marks come back at once. Helpers panic with what went wrong.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use url::Url;

use crate::{
    signal,
    sim::{
        CallPlan, Connect, Dial, Document, Identity, Incoming, MediaSocket, Reply, Said, Verb, Writer, bundled_speech,
        decode_mulaw, encode_mulaw, judge, post_form, sign, webhook,
    },
    stack::PUBLIC_URL,
};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The answer to a voice webhook: the way to the media stream.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The call.
    pub call_sid: String,
    /// `<Connect>`.
    pub connect: Connect,
}

impl Invitation {
    /// Rings: the webhook's answer must be a stream.
    pub async fn ask(plan: &CallPlan) -> Self {
        let call_sid = plan.call_sid.clone().unwrap_or_else(|| Identity::random(&plan.account_sid).call_sid);
        let reply = webhook(plan, &call_sid).await.expect("the webhook is answered");
        let verb = document(&reply).verbs.into_iter().next();
        let Some(Verb::Connect(connect)) = verb else { panic!("no stream: {verb:?}") };
        Self { call_sid, connect }
    }

    /// The ticket among the stream's parameters.
    pub fn ticket(&self) -> &str {
        let found = self.connect.stream.parameters.iter().find(|(name, _)| name == gateway::ticket::PARAMETER);
        &found.expect("a ticket").1
    }
}

/// One call.
pub struct Line {
    /// The media socket.
    pub socket: MediaSocket,
    /// Writes what Twilio says.
    pub writer: Writer,
    plan: CallPlan,
    invitation: Invitation,
    /// Samples said.
    position: usize,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The agent's voice.
    pub mulaw: Vec<u8>,
    /// Sizes of its messages.
    pub frames: Vec<usize>,
    /// Marks asked for.
    pub marks: Vec<String>,
    /// `clear` messages.
    pub clears: u32,
}

impl Line {
    /// Calls: webhook, handshake, `connected`, `start`.
    pub async fn dial(plan: &CallPlan) -> Self {
        let mut line = Self::open(plan, Invitation::ask(plan).await).await;
        line.start().await;
        line
    }

    /// The handshake and `connected`, without `start`.
    pub async fn open(plan: &CallPlan, invitation: Invitation) -> Self {
        let url = &invitation.connect.stream.url;
        let socket = MediaSocket::connect(&plan.route, url, &plan.auth_token, &plan.quirks).await;
        let mut socket = socket.expect("the handshake is taken");
        let call_sid = invitation.call_sid.clone();
        let writer = Writer::new(Identity { call_sid, ..Identity::random(&plan.account_sid) }, &plan.quirks);
        socket.send_text(writer.connected()).await.expect("an open socket");
        Self { socket, writer, plan: plan.clone(), invitation, position: 0 }
    }

    /// `start` with the parameters of the TwiML.
    pub async fn start(&mut self) {
        let parameters = self.invitation.connect.stream.parameters.clone();
        self.start_with(&parameters).await;
    }

    /// `start` with other parameters.
    pub async fn start_with(&mut self, parameters: &[(String, String)]) {
        let start = self.writer.start(parameters);
        self.say(start).await;
    }

    /// The call's id.
    pub fn call_sid(&self) -> &str {
        &self.invitation.call_sid
    }

    /// The stream's id.
    pub fn stream_sid(&self) -> &str {
        &self.writer.identity().stream_sid
    }

    /// Sends any text. That the socket is gone already shows when it is read.
    pub async fn say(&mut self, text: impl Into<String>) {
        let _ = self.socket.send_text(text.into()).await;
    }

    /// Presses a key.
    pub async fn press(&mut self, key: char) {
        let dtmf = self.writer.dtmf(key);
        self.say(dtmf).await;
    }

    /// Sends one frame of the caller's voice, in order.
    pub async fn speak(&mut self, mulaw: &[u8]) {
        let media = self.writer.media(self.position as u64 / 8, mulaw);
        self.position += mulaw.len();
        self.say(media).await;
    }

    /// Lets time pass on the caller's clock without a word.
    pub fn skip(&mut self, samples: usize) {
        self.position += samples;
    }

    /// Speaks in real time, in frames of `sizes` in turn, and listens until `want` samples came back.
    pub async fn converse(&mut self, speech: &[u8], sizes: &[usize], want: usize) -> Heard {
        let (began, mut heard, mut said, mut frame) = (now(), Heard::default(), 0, 0);
        let deadline = began + duration(speech.len().max(want)) + PATIENCE;
        while said < speech.len() || heard.mulaw.len() < want {
            let size = sizes[frame % sizes.len()].min(speech.len() - said);
            let due = if said < speech.len() { began + duration(said + size) } else { deadline };
            match self.socket.next(due.saturating_duration_since(now())).await {
                Incoming::Silence if said < speech.len() => {
                    self.speak(&speech[said..said + size]).await;
                    said += size;
                    frame += 1;
                }
                Incoming::Silence => panic!("only {} of {want} samples came back", heard.mulaw.len()),
                Incoming::Text(text) => self.take(&text, &mut heard).await,
                other @ (Incoming::Binary(_)
                | Incoming::Ping
                | Incoming::Pong
                | Incoming::Closed(_)
                | Incoming::Lost(_)
                | Incoming::Violation(_)) => panic!("{other:?} instead of more audio"),
            }
        }
        heard
    }

    /// Listens, in silence, until `enough`.
    pub async fn listen_until(&mut self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        while !enough(&heard) {
            match self.socket.next(PATIENCE).await {
                Incoming::Text(text) => self.take(&text, &mut heard).await,
                other @ (Incoming::Binary(_)
                | Incoming::Ping
                | Incoming::Pong
                | Incoming::Closed(_)
                | Incoming::Lost(_)
                | Incoming::Violation(_)
                | Incoming::Silence) => panic!("{other:?} after {} samples", heard.mulaw.len()),
            }
        }
        heard
    }

    /// Says a second of speech and hears it come back.
    pub async fn assert_echoes(&mut self) {
        let speech = &bundled_speech()[8000..16_000];
        // What was said before may still be on its way, so there is some more to listen to.
        let heard = self.converse(&encode_mulaw(speech), &[160], 7600).await;
        let found = signal::align(speech, &decode_mulaw(&heard.mulaw), 4000).expect("something was heard");
        assert!(found.correlation > 0.8, "what came back is no echo: {found:?}");
    }

    /// Reads on until the socket is closed; the close code, if there was a close frame.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.socket.next(PATIENCE).await {
                Incoming::Closed(code) => return code,
                Incoming::Lost(_) | Incoming::Violation(_) => return None,
                Incoming::Silence => panic!("the socket stays open"),
                Incoming::Text(_) | Incoming::Binary(_) | Incoming::Ping | Incoming::Pong => {}
            }
        }
    }

    /// Hangs up as Twilio does: `stop`, then the close.
    pub async fn hang_up(&mut self) {
        let stop = self.writer.stop();
        self.say(stop).await;
        let _ = self.socket.close(1000).await;
        self.close_code().await;
    }

    /// Asks what comes after the stream.
    pub async fn after(&self) -> Vec<Verb> {
        after(&self.plan, self.call_sid()).await
    }

    async fn take(&mut self, text: &str, heard: &mut Heard) {
        match judge(text, self.stream_sid()).expect("a documented message") {
            Said::Media(mulaw) => {
                heard.frames.push(mulaw.len());
                heard.mulaw.extend(mulaw);
            }
            Said::Mark(name) => {
                let mark = self.writer.mark(&name);
                self.say(mark).await;
                heard.marks.push(name);
            }
            Said::Clear => heard.clears += 1,
        }
    }
}

/// Asks `/voice/after` of any call.
pub async fn after(plan: &CallPlan, call_sid: &str) -> Vec<Verb> {
    document(&signed(plan, "/voice/after", plan.parameters(call_sid, "in-progress")).await).verbs
}

/// A signed POST of `fields` to `path`.
pub async fn signed(plan: &CallPlan, path: &str, fields: Vec<(String, String)>) -> Reply {
    let url: Url = plan.public_url.join(path).expect("a path");
    let signature = sign(url.as_str(), &fields, &plan.auth_token);
    post_form(&plan.route, &url, &fields, Some(signature)).await.expect("the gateway answers")
}

/// The TwiML of an answer.
pub fn document(reply: &Reply) -> Document {
    assert_eq!(reply.status, 200, "{}", reply.body);
    Document::parse(&reply.body).expect("TwiML")
}

/// `<Say>` with the default words, then `<Hangup>`: what a caller hears when no agent can be had.
pub fn is_fallback(verbs: &[Verb]) -> bool {
    matches!(verbs, [Verb::Say(words), Verb::Hangup] if words.contains("nobody can take your call"))
}

/// `<Dial>` as the gateway writes it: with the way back.
pub fn dialled(number: &str) -> Verb {
    let action = Some(format!("{PUBLIC_URL}/voice/dialled"));
    Verb::Dial(Dial { action, answer_on_bridge: true, ..Dial::to(number) })
}

/// The parameters of a stream as a map.
pub fn parameters(connect: &Connect) -> HashMap<String, String> {
    connect.stream.parameters.iter().cloned().collect()
}

fn duration(samples: usize) -> Duration {
    Duration::from_micros(125 * samples as u64)
}

#[expect(clippy::disallowed_methods, reason = "a caller speaks in real time")]
fn now() -> Instant {
    Instant::now()
}
