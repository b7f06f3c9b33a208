//! Pure: the parameters of the REST API, checked one by one as documented (twilio.com/docs/voice/api/call-resource).

use std::{ops::RangeInclusive, time::Duration};

use url::Url;

use super::{
    super::{CallEvent, Instructions, Method},
    RestError,
};

/// Longest `Twiml`, in characters.
const TWIML_LIMIT: usize = 4000;
/// Longest `SendDigits`.
const DIGITS_LIMIT: usize = 32;
/// `Timeout` when it is not given, in seconds.
const TIMEOUT: u64 = 60;
/// `TimeLimit` when it is not given, and the most: four hours.
const TIME_LIMIT: u64 = 14_400;

/// Parameters of `POST …/Calls.json`.
pub const CREATE: [&str; 36] = [
    "To",
    "From",
    "Method",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackEvent",
    "StatusCallbackMethod",
    "SendDigits",
    "Timeout",
    "Record",
    "RecordingChannels",
    "RecordingStatusCallback",
    "RecordingStatusCallbackMethod",
    "SipAuthUsername",
    "SipAuthPassword",
    "MachineDetection",
    "MachineDetectionTimeout",
    "RecordingStatusCallbackEvent",
    "Trim",
    "CallerId",
    "MachineDetectionSpeechThreshold",
    "MachineDetectionSpeechEndThreshold",
    "MachineDetectionSilenceTimeout",
    "AsyncAmd",
    "AsyncAmdStatusCallback",
    "AsyncAmdStatusCallbackMethod",
    "Byoc",
    "CallReason",
    "CallToken",
    "RecordingTrack",
    "TimeLimit",
    "ClientNotificationUrl",
    "Url",
    "Twiml",
    "ApplicationSid",
];
/// The same, newer than the published schema: Twilio's Python library 9.13 sends them when told to.
pub const CREATE_NEWER: [&str; 2] = ["RecordingConfigurationId", "Passports"];
/// Parameters of `POST …/Calls/{Sid}.json`.
pub const UPDATE: [&str; 9] = [
    "Url",
    "Method",
    "Status",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackMethod",
    "Twiml",
    "TimeLimit",
];

/// A request's parameters by name.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [(String, String)]);

/// A call to be made.
#[derive(Clone, Debug)]
pub(super) struct NewCall {
    pub(super) to: String,
    pub(super) from: String,
    pub(super) instructions: Instructions,
    pub(super) fallback: Option<(Method, Url)>,
    pub(super) status_callback: Option<(Method, Url)>,
    pub(super) events: Vec<CallEvent>,
    pub(super) rings_at_most: Duration,
    pub(super) lasts_at_most: Duration,
    pub(super) detection: Option<Detection>,
}

/// Answering-machine detection.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// `DetectMessageEnd`: wait for the beep.
    pub(super) waits_for_end: bool,
    pub(super) takes_at_most: Duration,
    /// `AsyncAmd`: the call goes on meanwhile.
    pub(super) is_async: bool,
    pub(super) callback: Option<(Method, Url)>,
}

/// A change of a call.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) action: Option<Action>,
    pub(super) status_callback: Option<(Method, Url)>,
    pub(super) time_limit: Option<Duration>,
}

/// What a change does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Cancel,
    Complete,
    Replace(Instructions),
}

impl NewCall {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, RestError> {
        let to = fields.get("To").ok_or_else(RestError::no_to)?;
        if !is_endpoint(to) {
            return Err(RestError::to(to));
        }
        let from = fields.get("From").ok_or_else(RestError::no_from)?;
        if !is_endpoint(from) {
            return Err(RestError::from(from));
        }
        if let Some(refused) = RestError::reserved_to(to) {
            return Err(refused);
        }
        let instructions = fields.instructions()?.ok_or_else(RestError::no_url)?;
        fields.check_rest()?;
        let status_callback = fields.target("StatusCallback", "StatusCallbackMethod")?;
        let timeout = fields.number("Timeout", 1..=600).map_err(|_| RestError::timeout())?;
        Ok(Self {
            to: to.to_owned(),
            from: from.to_owned(),
            instructions,
            fallback: fields.target("FallbackUrl", "FallbackMethod")?,
            events: fields.events()?,
            status_callback,
            rings_at_most: Duration::from_secs(timeout.unwrap_or(TIMEOUT)),
            lasts_at_most: fields.time_limit()?.unwrap_or(Duration::from_secs(TIME_LIMIT)),
            detection: fields.detection()?,
        })
    }
}

impl Change {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, RestError> {
        if fields.get("Url").is_some() && fields.get("Twiml").is_some() {
            return Err(RestError::parameter("Twiml", "Twiml and Url are mutually exclusive"));
        }
        fields.target("FallbackUrl", "FallbackMethod")?;
        let action = match fields.get("Status") {
            Some("canceled") => Some(Action::Cancel),
            Some("completed") => Some(Action::Complete),
            Some(_) => return Err(RestError::parameter("Status", "canceled or completed")),
            None => fields.instructions()?.map(Action::Replace),
        };
        let status_callback = fields.target("StatusCallback", "StatusCallbackMethod")?;
        Ok(Self { action, status_callback, time_limit: fields.time_limit()? })
    }
}

impl<'a> Fields<'a> {
    /// The value, unless it is missing or empty.
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub(super) fn all(self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn instructions(self) -> Result<Option<Instructions>, RestError> {
        if let Some(url) = self.url("Url")? {
            return Ok(Some(Instructions::fetch(self.method("Method")?, url)));
        }
        self.method("Method")?;
        if self.get("ApplicationSid").is_some() {
            // The account has no applications.
            return Err(RestError::application());
        }
        match self.get("Twiml") {
            Some(twiml) if twiml.chars().count() > TWIML_LIMIT => {
                Err(RestError::parameter("Twiml", "at most 4000 characters"))
            }
            Some(twiml) => Ok(Some(Instructions::Twiml(twiml.to_owned()))),
            None => Ok(None),
        }
    }

    fn url(self, name: &str) -> Result<Option<Url>, RestError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // Host names with underscores are refused for callbacks, and not resolved for anything else.
        match url.filter(|url| url.host_str().is_some_and(|host| !host.contains('_'))) {
            Some(url) => Ok(Some(url)),
            None => Err(RestError::url(name, text)),
        }
    }

    fn method(self, name: &str) -> Result<Method, RestError> {
        match self.get(name) {
            None => Ok(Method::default()),
            Some(text) => Method::read(&text.to_ascii_uppercase()).ok_or_else(|| RestError::method(name)),
        }
    }

    pub(super) fn target(self, url: &str, method: &str) -> Result<Option<(Method, Url)>, RestError> {
        let method = self.method(method)?;
        Ok(self.url(url)?.map(|url| (method, url)))
    }

    fn number(self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, RestError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let why = format!("a whole number from {} to {}", range.start(), range.end());
                Err(RestError::parameter(name, &why))
            }
        }
    }

    fn one_of(self, name: &str, words: &[&str]) -> Result<Option<&'a str>, RestError> {
        match self.get(name) {
            Some(word) if words.contains(&word) => Ok(Some(word)),
            Some(_) => Err(RestError::parameter(name, &format!("one of {}", words.join(", ")))),
            None => Ok(None),
        }
    }

    fn time_limit(self) -> Result<Option<Duration>, RestError> {
        Ok(self.number("TimeLimit", 1..=TIME_LIMIT)?.map(Duration::from_secs))
    }

    fn events(self) -> Result<Vec<CallEvent>, RestError> {
        // Clients send one field for each, or one with spaces between.
        let words = self.all("StatusCallbackEvent").flat_map(str::split_whitespace);
        let events: Option<Vec<CallEvent>> = words.map(CallEvent::read).collect();
        match events {
            Some(events) if events.is_empty() => Ok(vec![CallEvent::Completed]),
            Some(events) => Ok(events),
            None => Err(RestError::parameter("StatusCallbackEvent", "initiated, ringing, answered, completed")),
        }
    }

    fn detection(self) -> Result<Option<Detection>, RestError> {
        let wanted = self.one_of("MachineDetection", &["Enable", "DetectMessageEnd"])?;
        let timeout = self.number("MachineDetectionTimeout", 3..=59)?;
        self.number("MachineDetectionSpeechThreshold", 1000..=6000)?;
        self.number("MachineDetectionSpeechEndThreshold", 500..=5000)?;
        self.number("MachineDetectionSilenceTimeout", 2000..=10_000)?;
        let is_async = self.one_of("AsyncAmd", &["true", "false"])? == Some("true");
        let callback = self.target("AsyncAmdStatusCallback", "AsyncAmdStatusCallbackMethod")?;
        // SendDigits cancels the detection.
        let wanted = wanted.filter(|_| self.get("SendDigits").is_none());
        Ok(wanted.map(|kind| Detection {
            waits_for_end: kind == "DetectMessageEnd",
            takes_at_most: Duration::from_secs(timeout.unwrap_or(30)),
            is_async,
            callback,
        }))
    }

    /// What has no effect here and is checked all the same.
    fn check_rest(self) -> Result<(), RestError> {
        if let Some(digits) = self.get("SendDigits")
            && (digits.len() > DIGITS_LIMIT || !digits.chars().all(|c| "0123456789ABCD#*wW".contains(c)))
        {
            return Err(RestError::send_digits());
        }
        self.one_of("Record", &["true", "false"])?;
        self.one_of("RecordingChannels", &["mono", "dual"])?;
        self.one_of("RecordingTrack", &["inbound", "outbound", "both"])?;
        self.one_of("Trim", &["trim-silence", "do-not-trim"])?;
        self.target("RecordingStatusCallback", "RecordingStatusCallbackMethod")?;
        let recording = ["in-progress", "completed", "absent"];
        let mut events = self.all("RecordingStatusCallbackEvent").flat_map(str::split_whitespace);
        if !events.all(|event| recording.contains(&event)) {
            return Err(RestError::parameter("RecordingStatusCallbackEvent", &recording.join(", ")));
        }
        self.url("ClientNotificationUrl")?;
        if self.get("Byoc").is_some_and(|sid| !is_sid(sid, "BY")) {
            return Err(RestError::parameter("Byoc", "a trunk's SID, BY and 32 hexadecimal digits"));
        }
        match self.get("CallerId") {
            Some(id) if !is_endpoint(id) => Err(RestError::parameter("CallerId", "a number in E.164 or an address")),
            Some(_) | None => Ok(()),
        }
    }
}

/// A number in E.164, a SIP address or a client's name.
pub(super) fn is_endpoint(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix('+') {
        let is_long_enough = (7..=15).contains(&digits.len());
        return is_long_enough && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    }
    let address = ["sip:", "sips:"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_address = address.is_some_and(|rest| rest.contains('@') && !rest.contains(char::is_whitespace));
    is_address || text.strip_prefix("client:").is_some_and(|name| !name.is_empty())
}

/// Two letters and 32 hexadecimal digits.
pub(super) fn is_sid(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
