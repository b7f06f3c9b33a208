//! Options of a recogniser that listens while the caller speaks, in the table `speech_to_text` of an agents file.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::{Reader, Section},
    settings::{Provider, Streaming},
};
use crate::agent::{Endpoint, LiveSettings};

/// Deepgram finds no end of an utterance in less.
const LEAST_UTTERANCE_END_MS: u64 = 1000;

/// What a family takes.
struct Takes {
    /// How long words may take to become final.
    finalize_wait: Duration,
    /// Silence after which a stretch is final.
    endpointing: Duration,
    endpointing_ms: RangeInclusive<u64>,
    /// Most terms, their characters in all, and those of one.
    keyterms: usize,
    keyterm_chars: usize,
    keyterm: usize,
}

/// Of terms Deepgram takes 500 of its tokens, of some letters each.
fn takes(provider: Provider) -> Takes {
    let usual = Takes {
        finalize_wait: LiveSettings::default().finalize_wait,
        endpointing: Streaming::default().endpointing,
        endpointing_ms: 10..=5000,
        keyterms: 100,
        keyterm_chars: 1000,
        keyterm: 1000,
    };
    match provider {
        Provider::OpenAi | Provider::Google | Provider::Deepgram => usual,
        // Its words take 100 ms to 400 ms, as others have measured.
        Provider::ElevenLabs => Takes {
            finalize_wait: Duration::from_millis(500),
            endpointing: Duration::from_millis(500),
            endpointing_ms: 300..=3000,
            keyterms: 50,
            keyterm: 20,
            ..usual
        },
    }
}

/// How the conversation uses it.
pub(super) fn live(reader: &mut Reader<'_>, section: &Section<'_>, provider: Provider) -> LiveSettings {
    let known = [("own", Endpoint::Own), ("provider", Endpoint::Provider)];
    let endpoint = section.get("endpoint").and_then(|_| reader.one_of(section, "endpoint", &known));
    let finalize_wait = reader.millis(section, "finalize_wait_ms", 50..=3000);
    LiveSettings {
        endpoint: endpoint.unwrap_or_default(),
        finalize_wait: finalize_wait.unwrap_or(takes(provider).finalize_wait),
    }
}

/// What it is told itself.
pub(super) fn streaming(reader: &mut Reader<'_>, section: &Section<'_>, provider: Provider) -> Streaming {
    let (usual, takes) = (Streaming::default(), takes(provider));
    Streaming {
        endpointing: reader
            .millis(section, "endpointing_ms", takes.endpointing_ms.clone())
            .unwrap_or(takes.endpointing),
        utterance_end: reader
            .millis(section, "utterance_end_ms", LEAST_UTTERANCE_END_MS..=5000)
            .unwrap_or(usual.utterance_end),
        keyterms: keyterms(reader, section, &takes),
    }
}

fn keyterms(reader: &mut Reader<'_>, section: &Section<'_>, takes: &Takes) -> Vec<String> {
    let terms = reader.words(section, "keyterms").unwrap_or_default();
    let chars = || terms.iter().map(|term| term.chars().count());
    if let Some(value) = section.get("keyterms")
        && (terms.len() > takes.keyterms
            || chars().sum::<usize>() > takes.keyterm_chars
            || chars().any(|chars| chars > takes.keyterm))
    {
        let Takes { keyterms, keyterm_chars, keyterm, .. } = takes;
        let each = if keyterm < keyterm_chars { format!(", and of {keyterm} each") } else { String::new() };
        let what = format!("keyterms must be at most {keyterms}, of {keyterm_chars} characters in all{each}");
        reader.mistake(value.span(), what);
    }
    terms
}
