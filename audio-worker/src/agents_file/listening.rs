//! Options of a recogniser that listens while the caller speaks, in the table `speech_to_text` of an agents file.

use super::{
    reader::{Reader, Section},
    settings::Streaming,
};
use crate::agent::{Endpoint, LiveSettings};

/// Deepgram finds no end of an utterance in less.
const LEAST_UTTERANCE_END_MS: u64 = 1000;

/// Most terms, and their characters in all: Deepgram takes 500 of its tokens, of some letters each.
const MAX_KEYTERMS: usize = 100;
const MAX_KEYTERM_CHARS: usize = 1000;

/// How the conversation uses it.
pub(super) fn live(reader: &mut Reader<'_>, section: &Section<'_>) -> LiveSettings {
    let usual = LiveSettings::default();
    let known = [("own", Endpoint::Own), ("provider", Endpoint::Provider)];
    let endpoint = section.get("endpoint").and_then(|_| reader.one_of(section, "endpoint", &known));
    LiveSettings {
        endpoint: endpoint.unwrap_or(usual.endpoint),
        finalize_wait: reader.millis(section, "finalize_wait_ms", 50..=3000).unwrap_or(usual.finalize_wait),
    }
}

/// What it is told itself.
pub(super) fn streaming(reader: &mut Reader<'_>, section: &Section<'_>) -> Streaming {
    let usual = Streaming::default();
    Streaming {
        endpointing: reader.millis(section, "endpointing_ms", 10..=5000).unwrap_or(usual.endpointing),
        utterance_end: reader
            .millis(section, "utterance_end_ms", LEAST_UTTERANCE_END_MS..=5000)
            .unwrap_or(usual.utterance_end),
        keyterms: keyterms(reader, section),
    }
}

fn keyterms(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let terms = reader.words(section, "keyterms").unwrap_or_default();
    let chars: usize = terms.iter().map(|term| term.chars().count()).sum();
    if let Some(value) = section.get("keyterms")
        && (terms.len() > MAX_KEYTERMS || chars > MAX_KEYTERM_CHARS)
    {
        let what = format!("keyterms must be at most {MAX_KEYTERMS}, of {MAX_KEYTERM_CHARS} characters in all");
        reader.mistake(value.span(), what);
    }
    terms
}
