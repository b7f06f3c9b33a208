//! What Google sends in a stream, read: results, ends of speech, and the statuses that end it.

use std::time::Duration;

use proto::google_speech::{
    SpeechRecognitionAlternative, StreamingRecognitionResult, StreamingRecognizeResponse,
    streaming_recognize_response::SpeechEventType,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::provider::{
    Fault, ProviderError,
    fault::{self, Secrets, error},
    grpc,
    listening::TimedWord,
};

/// What a message tells. Times are milliseconds from the first sound of the stream; none where it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Words that will not change, from the end of the ones before.
    Final { text: String, words: Vec<TimedWord>, to_ms: Option<u64> },
    /// Words behind them that may change; all of them.
    Interim { text: String, to_ms: Option<u64> },
    /// Nobody speaks any more.
    SpeechEnded { at_ms: Option<u64> },
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::google) enum End {
    /// All was told.
    Done,
    /// It was open for too long, or too long without sound; of one that is new it is a fault.
    Limit(ProviderError),
    /// The token is good for nothing; another one may be.
    Token(ProviderError),
    /// It failed.
    Fault(ProviderError),
}

/// What a message tells, in order.
pub(super) fn read(response: StreamingRecognizeResponse) -> Vec<Heard> {
    let mut told = Vec::new();
    let (finals, interims): (Vec<_>, Vec<_>) = response.results.into_iter().partition(|result| result.is_final);
    for result in finals {
        let to_ms = end_ms(&result);
        let best = best(result);
        let words = best.words.into_iter().filter_map(|word| {
            // Japanese words come as they are written and, behind a bar, as they are read.
            let text = word.word.split('|').next().unwrap_or_default().to_owned();
            Some(TimedWord { text, from_ms: ms(word.start_time?)?, to_ms: ms(word.end_time?)? })
        });
        told.push(Heard::Final { text: best.transcript.trim().to_owned(), words: words.collect(), to_ms });
    }
    // The first is the likely part, the next what is guessed behind it; blanks between them are their own.
    let to_ms = interims.iter().filter_map(end_ms).max();
    let text = interims.into_iter().map(|result| best(result).transcript).collect::<String>().trim().to_owned();
    if !text.is_empty() {
        told.push(Heard::Interim { text, to_ms });
    }
    if response.speech_event_type == SpeechEventType::SpeechActivityEnd as i32 {
        told.push(Heard::SpeechEnded { at_ms: response.speech_event_time.and_then(ms) });
    }
    told
}

/// What a status means that ended a stream. A token of an account ends early or is withdrawn; an API key is what it is.
pub(in crate::provider::google) fn ended(status: &Status, is_account: bool, secrets: &Secrets) -> End {
    let is_wrong_key = || status.get_details_error_info().is_some_and(|info| info.reason == "API_KEY_INVALID");
    let code = status.code();
    // 305 s in all, and some seconds without sound: "Exceeded maximum allowed stream duration", "Audio Timeout Error",
    // "Stream timed out after receiving no more client requests".
    let is_limit = matches!(code, Code::OutOfRange | Code::Aborted);
    let kind = if is_limit {
        Fault::Failed
    } else if code == Code::InvalidArgument && is_wrong_key() {
        // To Google a wrong API key is a bad request, here as by REST.
        Fault::Denied
    } else {
        grpc::fault(code)
    };
    let words = grpc::cause(status).or_else(|| fault::told(status.message(), secrets));
    let told = words.map_or_else(String::new, |words| format!(": {words}"));
    let error = error(kind, &format!("{code:?}{told}"));
    if is_limit {
        End::Limit(error)
    } else if code == Code::Unauthenticated && is_account {
        End::Token(error)
    } else {
        End::Fault(error)
    }
}

/// The likeliest; empty where there is none.
fn best(result: StreamingRecognitionResult) -> SpeechRecognitionAlternative {
    result.alternatives.into_iter().next().unwrap_or_default()
}

fn end_ms(result: &StreamingRecognitionResult) -> Option<u64> {
    ms(result.result_end_time?).filter(|ms| *ms > 0)
}

/// No stream lasts so long: some months.
const MAX_MS: u64 = 10_000_000_000;

/// Milliseconds of a time that can be.
fn ms(time: impl TryInto<Duration>) -> Option<u64> {
    time.try_into().ok().and_then(|time| u64::try_from(time.as_millis()).ok()).filter(|ms| *ms <= MAX_MS)
}

#[cfg(test)]
mod tests {
    use proto::google_speech::WordInfo;
    use tonic_types::ErrorDetails;

    use super::*;

    fn result(is_final: bool, texts: &[&str], end_ms: u64) -> StreamingRecognitionResult {
        let alternative =
            |text: &&str| SpeechRecognitionAlternative { transcript: (*text).to_owned(), ..Default::default() };
        let result_end_time = Duration::from_millis(end_ms).try_into().ok();
        let alternatives = texts.iter().map(alternative).collect();
        StreamingRecognitionResult { alternatives, is_final, stability: 0.5, result_end_time }
    }

    fn told(results: Vec<StreamingRecognitionResult>) -> Vec<Heard> {
        read(StreamingRecognizeResponse { results, ..Default::default() })
    }

    #[test]
    fn the_likeliest_counts_and_what_may_change_is_one() {
        let interim = |text: &str, to_ms| Heard::Interim { text: text.to_owned(), to_ms };
        let last = |text: &str, to_ms| Heard::Final { text: text.to_owned(), words: Vec::new(), to_ms };
        for (results, heard) in [
            (vec![], vec![]),
            (vec![result(false, &["tube"], 500)], vec![interim("tube", Some(500))]),
            (
                vec![result(false, &["to be", "two bee"], 600), result(false, &[" or not to be"], 1500)],
                vec![interim("to be or not to be", Some(1500))],
            ),
            (vec![result(true, &[" to be or not ", "too"], 2000)], vec![last("to be or not", Some(2000))]),
            (
                vec![result(true, &["to be"], 700), result(false, &[" or"], 900)],
                vec![last("to be", Some(700)), interim("or", Some(900))],
            ),
            (vec![result(false, &[], 500), result(false, &[""], 900)], vec![]),
            (vec![result(true, &[], 0)], vec![last("", None)]),
        ] {
            assert_eq!(told(results.clone()), heard, "{results:?}");
        }
    }

    #[test]
    fn words_have_times_or_are_none_and_readings_are_left_out() {
        let mut whole = result(true, &["今日 は"], 900);
        let time = |ms| Duration::from_millis(ms).try_into().ok();
        whole.alternatives[0].words = vec![
            WordInfo { start_time: time(100), end_time: time(400), word: "今日|キョウ".to_owned() },
            WordInfo { start_time: None, end_time: time(600), word: "untimed".to_owned() },
        ];
        let words = vec![TimedWord { text: "今日".to_owned(), from_ms: 100, to_ms: 400 }];
        assert_eq!(told(vec![whole]), [Heard::Final { text: "今日 は".to_owned(), words, to_ms: Some(900) }]);
    }

    #[test]
    fn of_events_only_the_end_of_speech_tells_anything() {
        for kind in 0..6 {
            let speech_event_time = Duration::from_millis(1240).try_into().ok();
            let event = StreamingRecognizeResponse { speech_event_type: kind, speech_event_time, ..Default::default() };
            let heard = read(event);
            let is_end = kind == SpeechEventType::SpeechActivityEnd as i32;
            assert_eq!(heard, if is_end { vec![Heard::SpeechEnded { at_ms: Some(1240) }] } else { vec![] });
        }
    }

    #[test]
    fn statuses_have_their_meaning_and_hold_no_key() {
        let secrets = Secrets { key: Some("AIza-0123456789".to_owned().into()), ..Secrets::default() };
        let end =
            |code, is_account| ended(&Status::new(code, "the key AIza-0123456789 is wrong"), is_account, &secrets);
        let is = |kind| error(kind, "");
        for (code, kind) in [
            (Code::Unauthenticated, Fault::Denied),
            (Code::PermissionDenied, Fault::Denied),
            (Code::ResourceExhausted, Fault::Busy),
            (Code::InvalidArgument, Fault::Rejected),
            (Code::Unavailable, Fault::Unreachable),
            (Code::DeadlineExceeded, Fault::Timeout),
            (Code::Internal, Fault::Failed),
        ] {
            let End::Fault(error) = end(code, false) else { panic!("{code:?}") };
            assert_eq!(error.kind, is(kind).kind, "{code:?}");
            assert!(error.detail.starts_with(&format!("{code:?}: ")) && !error.detail.contains("0123"), "{error}");
        }
        for code in [Code::OutOfRange, Code::Aborted] {
            assert!(matches!(end(code, true), End::Limit(ProviderError { kind: Fault::Failed, .. })), "{code:?}");
        }
        assert!(matches!(end(Code::Unauthenticated, true), End::Token(_)));
        assert!(matches!(end(Code::PermissionDenied, true), End::Fault(_)));
        let details = ErrorDetails::with_error_info("API_KEY_INVALID", "googleapis.com", []);
        let wrong = Status::with_error_details(Code::InvalidArgument, "API key not valid.", details);
        assert_eq!(
            ended(&wrong, false, &secrets),
            End::Fault(error(Fault::Denied, "InvalidArgument: API key not valid."))
        );
    }
}
