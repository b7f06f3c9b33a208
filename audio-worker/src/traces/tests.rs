//! Which utterances get a span, and what it says at its end.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use super::*;

/// Spans in the order of their ends, as `name=value` pairs.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions_mut().remove::<Fields>().unwrap();
        let pairs: Vec<_> = fields.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.0.lock().unwrap().push(pairs.join(" "));
    }
}

fn audio(utterance: u64) -> ToGateway {
    ToGateway::Audio { utterance, mulaw: Bytes::from_static(&[0xff; 160]), continues: None }
}

/// The spans of what is said in a conversation whose trace is kept.
fn spans(messages: impl IntoIterator<Item = ToGateway>) -> Vec<String> {
    let seen = Seen::default();
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let below = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let mut utterances = Utterances { below, begun: 0, open: None };
    for message in messages {
        utterances.watch(&message);
    }
    drop(utterances);
    let seen = seen.0.lock().unwrap();
    seen.clone()
}

#[test]
fn an_utterance_lasts_from_its_first_audio_to_its_end_or_interrupt() {
    let said = [
        audio(1),
        audio(1),
        ToGateway::UtteranceEnd { utterance: 1 },
        audio(2),
        ToGateway::Interrupt { utterance: 2 },
        // Of one that is over already.
        ToGateway::Interrupt { utterance: 2 },
        audio(4),
        ToGateway::Interrupt { utterance: 3 },
        audio(5),
    ];
    let expected = [
        "interrupted=false number=1 sent_ms=40",
        "interrupted=true number=2 sent_ms=20",
        "number=4 sent_ms=20",
        "number=5 sent_ms=20",
    ];
    assert_eq!(spans(said), expected);
}

#[test]
fn a_conversation_has_a_bounded_number_of_spans() {
    let said = (1..=2000).flat_map(|utterance| [audio(utterance), ToGateway::UtteranceEnd { utterance }]);
    assert_eq!(spans(said).len(), 1000);
}

#[test]
fn without_a_trace_nothing_is_made() {
    assert!(Utterances::below(&Span::none()).below.is_none());
    let seen = Seen::default();
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let mut utterances = Utterances { below: None, begun: 0, open: None };
    utterances.watch(&audio(1));
    assert!(utterances.open.is_none() && seen.0.lock().unwrap().is_empty());
}

#[test]
fn a_turn_goes_through_its_stages_once_and_says_how_long_they_took() {
    let seen = Seen::default();
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let below: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let ms = std::time::Duration::from_millis;
    let mut turn = TurnSpans::begin(below);
    for stage in [TurnStage::Chat, TurnStage::TextToSpeech, TurnStage::TextToSpeech, TurnStage::Chat] {
        turn.reach(stage);
    }
    turn.answered(&crate::agent::Turn { endpoint: Some(ms(400)), first_sent: Some(ms(420)), ..Default::default() });
    let name = "look".to_owned();
    turn.called(&crate::agent::ToolReport { name, took: ms(700), verdict: crate::agent::Verdict::Timeout });
    turn.played(true);
    drop(turn);
    let forgotten = TurnSpans::begin(below);
    forgotten.forgotten();
    drop(forgotten);
    let expected = [
        "otel.name=\"speech_to_text\"",
        "otel.name=\"chat\"",
        "otel.name=\"text_to_speech\"",
        "outcome=\"timeout\" took_ms=700 tool=\"look\"",
        "endpoint_ms=400 first_sent_ms=420 interrupted=true",
        "otel.name=\"playback\"",
        "forgotten=true",
        "otel.name=\"speech_to_text\"",
    ];
    assert_eq!(*seen.0.lock().unwrap(), expected);
}

#[test]
fn turns_that_are_reported_have_spans_until_what_answers_them_was_heard() {
    use crate::agent::{Report, Speaker, Stage};

    let seen = Seen::default();
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let below = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let speech = |began| Report::Speech { began };
    let said = |by, interrupted| Report::Said { by, text: String::new(), is_final: true, interrupted };
    let mut turns = ReportedTurns::below(below, TurnStage::SpeechToText);
    // Nobody has asked anything.
    turns.watch(&said(Speaker::Agent, false));
    for report in [speech(true), speech(false), speech(true), speech(false), said(Speaker::Caller, false)] {
        turns.watch(&report);
    }
    turns.reach(TurnStage::Agent);
    // Of what came before the turn.
    turns.watch(&said(Speaker::Agent, true));
    turns.watch(&Report::Turn(crate::agent::Turn::default()));
    turns.watch(&said(Speaker::Agent, false));
    turns.watch(&speech(false));
    turns.watch(&Report::Fault { stage: Stage::Agent, fault: crate::provider::Fault::Failed, detail: String::new() });
    turns.watch(&said(Speaker::Agent, false));
    let expected = [
        "forgotten=true",
        "otel.name=\"speech_to_text\"",
        "otel.name=\"speech_to_text\"",
        "otel.name=\"agent\"",
        "interrupted=false",
        "otel.name=\"playback\"",
        "interrupted=false otel.status_code=\"ERROR\"",
        "otel.name=\"speech_to_text\" otel.status_code=\"ERROR\"",
    ];
    assert_eq!(*seen.0.lock().unwrap(), expected);
    let mut none = ReportedTurns::below(None, TurnStage::Agent);
    none.watch(&speech(false));
    none.reach(TurnStage::Playback);
    assert_eq!(seen.0.lock().unwrap().len(), expected.len());
}
