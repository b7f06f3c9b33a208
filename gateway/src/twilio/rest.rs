//! Twilio's REST API as text: what is asked as a form, what is answered as JSON
//! (twilio.com/docs/voice/api/call-resource). Emitted strictly, parsed leniently; numbers do not print.

use serde_json::Value;
use telemetry::Sensitive;

/// Form field and value.
pub type Field = (&'static str, String);

/// A call to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCall {
    /// Number in E.164, or SIP address.
    pub to: Sensitive<String>,
    /// A number of the account.
    pub from: Sensitive<String>,
    /// Where Twilio gets the TwiML once somebody answers.
    pub url: String,
    /// Where Twilio reports how the call fares.
    pub status_callback: String,
    /// Whether a human answered, found out beside the call.
    pub answering_machine: Option<AnsweringMachine>,
    /// Recording by Twilio.
    pub record: Option<Recording>,
    /// How long it may ring, in seconds; Twilio takes 60 when not given, and 600 at most.
    pub ring_timeout_s: Option<u16>,
    /// How long the call may be, in seconds.
    pub time_limit_s: Option<u32>,
}

/// Detection of answering machines, asynchronous: a synchronous one is seconds of silence to whoever answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweringMachine {
    /// What it waits for.
    pub mode: DetectionMode,
    /// How long it may take, in seconds; Twilio takes 3 to 59, and 30 when not given.
    pub timeout_s: Option<u16>,
    /// Where Twilio reports what it found.
    pub callback: String,
}

/// What the detection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectionMode {
    /// Until it knows who answered.
    Enable,
    /// Until a machine's greeting is over, so that a message can be left.
    DetectMessageEnd,
}

/// A recording that Twilio makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Both sides together or apart.
    pub channels: RecordingChannels,
    /// Which sides.
    pub track: RecordingTrack,
}

/// Channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingChannels {
    /// Both sides in one.
    Mono,
    /// A channel each.
    Dual,
}

/// Sides of a recording, as Twilio sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingTrack {
    /// What Twilio hears.
    Inbound,
    /// What Twilio plays.
    Outbound,
    /// Both.
    Both,
}

/// How a call is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Whatever its state.
    Completed,
    /// Only as long as nobody has answered.
    Canceled,
}

/// What Twilio says about a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallResource {
    /// CallSid, never empty.
    pub sid: String,
    /// queued, ringing, in-progress, completed, busy, failed, no-answer, canceled; empty when not said.
    pub status: String,
    /// Who answered, where it was asked for.
    pub answered_by: Option<String>,
    /// Length in seconds, once it is over.
    pub duration_s: Option<u32>,
    /// How long it is expected to wait for its turn, in milliseconds.
    pub queue_time_ms: Option<u32>,
    /// Answered then (RFC 2822).
    pub start_time: Option<String>,
    /// Ended then (RFC 2822).
    pub end_time: Option<String>,
}

/// Why Twilio refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// Twilio's error code, as in twilio.com/docs/api/errors.
    pub code: Option<u32>,
    /// In words. It may quote a phone number.
    pub message: Sensitive<String>,
    /// Where to read on.
    pub more_info: Option<String>,
}

/// A number of the account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncomingNumber {
    /// PN…
    pub sid: String,
    /// In E.164.
    pub number: Sensitive<String>,
    /// Asked when a call comes in.
    pub voice_url: Option<String>,
    /// GET or POST.
    pub voice_method: Option<String>,
    /// An application whose addresses count instead of the number's.
    pub voice_application_sid: Option<String>,
    /// A SIP trunk that takes the calls, whatever addresses there are.
    pub trunk_sid: Option<String>,
    /// Whether it can be called at all.
    pub can_voice: Option<bool>,
}

impl CreateCall {
    /// The form of `POST Calls.json`.
    pub fn form(&self) -> Vec<Field> {
        let post = || "POST".to_owned();
        let mut form = vec![
            ("To", self.to.expose().clone()),
            ("From", self.from.expose().clone()),
            ("Url", self.url.clone()),
            ("Method", post()),
            ("StatusCallback", self.status_callback.clone()),
            ("StatusCallbackMethod", post()),
        ];
        let events = ["initiated", "ringing", "answered", "completed"];
        form.extend(events.map(|event| ("StatusCallbackEvent", event.to_owned())));
        form.extend(self.ring_timeout_s.map(|seconds| ("Timeout", seconds.to_string())));
        form.extend(self.time_limit_s.map(|seconds| ("TimeLimit", seconds.to_string())));
        if let Some(AnsweringMachine { mode, timeout_s, callback }) = &self.answering_machine {
            let mode = match mode {
                DetectionMode::Enable => "Enable",
                DetectionMode::DetectMessageEnd => "DetectMessageEnd",
            };
            form.push(("MachineDetection", mode.to_owned()));
            form.extend(timeout_s.map(|seconds| ("MachineDetectionTimeout", seconds.to_string())));
            form.push(("AsyncAmd", "true".to_owned()));
            form.push(("AsyncAmdStatusCallback", callback.clone()));
            form.push(("AsyncAmdStatusCallbackMethod", post()));
        }
        if let Some(Recording { channels, track }) = self.record {
            let channels = match channels {
                RecordingChannels::Mono => "mono",
                RecordingChannels::Dual => "dual",
            };
            let track = match track {
                RecordingTrack::Inbound => "inbound",
                RecordingTrack::Outbound => "outbound",
                RecordingTrack::Both => "both",
            };
            form.push(("Record", "true".to_owned()));
            form.push(("RecordingChannels", channels.to_owned()));
            form.push(("RecordingTrack", track.to_owned()));
        }
        form
    }
}

impl End {
    /// The form of `POST Calls/{sid}.json`.
    pub fn form(self) -> Vec<Field> {
        let status = match self {
            Self::Completed => "completed",
            Self::Canceled => "canceled",
        };
        vec![("Status", status.to_owned())]
    }
}

impl CallResource {
    /// Reads a call; `None` when it is not JSON or names no call.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let call: Value = serde_json::from_slice(body).ok()?;
        Some(Self {
            sid: text(&call, "sid").filter(|sid| is_sid(sid))?,
            status: text(&call, "status").unwrap_or_default(),
            answered_by: text(&call, "answered_by"),
            duration_s: number(&call, "duration"),
            queue_time_ms: number(&call, "queue_time"),
            start_time: text(&call, "start_time"),
            end_time: text(&call, "end_time"),
        })
    }

    /// Whether it is over, or never was.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "busy" | "failed" | "no-answer" | "canceled")
    }
}

impl ErrorBody {
    /// Longest message that is passed on, in characters.
    const MESSAGE_CHARS: usize = 500;

    /// Reads an error; what is no error of Twilio's has neither code nor message.
    pub fn parse(body: &[u8]) -> Self {
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        let clean = |text: String| -> String {
            text.chars().filter(|character| !character.is_control()).take(Self::MESSAGE_CHARS).collect()
        };
        Self {
            code: number(&error, "code"),
            message: Sensitive::new(text(&error, "message").map(clean).unwrap_or_default()),
            more_info: text(&error, "more_info").filter(|url| url.starts_with("https://")).map(clean),
        }
    }
}

impl IncomingNumber {
    /// Reads a page of numbers; `None` when it is none.
    pub fn parse_page(body: &[u8]) -> Option<Vec<Self>> {
        let page: Value = serde_json::from_slice(body).ok()?;
        let numbers = page.get("incoming_phone_numbers")?.as_array()?;
        let read = |number: &Value| Self {
            sid: text(number, "sid").unwrap_or_default(),
            number: Sensitive::new(text(number, "phone_number").unwrap_or_default()),
            voice_url: text(number, "voice_url"),
            voice_method: text(number, "voice_method"),
            voice_application_sid: text(number, "voice_application_sid"),
            trunk_sid: text(number, "trunk_sid"),
            can_voice: number.pointer("/capabilities/voice").and_then(Value::as_bool),
        };
        Some(numbers.iter().map(read).collect())
    }
}

/// Whether `sid` has the form of a name that Twilio gives; anything else has no place in a path.
pub fn is_sid(sid: &str) -> bool {
    (1..=64).contains(&sid.len()) && sid.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A text that is there and not empty.
fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// A number, or a text that is one: Twilio writes both.
fn number(object: &Value, name: &str) -> Option<u32> {
    let value = object.get(name)?;
    value.as_u64().and_then(|number| number.try_into().ok()).or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain() -> CreateCall {
        CreateCall {
            to: Sensitive::new("+15550101".to_owned()),
            from: Sensitive::new("+15550100".to_owned()),
            url: "https://voice.example.com/voice/outbound".to_owned(),
            status_callback: "https://voice.example.com/voice/status".to_owned(),
            answering_machine: None,
            record: None,
            ring_timeout_s: None,
            time_limit_s: None,
        }
    }

    fn values<'a>(form: &'a [Field], name: &str) -> Vec<&'a str> {
        form.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn a_plain_call_asks_for_all_callbacks_and_nothing_else() {
        let form = plain().form();
        assert_eq!(values(&form, "StatusCallbackEvent"), ["initiated", "ringing", "answered", "completed"]);
        assert_eq!(values(&form, "To"), ["+15550101"]);
        assert_eq!(values(&form, "Method"), ["POST"]);
        assert_eq!(form.len(), 10);
        assert!(!format!("{:?}", plain()).contains("555"));
    }

    #[test]
    fn everything_that_can_be_asked_for_is_asked_for_once() {
        let form = CreateCall {
            answering_machine: Some(AnsweringMachine {
                mode: DetectionMode::DetectMessageEnd,
                timeout_s: Some(20),
                callback: "https://voice.example.com/voice/amd".to_owned(),
            }),
            record: Some(Recording { channels: RecordingChannels::Dual, track: RecordingTrack::Both }),
            ring_timeout_s: Some(30),
            time_limit_s: Some(600),
            ..plain()
        }
        .form();
        for (name, value) in [
            ("MachineDetection", "DetectMessageEnd"),
            ("MachineDetectionTimeout", "20"),
            ("AsyncAmd", "true"),
            ("AsyncAmdStatusCallback", "https://voice.example.com/voice/amd"),
            ("AsyncAmdStatusCallbackMethod", "POST"),
            ("Record", "true"),
            ("RecordingChannels", "dual"),
            ("RecordingTrack", "both"),
            ("Timeout", "30"),
            ("TimeLimit", "600"),
        ] {
            assert_eq!(values(&form, name), [value], "{name}");
        }
    }

    #[test]
    fn a_call_is_read_whatever_form_its_numbers_have() {
        let sid = "CA5ef8732a3c49700934481addd5ce1659";
        let body = json!({"sid": sid, "status": "completed", "duration": "15", "queue_time": 1000,
            "answered_by": null, "start_time": "Tue, 18 Aug 2026 08:00:00 +0000", "to": "+15550101", "more": [1]});
        let call = CallResource::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!((call.duration_s, call.queue_time_ms, call.answered_by.as_deref()), (Some(15), Some(1000), None));
        assert!(call.is_over());
        let queued = CallResource::parse(json!({"sid": sid}).to_string().as_bytes()).unwrap();
        assert!(!queued.is_over() && queued.status.is_empty());
        for bad in ["", "<html>", "[]", "{}", r#"{"sid": ""}"#, r#"{"sid": "../x"}"#, r#"{"sid": 7}"#] {
            assert_eq!(CallResource::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_error_is_read_as_far_as_it_is_one_and_its_message_does_not_print() {
        let body = json!({"code": "21211", "message": "The 'To' number +15550101 is not valid.\n", "status": 400,
            "more_info": "https://www.twilio.com/docs/errors/21211"});
        let error = ErrorBody::parse(body.to_string().as_bytes());
        assert_eq!(error.code, Some(21211));
        assert_eq!(error.message.expose(), "The 'To' number +15550101 is not valid.");
        assert!(error.more_info.is_some() && !format!("{error:?}").contains("5550101"));
        assert_eq!(ErrorBody::parse(b"<html>502</html>"), ErrorBody::default());
        assert_eq!(
            ErrorBody::parse(br#"{"code": -1, "message": 5, "more_info": "javascript:"}"#),
            ErrorBody::default()
        );
    }

    #[test]
    fn numbers_are_read_with_what_decides_where_their_calls_go() {
        let body = json!({"incoming_phone_numbers": [{"sid": "PN1", "phone_number": "+15550100",
            "voice_url": "https://demo.twilio.com/welcome/voice/", "voice_method": "POST", "voice_application_sid": "",
            "trunk_sid": null, "capabilities": {"voice": true, "sms": false}}]});
        let numbers = IncomingNumber::parse_page(body.to_string().as_bytes()).unwrap();
        assert_eq!(numbers[0].voice_url.as_deref(), Some("https://demo.twilio.com/welcome/voice/"));
        assert_eq!((numbers[0].can_voice, &numbers[0].voice_application_sid), (Some(true), &None));
        assert_eq!(IncomingNumber::parse_page(b"{}"), None);
    }
}
