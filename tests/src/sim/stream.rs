//! Driver of one media stream: moves the clock, the socket and the two pure sides (`outgoing.rs` and
//! `playout.rs`) into each other. Rules live there, not here.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    CallPlan, Code, Dialogue, Due, Finding, Findings, Incoming, MediaSocket, Order, Orders, Outgoing, Playout,
    Progress, Quirks, Said, Writer, judge,
    report::{Echoed, Ended, StreamReport},
    socket::classify,
    wire::Wire,
};

/// Messages that wait for the socket before caller audio is dropped: five seconds.
const SEND_QUEUE: usize = 250;
/// How long the goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// An unknown event is mixed in after so many frames.
const EXTRA_EVERY: u64 = 10;

/// A stream that is up: everything but the socket.
pub(super) struct Stream<'a> {
    quirks: &'a Quirks,
    compares_echo: bool,
    progress: &'a Progress,
    writer: Writer,
    outgoing: Outgoing,
    playout: Playout,
    dialogue: Dialogue,
    findings: Findings,
    /// When which key is pressed, soonest first.
    digits: Vec<(Duration, char)>,
    hangup: Duration,
    queue: mpsc::Sender<Message>,
    start: Instant,
    first_media: Option<Duration>,
    sent: u64,
    received: u64,
    dropped: u64,
    digits_sent: u64,
    marks: Vec<String>,
    /// What ended the stream from outside.
    order: Option<Order>,
}

/// Where in the call a stream begins.
pub(super) struct Seam {
    /// Samples of speech said on earlier streams.
    pub(super) offset: usize,
    /// Turns taken on earlier streams.
    pub(super) turns: usize,
    /// Time since the start of the first stream.
    pub(super) elapsed: Duration,
}

/// Runs a stream on a fresh socket to its end. `parameters` are the `<Parameter>`s. An order that ended it is handed back.
pub(super) async fn run(
    plan: &CallPlan,
    socket: MediaSocket,
    writer: Writer,
    parameters: &[(String, String)],
    seam: Seam,
    orders: &mut Orders,
) -> (StreamReport, Option<Order>) {
    let (queue, waiting) = mpsc::channel(SEND_QUEUE);
    let unasked = socket.unasked_extension().map(str::to_owned);
    let (sink, mut source) = socket.into_inner().split();
    let sending = tokio::spawn(send_all(sink, waiting));
    let digits = plan.digits.iter().filter(|(at, _)| *at >= seam.elapsed);
    let mut digits: Vec<(Duration, char)> = digits.map(|&(at, digit)| (at - seam.elapsed, digit)).collect();
    digits.sort_by_key(|&(at, _)| std::cmp::Reverse(at));
    let mut stream = Stream {
        quirks: &plan.quirks,
        compares_echo: plan.compares_echo,
        progress: &plan.progress,
        writer,
        outgoing: Outgoing::new(plan.speech_mulaw(), seam.offset, &plan.frames),
        playout: Playout::default(),
        dialogue: Dialogue::new(plan.turns.iter().skip(seam.turns).cloned()),
        findings: Findings::default(),
        digits,
        hangup: plan.hangup_after().saturating_sub(seam.elapsed),
        queue,
        start: now(),
        first_media: None,
        sent: 0,
        received: 0,
        dropped: 0,
        digits_sent: 0,
        marks: Vec::new(),
        order: None,
    };
    if let Some(extension) = unasked {
        let text = format!("the 101 names the extension {extension:?}, which was not offered");
        stream.findings.add_once(Finding::new(Code::StreamProtocol, text));
    }
    stream.progress.live.fetch_add(1, Ordering::Relaxed);
    let (ended, close_code) = stream.run(&mut source, parameters, orders).await;
    stream.progress.live.fetch_sub(1, Ordering::Relaxed);
    let (lasted, order) = (stream.start.elapsed(), stream.order.take());
    (stream.end(ended, source, sending).await.report(ended, close_code, lasted), order)
}

impl Stream<'_> {
    async fn run(
        &mut self,
        source: &mut SplitStream<WebSocketStream<Wire>>,
        parameters: &[(String, String)],
        orders: &mut Orders,
    ) -> (Ended, Option<u16>) {
        let connected = self.writer.connected();
        self.send(connected);
        let start = self.writer.start(parameters);
        self.send(start);
        self.start = now();
        loop {
            let elapsed = self.start.elapsed();
            self.handle_time(elapsed);
            if elapsed >= self.hangup {
                return (Ended::CallerHungUp, None);
            }
            let wake = self.start + self.poll_timeout();
            let incoming = tokio::select! {
                message = source.next() => classify(message),
                order = orders.next() => {
                    self.order = Some(order);
                    return (Ended::CallUpdated, None);
                }
                () = sleep_until(wake) => continue,
            };
            let elapsed = self.start.elapsed();
            match incoming {
                Incoming::Text(text) => self.handle_text(&text, elapsed),
                Incoming::Binary(bytes) => {
                    let text = format!("binary message of {} bytes", bytes.len());
                    self.findings.add_once(Finding::new(Code::StreamUndecodable, text));
                }
                Incoming::Ping | Incoming::Pong | Incoming::Silence => {}
                Incoming::Closed(code) => {
                    self.handle_close(code);
                    return (Ended::ServerClosed, code);
                }
                Incoming::Lost(text) => {
                    self.findings.add_once(Finding::new(Code::StreamBrokenPipe, text));
                    return (Ended::Lost, None);
                }
                Incoming::Violation(text) => {
                    self.findings.add_once(Finding::new(Code::StreamProtocol, text));
                    return (Ended::Violation, None);
                }
            }
        }
    }

    fn handle_text(&mut self, text: &str, elapsed: Duration) {
        match judge(text, &self.writer.identity().stream_sid) {
            Ok(Said::Media(mulaw)) => {
                self.received += 1;
                self.progress.received.fetch_add(1, Ordering::Relaxed);
                self.first_media.get_or_insert(elapsed);
                if self.quirks.chunk_over_stream {
                    self.writer.skip_chunk();
                }
                if !self.playout.handle_media(mulaw, elapsed) {
                    let text = "more than ten minutes of audio queued";
                    self.findings.add_once(Finding::new(Code::StreamBufferFull, text));
                }
            }
            Ok(Said::Mark(name)) => self.playout.handle_mark(name, elapsed),
            Ok(Said::Clear) => self.playout.handle_clear(elapsed),
            Err(why) => {
                let beginning: String = text.chars().take(120).collect();
                let text = format!("{why}: {beginning}");
                self.findings.add_once(Finding::new(Code::StreamNoncompliant, text));
            }
        }
    }

    fn handle_close(&mut self, code: Option<u16>) {
        let normal = code == Some(1000);
        if normal && !self.quirks.logs_normal_close {
            return;
        }
        let text = format!(
            "the server closed the socket ({})",
            code.map_or("no code".to_owned(), |code| format!("code {code}"))
        );
        self.findings.add_once(if normal {
            Finding::notice(Code::StreamClosedByServer, text)
        } else {
            Finding::new(Code::StreamClosedByServer, text)
        });
    }

    fn handle_time(&mut self, elapsed: Duration) {
        while let Some(frame) = self.outgoing.poll_frame(elapsed) {
            let media = self.writer.media(frame.timestamp, &frame.mulaw);
            if self.send(media) {
                self.sent += 1;
                self.progress.sent.fetch_add(1, Ordering::Relaxed);
            } else {
                self.dropped += 1;
                let text = "the server does not read; caller audio is dropped";
                self.findings.add_once(Finding::new(Code::StreamNotDrained, text));
            }
            if self.quirks.extras && self.sent % EXTRA_EVERY == 1 {
                let unknown = self.writer.unknown();
                self.send(unknown);
            }
        }
        while let Some((_, digit)) = self.digits.pop_if(|(at, _)| *at <= elapsed) {
            self.press(digit);
        }
        self.playout.handle_time(elapsed);
        while let Some(echo) = self.playout.poll_echo() {
            let mark = self.writer.mark(&echo.name);
            self.send(mark);
            self.marks.push(echo.name);
        }
        self.dialogue.handle_heard(self.playout.heard());
        while let Some(due) = self.dialogue.poll_due() {
            match due {
                Due::Say(mulaw) => self.outgoing.say(&mulaw),
                Due::Press(digit) => self.press(digit),
                Due::HangUp => self.hangup = elapsed,
            }
        }
    }

    fn press(&mut self, digit: char) {
        let dtmf = self.writer.dtmf(digit);
        self.send(dtmf);
        self.digits_sent += 1;
    }

    fn poll_timeout(&self) -> Duration {
        let digit = self.digits.last().map(|&(at, _)| at);
        let next = [self.playout.poll_timeout(), digit, Some(self.hangup)];
        next.into_iter().flatten().fold(self.outgoing.poll_timeout(), Duration::min)
    }

    /// Queues a message for the socket; false when the server has not read for too long.
    fn send(&self, text: String) -> bool {
        self.queue.try_send(Message::text(text)).is_ok()
    }

    /// Says goodbye (or vanishes) and lets go of the socket.
    async fn end(
        mut self,
        ended: Ended,
        mut source: SplitStream<WebSocketStream<Wire>>,
        sending: JoinHandle<()>,
    ) -> Self {
        let goodbye = matches!(ended, Ended::CallerHungUp | Ended::CallUpdated) && self.quirks.sends_stop;
        if goodbye {
            let stop = self.writer.stop();
            self.send(stop);
            let close = Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
            // A full queue means a server that does not read: it gets no goodbye.
            let _ = self.queue.try_send(close);
        }
        if !goodbye && ended != Ended::ServerClosed {
            sending.abort();
        }
        let (closed, _) = mpsc::channel(1);
        self.queue = closed;
        let drain = async { while source.next().await.is_some_and(|m| m.is_ok()) {} };
        if goodbye || ended == Ended::ServerClosed {
            // Late messages of the server are read and ignored until it closes too.
            let _ = timeout(CLOSE_TIMEOUT, drain).await;
        }
        let abort = sending.abort_handle();
        if timeout(CLOSE_TIMEOUT, sending).await.is_err() {
            abort.abort();
        }
        self
    }

    fn report(self, ended: Ended, close_code: Option<u16>, lasted: Duration) -> StreamReport {
        let stats = self.playout.stats().clone();
        let (heard, gaps) = self.playout.into_heard();
        let sent = self.outgoing.into_sent();
        let echo = self.compares_echo.then(|| Echoed::find(&sent, &heard, &gaps)).flatten();
        StreamReport {
            stream_sid: self.writer.identity().stream_sid.clone(),
            url: String::new(),
            ended,
            close_code,
            handshake_ms: None,
            first_media_ms: self.first_media.map(|at| at.as_secs_f64() * 1000.0),
            lasted,
            frames_sent: self.sent,
            frames_received: self.received,
            frames_dropped: self.dropped,
            digits_sent: self.digits_sent,
            turns_ms: self.dialogue.taken().map(|at| at.as_secs_f64() * 1000.0).collect(),
            marks: self.marks,
            playout: stats,
            gaps,
            echo,
            findings: self.findings.into_vec(),
            sent,
            heard,
        }
    }
}

/// Writes what is queued until the queue ends or the socket breaks.
async fn send_all(mut sink: SplitSink<WebSocketStream<Wire>, Message>, mut waiting: mpsc::Receiver<Message>) {
    while let Some(message) = waiting.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver of a stream asks the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
