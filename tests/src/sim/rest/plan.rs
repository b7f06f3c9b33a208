//! What the account is, and what happens when it dials: the plan of an [`super::Exchange`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use url::Url;

use super::{
    super::{CallPlan, Delivery, FramePlan, Quirks, Route, Transfer, bundled_speech},
    Fault,
};

/// The account, its numbers, and the lines that it dials.
#[derive(Clone)]
pub struct RestPlan {
    /// Where the REST API listens; port 0 for any that is free.
    pub listen: SocketAddr,
    /// `AC…`
    pub account_sid: String,
    /// Password of the account, and what requests of Twilio's are signed with.
    pub auth_token: String,
    /// Keys (`SK…`) and their secrets, which are good for the REST API alone.
    pub api_keys: Vec<(String, String)>,
    /// Numbers of the account.
    pub numbers: Vec<OwnedNumber>,
    /// Where Twilio's own requests go; can be told later ([`super::Exchange::set_gateway`]).
    pub gateway: Option<Gateway>,
    /// What happens when a number is dialled that is not in `lines`.
    pub line: Line,
    /// The same for particular numbers.
    pub lines: Vec<(String, Line)>,
    /// How fast the account may dial.
    pub rate: Rate,
    /// How status callbacks arrive.
    pub delivery: Delivery,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
    /// A call that has ended is not found any more (404) when it is changed; usually it is in the wrong state (400).
    pub forgets_ended_calls: bool,
}

impl RestPlan {
    /// An account with one number, `+15550199`, whose calls are answered by a person at once.
    pub fn new(auth_token: &str) -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            account_sid: "AC00000000000000000000000000000000".into(),
            auth_token: auth_token.to_owned(),
            api_keys: Vec::new(),
            numbers: vec![OwnedNumber::new("+15550199")],
            gateway: None,
            line: Line::default(),
            lines: Vec::new(),
            rate: Rate::default(),
            delivery: Delivery::default(),
            faults: Vec::new(),
            forgets_ended_calls: false,
        }
    }
}

/// The server that Twilio asks for TwiML and streams to.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where connections go, whatever host the URLs name.
    pub route: Route,
    /// What it calls itself; inbound calls go there when their number has no `VoiceUrl`.
    pub public_url: Url,
}

/// A number of the account.
#[derive(Clone, Debug)]
pub struct OwnedNumber {
    /// `PN…`
    pub sid: String,
    /// In E.164.
    pub number: String,
    /// Values by the names that the REST API gives its parameters, such as `VoiceUrl`.
    pub settings: BTreeMap<String, String>,
}

impl OwnedNumber {
    /// A number that nothing is set for. Its SID is made of its digits.
    pub fn new(number: &str) -> Self {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        Self { sid: format!("PN{digits:0>32}"), number: number.to_owned(), settings: BTreeMap::new() }
    }

    /// With a setting, by the name of the REST API's parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// How fast the account may dial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls per second; what is more waits, as at Twilio.
    pub per_second: f64,
    /// What is more is refused with 429 instead.
    pub refuses: bool,
}

impl Default for Rate {
    /// One call per second, Twilio's default.
    fn default() -> Self {
        Self { per_second: 1.0, refuses: false }
    }
}

impl Rate {
    /// Every call is dialled at once.
    pub const UNLIMITED: Self = Self { per_second: f64::INFINITY, refuses: false };

    /// Time between two calls.
    pub(super) fn interval(self) -> Duration {
        let interval = Duration::try_from_secs_f64(1.0 / self.per_second);
        // Nothing per second is a mistake and means what is nearest: very rarely.
        interval.unwrap_or(Duration::from_secs(3600))
    }
}

/// What becomes of a call that is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody, or something, answers after the ringing.
    #[default]
    Answered,
    /// Busy.
    Busy,
    /// It rings until `Timeout`, or as long as the line rings.
    NoAnswer,
    /// There is no such number.
    Failed,
}

/// Who answers, as answering-machine detection names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnsweredBy {
    /// A person.
    #[default]
    Human,
    /// A machine, seen at its first words.
    MachineStart,
    /// A machine, after its beep.
    MachineEndBeep,
    /// A machine, after its words and no beep.
    MachineEndSilence,
    /// A machine, after something else.
    MachineEndOther,
    /// A fax.
    Fax,
    /// Nobody can tell.
    Unknown,
}

impl AnsweredBy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Human,
        Self::MachineStart,
        Self::MachineEndBeep,
        Self::MachineEndSilence,
        Self::MachineEndOther,
        Self::Fax,
        Self::Unknown,
    ];

    /// As Twilio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::MachineStart => "machine_start",
            Self::MachineEndBeep => "machine_end_beep",
            Self::MachineEndSilence => "machine_end_silence",
            Self::MachineEndOther => "machine_end_other",
            Self::Fax => "fax",
            Self::Unknown => "unknown",
        }
    }

    /// What `Enable` (or, waiting for the end, `DetectMessageEnd`) says of it.
    pub(super) fn detected(self, waits_for_end: bool) -> Self {
        match self {
            Self::MachineStart if waits_for_end => Self::MachineEndBeep,
            Self::MachineEndBeep | Self::MachineEndSilence | Self::MachineEndOther if !waits_for_end => {
                Self::MachineStart
            }
            same @ (Self::Human
            | Self::MachineStart
            | Self::MachineEndBeep
            | Self::MachineEndSilence
            | Self::MachineEndOther
            | Self::Fax
            | Self::Unknown) => same,
        }
    }
}

/// A telephone that the account may dial, and whoever sits there.
#[derive(Clone)]
pub struct Line {
    /// From dialling until it rings.
    pub setup: Duration,
    /// How long it rings.
    pub rings: Duration,
    /// What comes of it.
    pub outcome: Outcome,
    /// Who answers.
    pub answered_by: AnsweredBy,
    /// How long it takes to tell, from the answer.
    pub detected_after: Duration,
    /// What is said, PCM at 8 kHz.
    pub speech: Arc<[i16]>,
    /// How it is cut.
    pub frames: FramePlan,
    /// Keys that are pressed, from the start of the first stream.
    pub digits: Vec<(Duration, char)>,
    /// When they hang up, from the start of the first stream; two seconds after the last word when none.
    pub hangup_after: Option<Duration>,
    /// What becomes of a `<Dial>`.
    pub transfer: Transfer,
    /// What Twilio leaves open.
    pub quirks: Quirks,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            setup: Duration::from_millis(50),
            rings: Duration::from_millis(200),
            outcome: Outcome::default(),
            answered_by: AnsweredBy::default(),
            detected_after: Duration::from_secs(1),
            speech: bundled_speech().into(),
            frames: FramePlan::default(),
            digits: Vec::new(),
            hangup_after: None,
            transfer: Transfer::default(),
            quirks: Quirks::default(),
        }
    }
}

impl Line {
    /// A line of this outcome.
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, ..Self::default() }
    }

    /// What whoever sits there does on a call of `account` over `gateway`.
    pub(super) fn call_plan(&self, account: &RestPlan, gateway: &Gateway) -> CallPlan {
        let plan = CallPlan::over(gateway.route.clone(), gateway.public_url.clone(), &account.auth_token);
        CallPlan {
            account_sid: account.account_sid.clone(),
            speech: Arc::clone(&self.speech),
            frames: self.frames.clone(),
            digits: self.digits.clone(),
            hangup_after: self.hangup_after,
            transfer: self.transfer,
            quirks: self.quirks.clone(),
            ..plan
        }
    }
}
