//! Pure: TwiML, read as strictly as Twilio reads it, for the verbs a media gateway answers with.
//!
//! twilio.com/docs/voice/twiml/stream and …/connect; other verbs are reported, not ignored.

mod verbs;

use roxmltree::Node;
use thiserror::Error;
use url::{ParseError, Url};

use super::{Code, Finding};
pub use verbs::{Dial, Enqueue, Redirect};
use verbs::{dial, enqueue, say};

/// Name and value of one `<Parameter>` together must stay below this.
const PARAMETER_LIMIT: usize = 500;

/// A TwiML document: verbs in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What to do, in order.
    pub verbs: Vec<Verb>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A bidirectional stream.
    Connect(Connect),
    /// Words for the caller.
    Say(String),
    /// Somebody to put the caller through to.
    Dial(Dial),
    /// A queue to wait in.
    Enqueue(Enqueue),
    /// End the call.
    Hangup,
    /// Refuse the call, with the reason (`rejected` or `busy`).
    Reject(String),
    /// Fetch another document.
    Redirect(Redirect),
    /// Silence, in seconds.
    Pause(u32),
}

/// HTTP method of a request that Twilio makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Parameters in the query.
    Get,
    /// Parameters in the body.
    #[default]
    Post,
}

impl Method {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    /// Reads `GET` or `POST`, which must be in capitals.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Get, Self::Post].into_iter().find(|method| method.as_str() == text)
    }
}

/// `<Connect>` with its `<Stream>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Where to ask what comes next, as written (may be relative).
    pub action: Option<String>,
    /// `GET`, or `POST` as when it is not written.
    pub method: Method,
    /// The stream.
    pub stream: StreamNoun,
}

/// `<Stream>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNoun {
    /// As written; [`StreamNoun::check`] says whether Twilio dials it.
    pub url: String,
    /// `name`, unique per call.
    pub name: Option<String>,
    /// `track`; only `inbound_track` is allowed under `<Connect>`.
    pub track: Option<String>,
    /// Where the stream's events go.
    pub status_callback: Option<String>,
    /// `GET`, or `POST` as when it is not written.
    pub status_callback_method: Method,
    /// `<Parameter>`s in order.
    pub parameters: Vec<(String, String)>,
}

/// What is wrong with a document, with Twilio's code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TwimlError {
    /// Not XML.
    #[error("not XML: {0}")]
    NotXml(String),
    /// XML that is not TwiML.
    #[error("not TwiML: {0}")]
    Schema(String),
}

impl TwimlError {
    /// As Twilio's debugger would show it.
    pub fn finding(&self) -> Finding {
        let code = match self {
            Self::NotXml(_) => Code::DocumentParseFailure,
            Self::Schema(_) => Code::SchemaValidation,
        };
        Finding::new(code, self.to_string())
    }
}

impl Document {
    /// Reads a document.
    pub fn parse(text: &str) -> Result<Self, TwimlError> {
        let xml = roxmltree::Document::parse(text).map_err(|error| TwimlError::NotXml(error.to_string()))?;
        let response = xml.root_element();
        if response.tag_name().name() != "Response" {
            return Err(schema(format!("the root is <{}>, not <Response>", response.tag_name().name())));
        }
        attributes(response, &[])?;
        let verbs: Result<Vec<Verb>, TwimlError> = elements(response)?.map(verb).collect();
        Ok(Self { verbs: verbs? })
    }
}

impl StreamNoun {
    /// The URL that Twilio dials, or what it refuses about the stream before it dials. A relative URL
    /// is resolved against the document's; an absolute one is taken as written, since it is signed so.
    pub fn check(&self, document: &Url) -> Result<String, Finding> {
        let (url, dialled) = match Url::parse(&self.url) {
            Ok(url) => (url, self.url.clone()),
            Err(ParseError::RelativeUrlWithoutBase) => {
                let mut url = document.join(&self.url).map_err(|e| self.malformed(e))?;
                if url.set_scheme("wss").is_err() {
                    return Err(self.malformed(ParseError::RelativeUrlWithCannotBeABaseBase));
                }
                let dialled = url.to_string();
                (url, dialled)
            }
            Err(error) => return Err(self.malformed(error)),
        };
        if url.scheme() != "wss" {
            return Err(Finding::new(Code::StreamScheme, format!("the scheme of {} is not wss", self.url)));
        }
        if url.query().is_some() {
            return Err(Finding::new(
                Code::StreamHandshake,
                format!("{} has a query string, which <Stream> does not support", self.url),
            ));
        }
        if let Some(track) = &self.track
            && track != "inbound_track"
        {
            return Err(Finding::new(Code::StreamTrack, format!("track {track:?} is not allowed under <Connect>")));
        }
        Ok(dialled)
    }

    fn malformed(&self, error: ParseError) -> Finding {
        Finding::new(Code::StreamUrl, format!("{:?}: {error}", self.url))
    }
}

fn verb(node: Node<'_, '_>) -> Result<Verb, TwimlError> {
    let verb = match node.tag_name().name() {
        "Connect" => Verb::Connect(connect(node)?),
        "Say" => Verb::Say(say(node)?),
        "Dial" => Verb::Dial(dial(node)?),
        "Enqueue" => Verb::Enqueue(enqueue(node)?),
        "Hangup" => {
            attributes(node, &[])?;
            empty(node)?;
            Verb::Hangup
        }
        "Reject" => {
            attributes(node, &["reason"])?;
            empty(node)?;
            match node.attribute("reason").unwrap_or("rejected") {
                reason @ ("rejected" | "busy") => Verb::Reject(reason.to_owned()),
                other => return Err(schema(format!("<Reject reason={other:?}>"))),
            }
        }
        "Redirect" => {
            attributes(node, &["method"])?;
            Verb::Redirect(Redirect { to: text(node)?, method: method(node, "method")? })
        }
        "Pause" => {
            attributes(node, &["length"])?;
            empty(node)?;
            Verb::Pause(number(node, "length")?.unwrap_or(1))
        }
        other => return Err(schema(format!("<{other}> in <Response>"))),
    };
    Ok(verb)
}

fn connect(node: Node<'_, '_>) -> Result<Connect, TwimlError> {
    attributes(node, &["action", "method"])?;
    let mut nouns = elements(node)?;
    let (Some(noun), None) = (nouns.next(), nouns.next()) else {
        return Err(schema("<Connect> must hold one noun".into()));
    };
    if noun.tag_name().name() != "Stream" {
        return Err(schema(format!("<{}> in <Connect>", noun.tag_name().name())));
    }
    attributes(noun, &["url", "name", "track", "statusCallback", "statusCallbackMethod"])?;
    let Some(url) = noun.attribute("url") else {
        return Err(schema("<Stream> without url".into()));
    };
    let parameters: Result<Vec<_>, TwimlError> = elements(noun)?.map(parameter).collect();
    Ok(Connect {
        action: node.attribute("action").map(str::to_owned),
        method: method(node, "method")?,
        stream: StreamNoun {
            url: url.to_owned(),
            name: noun.attribute("name").map(str::to_owned),
            track: noun.attribute("track").map(str::to_owned),
            status_callback: noun.attribute("statusCallback").map(str::to_owned),
            status_callback_method: method(noun, "statusCallbackMethod")?,
            parameters: parameters?,
        },
    })
}

fn parameter(node: Node<'_, '_>) -> Result<(String, String), TwimlError> {
    if node.tag_name().name() != "Parameter" {
        return Err(schema(format!("<{}> in <Stream>", node.tag_name().name())));
    }
    attributes(node, &["name", "value"])?;
    let (Some(name), Some(value)) = (node.attribute("name"), node.attribute("value")) else {
        return Err(schema("<Parameter> needs name and value".into()));
    };
    if name.chars().count() + value.chars().count() >= PARAMETER_LIMIT {
        return Err(schema(format!(
            "<Parameter name={name:?}>: name and value must be under {PARAMETER_LIMIT} characters"
        )));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn method(node: Node<'_, '_>, attribute: &str) -> Result<Method, TwimlError> {
    let Some(text) = node.attribute(attribute) else {
        return Ok(Method::default());
    };
    Method::read(text).ok_or_else(|| schema(format!("{attribute}={text:?}")))
}

fn number(node: Node<'_, '_>, attribute: &str) -> Result<Option<u32>, TwimlError> {
    let Some(text) = node.attribute(attribute) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| schema(format!("<{} {attribute}={text:?}>", node.tag_name().name())))
}

fn flag(node: Node<'_, '_>, attribute: &str) -> Result<bool, TwimlError> {
    match node.attribute(attribute) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(schema(format!("<{} {attribute}={other:?}>", node.tag_name().name()))),
    }
}

/// The text of an element that holds nothing else, and not nothing.
fn text(node: Node<'_, '_>) -> Result<String, TwimlError> {
    let name = node.tag_name().name();
    if let Some(inner) = node.children().find(Node::is_element) {
        return Err(schema(format!("<{}> in <{name}>", inner.tag_name().name())));
    }
    let text = words(node);
    if text.is_empty() { Err(schema(format!("<{name}> is empty"))) } else { Ok(text) }
}

fn empty(node: Node<'_, '_>) -> Result<(), TwimlError> {
    match elements(node)?.next() {
        Some(inner) => Err(schema(format!("<{}> in <{}>", inner.tag_name().name(), node.tag_name().name()))),
        None => Ok(()),
    }
}

/// Text of an element and of what is in it.
fn words(node: Node<'_, '_>) -> String {
    let text: String = node.descendants().filter_map(|n| n.is_text().then(|| n.text())?).collect();
    text.trim().to_owned()
}

fn attributes(node: Node<'_, '_>, known: &[&str]) -> Result<(), TwimlError> {
    match node.attributes().find(|a| !known.contains(&a.name())) {
        Some(unknown) => Err(schema(format!("attribute {:?} of <{}>", unknown.name(), node.tag_name().name()))),
        None => Ok(()),
    }
}

/// The child elements; any text between them is an error.
fn elements<'a, 'input: 'a>(node: Node<'a, 'input>) -> Result<impl Iterator<Item = Node<'a, 'input>>, TwimlError> {
    let stray = node
        .children()
        .filter_map(|child| child.text().filter(|_| child.is_text()))
        .find(|text| !text.trim().is_empty());
    if let Some(text) = stray {
        return Err(schema(format!("text {:?} between elements", text.trim())));
    }
    Ok(node.children().filter(Node::is_element))
}

fn schema(text: String) -> TwimlError {
    TwimlError::Schema(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(attributes: &str, inside: &str) -> Result<StreamNoun, TwimlError> {
        let text =
            format!("<Response><Connect action='/after'><Stream {attributes}>{inside}</Stream></Connect></Response>");
        let document = Document::parse(&text)?;
        match document.verbs.into_iter().next() {
            Some(Verb::Connect(connect)) => Ok(connect.stream),
            other => panic!("{other:?}"),
        }
    }

    fn base() -> Url {
        Url::parse("https://demo.example/voice/incoming").unwrap()
    }

    #[test]
    fn connect_with_stream_and_parameters_is_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <Response>
              <Connect action="/voice/ended" method="POST">
                <Stream url="wss://demo.example/media" statusCallback="https://demo.example/s">
                  <Parameter name="ticket" value="a&amp;b"/>
                </Stream>
              </Connect>
              <Say>Good bye.</Say><Dial><Number>+15550100</Number></Dial><Pause length="2"/>
              <Redirect>/again</Redirect><Reject reason="busy"/><Hangup/>
            </Response>"#;
        let document = Document::parse(text).unwrap();
        let Verb::Connect(connect) = &document.verbs[0] else { panic!("{document:?}") };
        assert_eq!(connect.action.as_deref(), Some("/voice/ended"));
        assert_eq!(connect.stream.parameters, [("ticket".into(), "a&b".into())]);
        assert_eq!(connect.stream.check(&base()), Ok("wss://demo.example/media".into()));
        assert_eq!(
            document.verbs[1..],
            [
                Verb::Say("Good bye.".into()),
                Verb::Dial(Dial::to("+15550100")),
                Verb::Pause(2),
                Verb::Redirect(Redirect { to: "/again".into(), method: Method::Post }),
                Verb::Reject("busy".into()),
                Verb::Hangup
            ]
        );
    }

    #[test]
    fn transfers_and_queues_are_read() {
        let text = r#"<Response>
              <Say voice="Polly.Joanna" language="en-US">One <break time="1s"/>moment.</Say>
              <Dial action="/after" method="GET" callerId="+15550199" answerOnBridge="true" timeout="20">
                <Number>+15550100</Number><Sip>sip:desk@example.com</Sip>
              </Dial>
              <Enqueue action="/queue" waitUrl="/music">support</Enqueue>
              <Redirect method="GET">/again</Redirect>
            </Response>"#;
        let dial = Dial {
            to: vec!["+15550100".into(), "sip:desk@example.com".into()],
            action: Some("/after".into()),
            method: Method::Get,
            caller_id: Some("+15550199".into()),
            answer_on_bridge: true,
            timeout: Some(20),
        };
        let enqueue = Enqueue {
            queue: "support".into(),
            action: Some("/queue".into()),
            method: Method::Post,
            wait_url: Some("/music".into()),
        };
        let redirect = Redirect { to: "/again".into(), method: Method::Get };
        assert_eq!(
            Document::parse(text).unwrap().verbs,
            [Verb::Say("One moment.".into()), Verb::Dial(dial), Verb::Enqueue(enqueue), Verb::Redirect(redirect)]
        );
    }

    #[test]
    fn bad_streams_have_twilios_codes() {
        let code = |attributes: &str| stream(attributes, "").unwrap().check(&base()).unwrap_err().code;
        assert_eq!(code("url='ws://a/b'"), Code::StreamScheme);
        assert_eq!(code("url='https://a/b'"), Code::StreamScheme);
        assert_eq!(code("url='wss://:0:0/b'"), Code::StreamUrl);
        let relative = stream("url='/b'", "").unwrap().check(&base());
        assert_eq!(relative, Ok("wss://demo.example/b".into()));
        assert_eq!(code("url='wss://a/b?token=1'"), Code::StreamHandshake);
        assert_eq!(code("url='wss://a/b' track='both_tracks'"), Code::StreamTrack);
    }

    #[test]
    fn parameter_limit_counts_name_and_value() {
        let parameter = |length: usize| {
            let value = "x".repeat(length);
            stream("url='wss://a/b'", &format!("<Parameter name='n' value='{value}'/>"))
        };
        assert!(parameter(498).is_ok());
        assert!(matches!(parameter(499), Err(TwimlError::Schema(_))));
    }

    #[test]
    fn what_is_not_twiml_is_refused() {
        let code = |text: &str| Document::parse(text).unwrap_err().finding().code;
        assert_eq!(code("busy"), Code::DocumentParseFailure);
        assert_eq!(code("<Response>"), Code::DocumentParseFailure);
        for text in [
            "<response/>",
            "<Response>hello</Response>",
            "<Response><Sing/></Response>",
            "<Response><Connect/></Response>",
            "<Response><Connect><Stream/></Connect></Response>",
            "<Response><Connect colour='red'><Stream url='wss://a/b'/></Connect></Response>",
            "<Response><Connect><Stream url='wss://a/b' statusCallbackMethod='PUT'/></Connect></Response>",
            "<Response><Dial/></Response>",
            "<Response><Dial answerOnBridge='yes'>+15550100</Dial></Response>",
            "<Response><Dial timeout='soon'>+15550100</Dial></Response>",
            "<Response><Dial><Fax>+15550100</Fax></Dial></Response>",
            "<Response><Dial><Number>+15550100</Number> or so</Dial></Response>",
            "<Response><Dial><Sip>desk@example.com</Sip></Dial></Response>",
            "<Response><Enqueue/></Response>",
            "<Response><Enqueue waitUrlMethod='put'>support</Enqueue></Response>",
            "<Response><Reject reason='tired'/></Response>",
            "<Response><Pause length='-1'/></Response>",
            "<Response><Pause>2</Pause></Response>",
            "<Response><Redirect/></Response>",
            "<Response><Redirect method='post'>/again</Redirect></Response>",
            "<Response><Say voice=''>Hello</Say></Response>",
            "<Response><Say><Number>1</Number></Say></Response>",
            "<Response><Hangup>now</Hangup></Response>",
        ] {
            assert_eq!(code(text), Code::SchemaValidation, "{text}");
        }
    }
}
