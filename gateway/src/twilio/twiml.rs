//! The few TwiML documents that we ever answer.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

/// Media type of TwiML.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

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
    },
    /// Say something, then hang up.
    Say(&'a str),
    /// Connect the caller to a number or a SIP address.
    Dial(&'a str),
    /// Hang up.
    Hangup,
    /// Refuse the call with a busy tone, before it is answered.
    Busy,
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
            Self::Connect { stream, after, status, parameters } => {
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
            Self::Say(words) => {
                writer.create_element("Say").write_text_content(BytesText::new(words))?;
                writer.create_element("Hangup").write_empty()?;
            }
            Self::Dial(to) if to.starts_with("sip:") => {
                writer.create_element("Dial").write_inner_content(|dial| {
                    dial.create_element("Sip").write_text_content(BytesText::new(to))?;
                    Ok(())
                })?;
            }
            Self::Dial(to) => {
                writer.create_element("Dial").write_text_content(BytesText::new(to))?;
            }
            Self::Hangup => {
                writer.create_element("Hangup").write_empty()?;
            }
            Self::Busy => {
                writer.create_element("Reject").with_attribute(("reason", "busy")).write_empty()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Twiml;

    #[test]
    fn documents_are_as_twilio_documents_them() {
        let connect = Twiml::Connect {
            stream: "wss://a.example/voice/stream",
            after: "https://a.example/voice/after",
            status: "https://a.example/voice/stream-status",
            parameters: &[("ticket", "t"), ("from", "\"<&>'")],
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
        assert_eq!(body(Twiml::Dial("+15550100")), "<Dial>+15550100</Dial>");
        assert_eq!(body(Twiml::Dial("sip:a@b.example")), "<Dial><Sip>sip:a@b.example</Sip></Dial>");
        assert_eq!(body(Twiml::Hangup), "<Hangup/>");
        assert_eq!(body(Twiml::Busy), "<Reject reason=\"busy\"/>");
    }
}
