//! Pure: voice is what is louder than the floor, which follows the line. Nothing that was learned, nothing to compute.

use audio_worker::ears::VoiceActivity;

/// So many dB above the floor a window is as likely voice as not.
const ABOVE_DB: f64 = 9.0;
/// Width of the transition, dB.
const WIDTH_DB: f64 = 2.0;
/// The floor rises by so much a window, so that it finds a line that became louder: 2 dB a second.
const RISE_DB: f64 = 0.064;
/// Share of the newest window in a floor that sinks.
const SINK: f64 = 0.3;
/// Lowest floor, dB of one step of a sample: below it a line is silent.
const LOWEST_DB: f64 = 20.0;

/// An energy detector with a floor that adapts.
#[derive(Debug, Clone)]
pub struct Energy {
    floor_db: f64,
}

impl Default for Energy {
    fn default() -> Self {
        Self { floor_db: LOWEST_DB }
    }
}

impl VoiceActivity for Energy {
    fn voice(&mut self, window: &[i16]) -> f32 {
        let power: f64 = window.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        let level_db = 10.0 * (power / window.len().max(1) as f64).max(1.0).log10();
        let below = level_db - self.floor_db;
        self.floor_db = (self.floor_db + if below < 0.0 { SINK * below } else { RISE_DB }).max(LOWEST_DB);
        let voice = 1.0 / (1.0 + (-(level_db - self.floor_db - ABOVE_DB) / WIDTH_DB).exp());
        voice as f32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loud_is_voice_until_it_stays() {
        let mut energy = Energy::default();
        assert!(energy.voice(&[0; 512]) < 0.1);
        assert!(energy.voice(&[1_000; 512]) > 0.9);
        for _ in 0..1_000 {
            energy.voice(&[1_000; 512]);
        }
        assert!(energy.voice(&[1_000; 512]) < 0.1);
        assert!(energy.voice(&[10_000; 512]) > 0.9);
        energy.reset();
        assert!(energy.voice(&[1_000; 512]) > 0.9);
    }
}
