//! Pure: the verbs that are not about media streams: words, transfers, queues.

use roxmltree::Node;

use super::{Method, TwimlError, attributes, elements, flag, method, number, schema, text, words};

/// Attributes of `<Dial>` (twilio.com/docs/voice/twiml/dial).
const DIAL_ATTRIBUTES: [&str; 14] = [
    "action",
    "method",
    "callerId",
    "timeout",
    "timeLimit",
    "answerOnBridge",
    "hangupOnStar",
    "ringTone",
    "record",
    "recordingStatusCallback",
    "recordingStatusCallbackMethod",
    "recordingStatusCallbackEvent",
    "recordingTrack",
    "trim",
];
/// Attributes of `<Number>` (…/dial/number or …/twiml/number).
const NUMBER_ATTRIBUTES: [&str; 7] =
    ["sendDigits", "url", "method", "byoc", "statusCallback", "statusCallbackMethod", "statusCallbackEvent"];
/// Attributes of `<Sip>` (twilio.com/docs/voice/twiml/sip).
const SIP_ATTRIBUTES: [&str; 7] =
    ["username", "password", "url", "method", "statusCallback", "statusCallbackMethod", "statusCallbackEvent"];
/// Speech markup that `<Say>` may hold (twilio.com/docs/voice/twiml/say/text-speech).
const SPEECH_MARKUP: [&str; 11] =
    ["break", "emphasis", "lang", "p", "phoneme", "prosody", "s", "say-as", "sub", "w", "voice"];

/// `<Dial>` with its nouns, or with a bare number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// Numbers (`<Number>` or bare) and `sip:` addresses (`<Sip>`), in order; all ring at once.
    pub to: Vec<String>,
    /// Where to ask what comes next, as written (may be relative).
    pub action: Option<String>,
    /// `GET`, or `POST` as when it is not written.
    pub method: Method,
    /// Number shown to those who are called.
    pub caller_id: Option<String>,
    /// The caller hears ringing until somebody answers, instead of counting as answered at once.
    pub answer_on_bridge: bool,
    /// How long to ring, in seconds.
    pub timeout: Option<u32>,
}

impl Dial {
    /// A bare number or `sip:` address, everything else left out.
    pub fn to(number: &str) -> Self {
        Self { to: vec![number.to_owned()], ..Self::default() }
    }
}

/// `<Enqueue>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enqueue {
    /// Name of the queue.
    pub queue: String,
    /// Where to ask what comes next, as written (may be relative).
    pub action: Option<String>,
    /// For the action.
    pub method: Method,
    /// What is played to those who wait, as written.
    pub wait_url: Option<String>,
}

/// `<Redirect>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// As written (may be relative).
    pub to: String,
    /// `GET`, or `POST` as when it is not written.
    pub method: Method,
}

pub(super) fn say(node: Node<'_, '_>) -> Result<String, TwimlError> {
    attributes(node, &["voice", "language", "loop"])?;
    number(node, "loop")?;
    if let Some(name) = ["voice", "language"].into_iter().find(|name| node.attribute(*name).is_some_and(str::is_empty))
    {
        return Err(schema(format!("<Say {name}=\"\">")));
    }
    let inner = node.descendants().filter(Node::is_element).skip(1);
    match inner.map(|element| element.tag_name().name()).find(|name| !SPEECH_MARKUP.contains(name)) {
        Some(name) => Err(schema(format!("<{name}> in <Say>"))),
        None => Ok(words(node)),
    }
}

pub(super) fn dial(node: Node<'_, '_>) -> Result<Dial, TwimlError> {
    attributes(node, &DIAL_ATTRIBUTES)?;
    let mut dial = Dial {
        to: Vec::new(),
        action: node.attribute("action").map(str::to_owned),
        method: method(node, "method")?,
        caller_id: node.attribute("callerId").map(str::to_owned),
        answer_on_bridge: flag(node, "answerOnBridge")?,
        timeout: number(node, "timeout")?,
    };
    number(node, "timeLimit")?;
    if !node.children().any(|child| child.is_element()) {
        dial.to.push(text(node)?);
        return Ok(dial);
    }
    for noun in elements(node)? {
        match noun.tag_name().name() {
            "Number" => attributes(noun, &NUMBER_ATTRIBUTES)?,
            "Sip" => attributes(noun, &SIP_ATTRIBUTES)?,
            other => return Err(schema(format!("<{other}> in <Dial>"))),
        }
        let to = text(noun)?;
        if noun.tag_name().name() == "Sip" && !(to.starts_with("sip:") || to.starts_with("sips:")) {
            return Err(schema("<Sip> without an address that begins with sip:".into()));
        }
        dial.to.push(to);
    }
    Ok(dial)
}

pub(super) fn enqueue(node: Node<'_, '_>) -> Result<Enqueue, TwimlError> {
    attributes(node, &["action", "method", "waitUrl", "waitUrlMethod", "workflowSid", "maxQueueSize"])?;
    method(node, "waitUrlMethod")?;
    Ok(Enqueue {
        queue: text(node)?,
        action: node.attribute("action").map(str::to_owned),
        method: method(node, "method")?,
        wait_url: node.attribute("waitUrl").map(str::to_owned),
    })
}
