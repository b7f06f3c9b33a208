//! What providers cost, and which of them are left alone: by stage and family, as agents files call it.

use prometheus::{CounterVec, IntCounterVec, IntGaugeVec};
use telemetry::metrics::{Error, Register};

use crate::{
    agent::Stage,
    agents_file::Provider,
    provider::{meter::Entry, place::Places},
};

#[derive(Debug)]
pub(super) struct Providers {
    requests: IntCounterVec,
    stand_ins: IntCounterVec,
    seconds: CounterVec,
    characters: IntCounterVec,
    tokens: IntCounterVec,
    without_usage: IntCounterVec,
    open: IntGaugeVec,
}

impl Providers {
    pub(super) fn new(names: &Register) -> Result<Self, Error> {
        let by = ["stage", "provider"];
        let providers = Self {
            requests: names.counters(
                "provider_requests_total",
                "Requests to providers, by how they ended; what is given up costs as well",
                &["stage", "provider", "outcome"],
            )?,
            stand_ins: names.counters(
                "provider_stand_ins_total",
                "Answers that a provider gave in place of another one",
                &by,
            )?,
            seconds: names.seconds_by("provider_seconds_total", "Audio that was to be put into words", &by)?,
            characters: names.counters("provider_characters_total", "Characters that were to be spoken", &by)?,
            tokens: names.counters(
                "provider_tokens_total",
                "Tokens that models read and wrote, as they say",
                &["stage", "provider", "direction"],
            )?,
            without_usage: names.counters(
                "provider_without_usage_total",
                "Answers of models that did not say how many tokens they cost, those that were given up among them",
                &by,
            )?,
            open: names.gauges(
                "provider_open",
                "1 while a provider is left alone since it failed",
                &["stage", "provider", "host"],
            )?,
        };
        // What an agent of one's own costs, it knows itself.
        let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Agent);
        for (stage, provider) in stages.flat_map(|stage| Provider::ALL.map(|family| (stage, family))) {
            let labels = [stage.label(), provider.name()];
            let has_tokens = match stage {
                // Of those that realtime servers have.
                Stage::SpeechToText => provider == Provider::OpenAi,
                Stage::Chat | Stage::Realtime => true,
                Stage::TextToSpeech | Stage::Agent => false,
            };
            if has_tokens {
                providers.without_usage.with_label_values(&labels);
                for direction in ["in", "out"] {
                    providers.tokens.with_label_values(&[labels[0], labels[1], direction]);
                }
            }
            if stage == Stage::SpeechToText {
                providers.seconds.with_label_values(&labels);
            }
            if stage == Stage::TextToSpeech {
                providers.characters.with_label_values(&labels);
            }
            providers.stand_ins.with_label_values(&labels);
            for outcome in ["answered", "failed", "given_up"] {
                providers.requests.with_label_values(&[labels[0], labels[1], outcome]);
            }
        }
        Ok(providers)
    }

    /// So much more was asked for.
    pub(super) fn counted(&self, news: &[Entry]) {
        for Entry { stage, provider, cost } in news {
            let labels = [stage.label(), *provider];
            let with = |third| [labels[0], labels[1], third];
            let answered = cost.requests.saturating_sub(cost.failed + cost.given_up);
            for (outcome, count) in [("answered", answered), ("failed", cost.failed), ("given_up", cost.given_up)] {
                self.requests.with_label_values(&with(outcome)).inc_by(count);
            }
            self.stand_ins.with_label_values(&labels).inc_by(cost.stood_in);
            // A series begins with the first count of its kind, where it was not there from the start.
            if cost.audio_ms > 0 {
                self.seconds.with_label_values(&labels).inc_by(cost.audio_ms as f64 / 1000.0);
            }
            if cost.characters > 0 {
                self.characters.with_label_values(&labels).inc_by(cost.characters);
            }
            for (direction, tokens) in [("in", cost.tokens_in), ("out", cost.tokens_out)] {
                if tokens > 0 {
                    self.tokens.with_label_values(&with(direction)).inc_by(tokens);
                }
            }
            if cost.without_usage > 0 {
                self.without_usage.with_label_values(&labels).inc_by(cost.without_usage);
            }
        }
    }

    /// Which places are open now; those that no agent has any more are none.
    pub(super) fn look(&self, places: &Places) {
        self.open.reset();
        for (stage, provider, host, is_open) in places.states() {
            self.open.with_label_values(&[stage.label(), provider, &host]).set(is_open.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Sensitive;
    use url::Url;

    use super::*;
    use crate::provider::meter::{Cost, Costs, Meter};

    #[test]
    fn costs_are_counted_by_stage_and_family_and_places_as_they_are_now() {
        let names = Register::new("tandem_worker", "1.2.3").unwrap();
        let providers = Providers::new(&names).unwrap();
        let meter = Meter::default();
        let one = Cost { requests: 1, ..Cost::default() };
        meter.add(Stage::SpeechToText, "google", &Cost { audio_ms: 2500, ..one });
        meter.add(Stage::Chat, "openai", &Cost { tokens_in: 40, tokens_out: 9, stood_in: 1, ..one });
        meter.add(Stage::Chat, "openai", &Cost { given_up: 1, without_usage: 1, ..one });
        meter.add(Stage::TextToSpeech, "elevenlabs", &Cost { characters: 12, failed: 1, ..one });
        providers.counted(&meter.costs().since(&Costs::default()));
        let places = Places::default();
        let key = Sensitive::new("k".to_owned());
        let url = Url::parse("https://api.example.com:8443/v1").unwrap();
        let place = places.at(Stage::Chat, "openai", &url, Some(&key));
        providers.look(&places);
        let text = names.text();
        for line in [
            "tandem_worker_provider_seconds_total{provider=\"google\",stage=\"speech_to_text\"} 2.5",
            "tandem_worker_provider_seconds_total{provider=\"openai\",stage=\"speech_to_text\"} 0",
            "tandem_worker_provider_tokens_total{direction=\"in\",provider=\"openai\",stage=\"chat\"} 40",
            "tandem_worker_provider_tokens_total{direction=\"out\",provider=\"openai\",stage=\"chat\"} 9",
            "tandem_worker_provider_without_usage_total{provider=\"openai\",stage=\"chat\"} 1",
            "tandem_worker_provider_requests_total{outcome=\"answered\",provider=\"openai\",stage=\"chat\"} 1",
            "tandem_worker_provider_requests_total{outcome=\"given_up\",provider=\"openai\",stage=\"chat\"} 1",
            "tandem_worker_provider_requests_total{outcome=\"failed\",provider=\"elevenlabs\",stage=\"text_to_speech\"} 1",
            "tandem_worker_provider_stand_ins_total{provider=\"openai\",stage=\"chat\"} 1",
            "tandem_worker_provider_characters_total{provider=\"elevenlabs\",stage=\"text_to_speech\"} 12",
            "tandem_worker_provider_open{host=\"api.example.com:8443\",provider=\"openai\",stage=\"chat\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        drop(place);
        providers.look(&places);
        assert!(!names.text().contains("api.example.com"));
    }
}
