//! What one call is to do: the plan that `caller.rs` carries out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use url::Url;

use super::{
    FramePlan, Instructions, Method, Progress, Quirks, Route, Turn,
    speech::{SAMPLE_RATE, bundled_speech, encode_mulaw},
};

/// How long the caller listens after the last word.
const TAIL: Duration = Duration::from_secs(2);
/// A dialogue that does not say when it ends is over after so long.
const LONGEST_DIALOGUE: Duration = Duration::from_secs(5 * 60);
/// Nobody stays longer.
const LONGEST_CALL: Duration = Duration::from_secs(30 * 60);

/// What a caller does.
#[derive(Clone)]
pub struct CallPlan {
    /// Where connections go.
    pub route: Route,
    /// What the gateway calls itself; all URLs and signatures are made with it.
    pub public_url: Url,
    /// Path of the voice webhook.
    pub path: String,
    /// Signs requests.
    pub auth_token: String,
    /// `AC…`
    pub account_sid: String,
    /// `CA…`; a random one when none.
    pub call_sid: Option<String>,
    /// The caller's number.
    pub from: String,
    /// The number called.
    pub to: String,
    /// What the caller says, PCM at 8 kHz; silence follows.
    pub speech: Arc<[i16]>,
    /// How it is cut.
    pub frames: FramePlan,
    /// When which key is pressed, from the start of the first stream.
    pub digits: Vec<(Duration, char)>,
    /// What the caller does when the agent has spoken, in turn.
    pub turns: Vec<Turn>,
    /// When the caller hangs up, from the start of the first stream; when none, two seconds after the last word, or
    /// with `turns` after five minutes. Half an hour at most.
    pub hangup_after: Option<Duration>,
    /// Who dialled whom.
    pub direction: Direction,
    /// Where the first document comes from; a POST to the voice webhook when none.
    pub instructions: Option<Instructions>,
    /// What is asked when a document cannot be had or read, once in a call.
    pub fallback: Option<(Method, Url)>,
    /// What is told of the end of an inbound call, as set at the number.
    pub status_callback: Option<(Method, Url)>,
    /// What becomes of a `<Dial>`.
    pub transfer: Transfer,
    /// Whether what was heard is compared with what was said, at the price of a tenth of a second of processor time for
    /// each half minute; many long calls of one process would hold each other up when they end.
    pub compares_echo: bool,
    /// What Twilio leaves open.
    pub quirks: Quirks,
    /// Counters to watch while the call runs.
    pub progress: Arc<Progress>,
}

/// Who dialled whom, as Twilio names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Somebody called a number of the account.
    #[default]
    Inbound,
    /// The account dialled through the REST API.
    OutboundApi,
}

impl Direction {
    /// As Twilio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::OutboundApi => "outbound-api",
        }
    }
}

/// What becomes of a `<Dial>`: `DialCallStatus` of its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Somebody answers, and the two talk for so long.
    Completed(Duration),
    /// Busy.
    Busy,
    /// Nobody answers.
    NoAnswer,
    /// There is no such number.
    Failed,
}

impl Default for Transfer {
    fn default() -> Self {
        Self::Completed(Duration::ZERO)
    }
}

impl Transfer {
    /// As Twilio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
        }
    }
}

impl CallPlan {
    /// A call to the gateway at `gateway` that calls itself `public_url`.
    pub fn new(gateway: SocketAddr, public_url: Url, auth_token: &str) -> Self {
        Self::over(Route::Tcp(gateway), public_url, auth_token)
    }

    /// A call over any route.
    pub fn over(route: Route, public_url: Url, auth_token: &str) -> Self {
        Self {
            route,
            public_url,
            path: "/voice/incoming".into(),
            auth_token: auth_token.to_owned(),
            account_sid: "AC00000000000000000000000000000000".into(),
            call_sid: None,
            from: "+15550100".into(),
            to: "+15550199".into(),
            speech: bundled_speech().into(),
            frames: FramePlan::default(),
            digits: Vec::new(),
            turns: Vec::new(),
            hangup_after: None,
            direction: Direction::Inbound,
            instructions: None,
            fallback: None,
            status_callback: None,
            transfer: Transfer::default(),
            compares_echo: true,
            quirks: Quirks::default(),
            progress: Arc::default(),
        }
    }

    /// The voice webhook's URL.
    pub fn webhook_url(&self) -> Result<Url, url::ParseError> {
        let base = self.public_url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{}", self.path))
    }

    /// When the caller hangs up, from the start of the first stream.
    pub fn hangup_after(&self) -> Duration {
        let speech = self.speech.len() as f64 / f64::from(SAMPLE_RATE);
        let default = if self.turns.is_empty() { Duration::from_secs_f64(speech) + TAIL } else { LONGEST_DIALOGUE };
        self.hangup_after.unwrap_or(default).min(LONGEST_CALL)
    }

    pub(super) fn speech_mulaw(&self) -> Arc<[u8]> {
        encode_mulaw(&self.speech).into()
    }

    /// The parameters of every request of the call `call_sid`, as in Twilio's request reference.
    pub fn parameters(&self, call_sid: &str, call_status: &str) -> Vec<(String, String)> {
        let pairs = [
            ("AccountSid", self.account_sid.as_str()),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", call_sid),
            ("CallStatus", call_status),
            ("Called", &self.to),
            ("Caller", &self.from),
            ("Direction", self.direction.as_str()),
            ("From", &self.from),
            ("To", &self.to),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
