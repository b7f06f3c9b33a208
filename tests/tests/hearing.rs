//! Ears that tell speech from noise on the corpus, through the line.

use ::tests::{
    corpus::{Kind, Noise, Speech, disturbances},
    hearing::{Condition, nuisance, score},
};
use audio_worker::ears::{Silero, detector};

#[test]
fn speech_is_told_from_noise() {
    // Unoptimised, all of the corpus in all conditions would take long: `make bench-vad` hears it.
    for (condition, seconds, least) in [(Condition::CLEAN, 20, 0.95), (Condition::noisy(Noise::Pink, 10.0), 60, 0.94)] {
        let speech = Speech::bundled().first(seconds);
        // Not what sharpens its edges: that tells holes within words too, which the labels count as speech.
        let score = score(Box::new(Silero::new()), &speech, condition).unwrap();
        assert!(score.speech > 250 && score.rest > 200, "{score:?}");
        assert!(score.balanced() >= least, "{condition}: {:.3}, {score:?}", score.balanced());
    }
}

#[test]
fn what_has_no_voice_is_not_taken_for_it_for_long() {
    let rows = nuisance(detector(), &disturbances(1)).unwrap();
    for row in rows {
        let has_voice = matches!(row.kind, Some(Kind::Mhm | Kind::Murmur | Kind::Cough));
        // 160 ms: less than a turn takes.
        assert!(has_voice || row.longest <= 5, "{row:?}");
    }
}
