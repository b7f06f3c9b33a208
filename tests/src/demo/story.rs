//! Pure: the call told to somebody who has never seen one, and commands to go on with.

use std::{
    fmt::{self, Write as _},
    path::Path,
    time::Duration,
};

use url::form_urlencoded;

use super::Verdict;
use crate::{
    pair::{Addresses, DEVELOPMENT_TOKEN},
    sim::{CallPlan, CallReport, sign},
};

/// Samples per millisecond of the phone line.
const SAMPLES_PER_MS: f64 = 8.0;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub struct Story<'a> {
    /// The call.
    pub report: &'a CallReport,
    /// Whether its echo came back whole.
    pub verdict: &'a Verdict,
    /// From the start of both processes until both were ready.
    pub ready: Duration,
    /// Recording of what the caller said.
    pub sent: &'a Path,
    /// Recording of what the caller heard.
    pub heard: &'a Path,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, verdict, ready, sent, heard } = self;
        self.what_happened(f)?;
        self.figures(f)?;
        writeln!(f, "\nListen")?;
        writeln!(f, "  {}  what the caller said", sent.display())?;
        writeln!(f, "  {}  what came back over the phone", heard.display())?;
        let findings: Vec<_> = report.all_findings().collect();
        if !findings.is_empty() {
            writeln!(f, "\nTwilio's debugger would show")?;
            for finding in findings {
                writeln!(f, "  {finding}")?;
            }
        }
        if verdict.is_good() {
            writeln!(f, "\nNext")?;
            writeln!(f, "  make run      keeps both services up, for calls and curl commands of your own")?;
            writeln!(f, "  make bench    many calls at once: latency, CPU time and memory per call")?;
            writeln!(f, "  make up       the same pair in containers")?;
            writeln!(f, "\nThe echo came back whole.")
        } else {
            for failure in &verdict.failures {
                writeln!(f, "\nFAILED: {failure}")?;
            }
            writeln!(
                f,
                "\nBoth services were ready after {:.1} s; their logs are beside the recordings.",
                ready.as_secs_f64()
            )
        }
    }
}

impl Story<'_> {
    fn what_happened(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (timing, Some(stream)) = (&self.report.timing, self.report.streams.first()) else {
            return writeln!(f, "\nThe call never got as far as a media stream.");
        };
        let marks = stream.playout.marks_played;
        let seconds = stream.sent.len() as f64 / SAMPLES_PER_MS / 1000.0;
        let (sent, received) = (stream.frames_sent, stream.frames_received);
        let (webhook, handshake) = (Ms(timing.webhook_ms), Ms(timing.handshake_ms));
        writeln!(f, "\nWhat just happened")?;
        writeln!(
            f,
            "  1. A simulated Twilio called: its signed webhook got TwiML with a one-time ticket after {webhook}."
        )?;
        writeln!(
            f,
            "  2. It opened the media WebSocket named there ({handshake}) and spoke {sent} frames of 20 ms in {seconds:.1} s."
        )?;
        writeln!(
            f,
            "  3. The gateway passed each over gRPC to the worker: mu-law, 16 kHz PCM, echo agent, mu-law again."
        )?;
        writeln!(f, "  4. {received} frames came back, and {marks} marks told the worker what the caller had heard.")?;
        writeln!(f, "  5. The caller hung up, the conversation ended, and both services were stopped.")
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stream) = self.report.streams.first() else {
            return Ok(());
        };
        let timing = &self.report.timing;
        let setup = [timing.webhook_ms, timing.handshake_ms].into_iter().flatten().sum::<f64>();
        writeln!(f, "\nIn figures")?;
        writeln!(f, "  services ready    after {:.0} ms", self.ready.as_secs_f64() * 1000.0)?;
        writeln!(
            f,
            "  call set up       {} (webhook {}, media socket {})",
            Ms(Some(setup)),
            Ms(timing.webhook_ms),
            Ms(timing.handshake_ms)
        )?;
        writeln!(
            f,
            "  first sound back  {} after TwiML, {} after the stream began; 20 of them the first frame itself",
            Ms(timing.setup_ms()),
            Ms(timing.first_media_ms)
        )?;
        if let Some(wire) = &self.verdict.wire {
            writeln!(
                f,
                "  on the wire       {} behind the speech (filters), {:.1} dB over the error, gain {:+.2} dB",
                Ms(Some(wire.delay_ms)),
                wire.snr_db,
                wire.gain_db
            )?;
        }
        if let Some(echo) = &stream.echo {
            writeln!(
                f,
                "  in the ear        {} behind the speech, {:.1} dB over the error",
                Ms(Some(echo.delay_ms)),
                echo.snr_db
            )?;
        }
        let playout = &stream.playout;
        let gaps = Ms(Some(playout.gap_samples as f64 / SAMPLES_PER_MS));
        match playout.gaps {
            0 => writeln!(f, "  gaps              none: every frame came in time to be played"),
            n => {
                writeln!(f, "  gaps              {n}, {gaps} in all: so often this machine was late (nothing was lost)")
            }
        }?;
        writeln!(
            f,
            "  marks             {} back after playing, {} back by clear",
            playout.marks_played, playout.marks_cleared
        )
    }
}

/// Milliseconds for a person.
struct Ms(Option<f64>);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ms) => write!(f, "{ms:.1} ms"),
            None => f.write_str("(not reached)"),
        }
    }
}

/// What can be done with a pair that stays up, as commands for a shell. `plan` is that of a call to it; `programs`
/// is where the simulated Twilio is.
pub fn commands(addresses: &Addresses, plan: &CallPlan, programs: &Path) -> String {
    let Addresses { gateway, gateway_ops, worker, worker_ops } = addresses;
    let mut text = String::new();
    let mut line = |arguments: fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{arguments}");
    };
    let origin = plan.public_url.as_str().trim_end_matches('/');
    line(format_args!("The pair is up; Ctrl-C ends it.\n"));
    line(format_args!("  gateway       http://{gateway}   (signed for {origin})"));
    line(format_args!("  gateway ops   http://{gateway_ops}/readyz"));
    line(format_args!("  audio-worker  grpc://{worker}"));
    line(format_args!("  worker ops    http://{worker_ops}/readyz"));
    // A token of the operator's is not for the screen.
    let token = match plan.auth_token.as_str() {
        DEVELOPMENT_TOKEN => DEVELOPMENT_TOKEN,
        _ => "\"$TWILIO_AUTH_TOKEN\"",
    };
    let account = match plan.account_sid.as_str() {
        NOBODY => String::new(),
        sid => format!(" --account-sid {sid}"),
    };
    line(format_args!("\nPlace a call, as Twilio would:"));
    line(format_args!("  TWILIO_AUTH_TOKEN={token} {}/simulated-twilio \\", programs.display()));
    line(format_args!("    --gateway {gateway} --public-url {origin}{account} --heard out/echo.wav"));
    if let Ok(webhook) = plan.webhook_url() {
        let call_sid = "CA00000000000000000000000000000001";
        let wanted = ["AccountSid", "CallSid", "From", "To"];
        let mut parameters = plan.parameters(call_sid, "ringing");
        parameters.retain(|(name, _)| wanted.contains(&name.as_str()));
        let signature = sign(webhook.as_str(), &parameters, &plan.auth_token);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
        line(format_args!("\nAsk the webhook alone (leave the signature out and see):"));
        line(format_args!("  curl -i http://{gateway}{} -H 'X-Twilio-Signature: {signature}' \\", webhook.path()));
        line(format_args!("    -d '{body}'"));
    }
    line(format_args!("\nTalk to the worker:"));
    line(format_args!("  grpcurl -plaintext {worker} tandem.voice.v1.VoiceService/GetInfo"));
    line(format_args!(
        "  grpcurl -plaintext -d '{{\"mulaw\":\"/////w==\"}}' {worker} tandem.voice.v1.AudioService/Decode"
    ));
    line(format_args!(
        "\nA phone of yours: give this machine a public https address (any tunnel to http://{gateway}),"
    ));
    line(format_args!("set the number's voice webhook to https://<that address>/voice/incoming, and start again with"));
    line(format_args!("  TWILIO_AUTH_TOKEN=<yours> TWILIO_VOICE_WEBHOOK_URL=https://<that address> make run"));
    text
}

/// The account of simulated calls.
const NOBODY: &str = "AC00000000000000000000000000000000";

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::{
        demo::Limits,
        sim::{Code, Finding},
    };

    fn local(port: u16) -> std::net::SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn told(token: &str) -> String {
        let addresses =
            Addresses { gateway: local(8000), gateway_ops: local(9464), worker: local(50051), worker_ops: local(9465) };
        let plan = CallPlan::new(addresses.gateway, Url::parse("https://voice.example.com").unwrap(), token);
        commands(&addresses, &plan, Path::new("target/release"))
    }

    #[test]
    fn commands_name_every_address_and_no_token_of_the_operators() {
        let text = told("s3cret");
        for part in [
            "127.0.0.1:8000/voice/incoming",
            ":9464/readyz",
            "50051 tandem.voice.v1",
            ":9465/readyz",
            "\"$TWILIO_AUTH_TOKEN\"",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
        assert!(told(DEVELOPMENT_TOKEN).contains(&format!("TWILIO_AUTH_TOKEN={DEVELOPMENT_TOKEN} ")));
    }

    #[test]
    fn curl_command_is_signed() {
        let parameters = [
            ("AccountSid", NOBODY),
            ("CallSid", "CA00000000000000000000000000000001"),
            ("From", "+15550100"),
            ("To", "+15550199"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let signature = sign("https://voice.example.com/voice/incoming", &parameters, "t");
        let text = told("t");
        assert!(text.contains(&format!("X-Twilio-Signature: {signature}'")), "{text}");
        assert!(text.contains("From=%2B15550100&To=%2B15550199'"), "{text}");
    }

    #[test]
    fn failure_is_told_with_its_reasons() {
        let finding = Finding::new(Code::HttpRetrievalFailure, "no webhook");
        let report = CallReport { findings: vec![finding], ..CallReport::default() };
        let verdict = Verdict::new(&report, 100, Limits::BUNDLED);
        let (sent, heard) = (Path::new("sent.wav"), Path::new("echo.wav"));
        let text = Story { report: &report, verdict: &verdict, ready: Duration::ZERO, sent, heard }.to_string();
        assert!(text.contains("FAILED: the call did not go through"), "{text}");
        assert!(text.contains("error 11200: no webhook"), "{text}");
        assert!(!text.contains("whole"), "{text}");
    }
}
