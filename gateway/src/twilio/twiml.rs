//! The few TwiML documents that we ever answer.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

/// Media type of TwiML.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// Name and value of a `<Parameter>` have at most so many characters together: Twilio takes fewer than 500.
pub const PARAMETER_CHARS: usize = 499;

/// As much of `value` as Twilio takes in the `<Parameter>` of this name, without what XML cannot carry.
pub fn fitting(name: &str, value: &str) -> String {
    let is_carried = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    value.chars().filter(is_carried).take(PARAMETER_CHARS.saturating_sub(name.chars().count())).collect()
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Twiml<'a> {
    /// Connect the call to our media stream, and ask `after` what to do once it ended.
    Connect {
        /// `wss://…`.
        stream: &'a str,
        /// `<Connect action>`.
        after: &'a str,
        /// `<Stream statusCallback>`.
        status: &'a str,
        /// `<Parameter>`s, each value under 500 characters.
        parameters: &'a [(&'a str, &'a str)],
        /// What the carrier says before, and in which language (BCP 47; empty for its own).
        say: Option<(&'a str, &'a str)>,
    },
    /// Connect the call to a media stream that is not ours.
    ConnectElsewhere(&'a str),
    /// Say something, then hang up.
    Say(&'a str),
    /// Connect the caller to a number or a SIP address, and ask `after` what to do once that ended.
    Dial {
        /// Where to.
        to: &'a str,
        /// `<Dial action>`.
        after: &'a str,
    },
    /// Hang up.
    Hangup,
    /// Refuse the call with a busy tone, before it is answered.
    Busy,
    /// Let the caller wait in the queue of this name.
    Enqueue(&'a str),
}

impl Twiml<'_> {
    /// The document's text.
    pub fn write(&self) -> String {
        let mut writer = Writer::new(Vec::new());
        // Writing to memory does not fail.
        let _ = self.write_to(&mut writer);
        String::from_utf8(writer.into_inner()).unwrap_or_default()
    }

    fn write_to(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        writer.create_element("Response").write_inner_content(|inner| self.write_verbs(inner))?;
        Ok(())
    }

    fn write_verbs(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        match self {
            Self::Connect { stream, after, status, parameters, say } => {
                if let Some((words, language)) = say {
                    let mut element = writer.create_element("Say");
                    if !language.is_empty() {
                        element = element.with_attribute(("language", *language));
                    }
                    element.write_text_content(BytesText::new(words))?;
                }
                writer.create_element("Connect").with_attribute(("action", *after)).write_inner_content(|inner| {
                    inner
                        .create_element("Stream")
                        .with_attributes([("url", *stream), ("statusCallback", *status)])
                        .write_inner_content(|stream| {
                            for (name, value) in *parameters {
                                stream
                                    .create_element("Parameter")
                                    .with_attributes([("name", *name), ("value", *value)])
                                    .write_empty()?;
                            }
                            Ok(())
                        })?;
                    Ok(())
                })?;
            }
            Self::ConnectElsewhere(stream) => {
                writer.create_element("Connect").write_inner_content(|inner| {
                    inner.create_element("Stream").with_attribute(("url", *stream)).write_empty()?;
                    Ok(())
                })?;
                writer.create_element("Hangup").write_empty()?;
            }
            Self::Say(words) => {
                writer.create_element("Say").write_text_content(BytesText::new(words))?;
                writer.create_element("Hangup").write_empty()?;
            }
            Self::Dial { to, after } => {
                // The caller hears it ring, and the line is not answered before the other side does.
                let dial =
                    writer.create_element("Dial").with_attributes([("answerOnBridge", "true"), ("action", *after)]);
                dial.write_inner_content(|dial| {
                    let noun = dial.create_element(if to.starts_with("sip:") { "Sip" } else { "Number" });
                    noun.write_text_content(BytesText::new(to))?;
                    Ok(())
                })?;
            }
            Self::Hangup => {
                writer.create_element("Hangup").write_empty()?;
            }
            Self::Busy => {
                writer.create_element("Reject").with_attribute(("reason", "busy")).write_empty()?;
            }
            Self::Enqueue(queue) => {
                writer.create_element("Enqueue").write_text_content(BytesText::new(queue))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PARAMETER_CHARS, Twiml, fitting};

    #[test]
    fn documents_are_as_twilio_documents_them() {
        let connect = Twiml::Connect {
            stream: "wss://a.example/voice/stream",
            after: "https://a.example/voice/after",
            status: "https://a.example/voice/stream-status",
            parameters: &[("ticket", "t"), ("from", "\"<&>'")],
            say: None,
        };
        assert_eq!(
            connect.write(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
             <Connect action=\"https://a.example/voice/after\">\
             <Stream url=\"wss://a.example/voice/stream\" statusCallback=\"https://a.example/voice/stream-status\">\
             <Parameter name=\"ticket\" value=\"t\"/>\
             <Parameter name=\"from\" value=\"&quot;&lt;&amp;&gt;&apos;\"/>\
             </Stream></Connect></Response>"
        );
        let body = |twiml: Twiml<'_>| twiml.write().split_once("<Response>").unwrap().1.replace("</Response>", "");
        assert_eq!(body(Twiml::Say("a < b")), "<Say>a &lt; b</Say><Hangup/>");
        let dial = |to| body(Twiml::Dial { to, after: "https://a.example/d" });
        let attributes = "answerOnBridge=\"true\" action=\"https://a.example/d\"";
        assert_eq!(dial("+15550100"), format!("<Dial {attributes}><Number>+15550100</Number></Dial>"));
        assert_eq!(dial("sip:a@b.example"), format!("<Dial {attributes}><Sip>sip:a@b.example</Sip></Dial>"));
        let elsewhere = body(Twiml::ConnectElsewhere("wss://b.example/x"));
        assert_eq!(elsewhere, "<Connect><Stream url=\"wss://b.example/x\"/></Connect><Hangup/>");
        assert_eq!(body(Twiml::Hangup), "<Hangup/>");
        assert_eq!(body(Twiml::Busy), "<Reject reason=\"busy\"/>");
        assert_eq!(body(Twiml::Enqueue("a & b")), "<Enqueue>a &amp; b</Enqueue>");
    }

    #[test]
    fn a_parameter_fits_twilios_limit_and_xml() {
        assert_eq!(fitting("from", "+15550100"), "+15550100");
        assert_eq!(fitting("CallerName", "A\u{0}nn\n\u{ffff}a <ü>"), "Anna <ü>");
        assert_eq!(fitting("from", &"ü".repeat(1000)).chars().count(), PARAMETER_CHARS - 4);
        assert_eq!(fitting(&"n".repeat(1000), "v"), "");
    }
}
