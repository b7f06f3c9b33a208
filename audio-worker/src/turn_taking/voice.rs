//! Runs of voice in the caller's sound: when one began, how much of it is voice, how long it has been silent since.

use std::time::{Duration, Instant};

/// Length of the windows that are judged: 512 samples at 16 kHz, which the detector is made for.
pub const WINDOW: Duration = Duration::from_millis(32);

/// Likelihood at which voice begins, and at which it goes on: a run must not fall apart at its weak places.
const BEGINS: f32 = 0.5;
const GOES_ON: f32 = 0.35;

/// A window that is so likely voice, in a silence, may be the beginning of more.
const MAY_BEGIN: f32 = 0.2;

/// What may be the beginning of more speech is waited for so long: a soft consonant, and the detector's first windows.
pub(super) const MAY_GO_ON: Duration = Duration::from_millis(256);

/// It is seen from so many windows, that one included: a consonant may have a hole before the vowel.
const UNSURE: u8 = 3;

/// One window of voice alone, after silence, is a click; two are speech that goes on.
const RESUMES: Duration = Duration::from_millis(64);

/// A run that has not become a turn, or was one, is forgotten after so much silence.
pub(super) const FORGOTTEN: Duration = Duration::from_millis(160);

/// The newest run of voice.
#[derive(Debug, Default)]
pub(super) struct Voice {
    run: Option<Run>,
    last_voice: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    began: Instant,
    voiced: Duration,
    /// Silence at its end.
    silence: Duration,
    /// Voice in a row, at its end.
    in_a_row: Duration,
    /// For so many windows more, speech may be going on.
    may_go_on: u8,
    /// It became a turn, or was taken for none: only the silence after it counts.
    over: bool,
}

impl Voice {
    /// Takes a window that ends at `now`; true when speech goes on after a silence. Between turns (not `in_turn`) a run ends
    /// at a short silence.
    pub(super) fn push(&mut self, probability: f32, echo: bool, in_turn: bool, now: Instant) -> bool {
        self.run = self.run.filter(|run| in_turn || run.silence < FORGOTTEN);
        let threshold = if self.run.is_some_and(|run| run.silence.is_zero()) { GOES_ON } else { BEGINS };
        let is_voice = !echo && probability >= threshold;
        let Some(run) = &mut self.run else {
            if is_voice {
                let began = now.checked_sub(WINDOW).unwrap_or(now);
                self.run = Some(Run {
                    began,
                    voiced: WINDOW,
                    silence: Duration::ZERO,
                    in_a_row: WINDOW,
                    may_go_on: UNSURE,
                    over: false,
                });
                self.last_voice = Some(now);
            }
            return false;
        };
        let may_be_voice = !echo && probability >= MAY_BEGIN;
        run.may_go_on = if may_be_voice { UNSURE } else { run.may_go_on.saturating_sub(1) };
        if !is_voice {
            run.in_a_row = Duration::ZERO;
            run.silence += WINDOW;
            return false;
        }
        run.voiced += WINDOW;
        run.in_a_row += WINDOW;
        let was_silent = !run.silence.is_zero();
        if run.in_a_row >= RESUMES || !was_silent {
            run.silence = Duration::ZERO;
            if !run.over {
                self.last_voice = Some(now);
            }
            return was_silent;
        }
        false
    }

    /// Voice in the run that is going on.
    pub(super) fn voiced(&self) -> Duration {
        self.run.filter(|run| !run.over).map_or(Duration::ZERO, |run| run.voiced)
    }

    /// Silence at its end.
    pub(super) fn silence(&self) -> Duration {
        self.run.map_or(Duration::MAX, |run| run.silence)
    }

    /// True when speech may be going on after a silence, which the next windows tell; not for long beyond `enough` of it.
    pub(super) fn may_resume(&self, enough: Duration) -> bool {
        let waits = |run: Run| run.may_go_on > 0 && !run.silence.is_zero() && run.silence < enough + MAY_GO_ON;
        self.run.is_some_and(waits)
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        self.run.map_or(Duration::ZERO, |run| now.saturating_duration_since(run.began))
    }

    /// True in a run.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.run, Some(Run { over: false, .. }))
    }

    /// True in a run, be it a turn, or noise.
    pub(super) const fn goes_on(&self) -> bool {
        self.run.is_some()
    }

    /// The end of the newest voice.
    pub(super) const fn last_voice(&self) -> Option<Instant> {
        self.last_voice
    }

    /// What is left of the run is nothing to listen to: it was a turn, or noise.
    pub(super) const fn mute_run(&mut self) {
        if let Some(run) = &mut self.run {
            run.over = true;
        }
    }

    /// The run was something to listen to after all.
    pub(super) fn unmute_run(&mut self, now: Instant) {
        if let Some(run) = &mut self.run {
            run.over = false;
            if run.silence.is_zero() {
                self.last_voice = Some(now);
            }
        }
    }

    /// Nothing was heard.
    pub(super) const fn reset(&mut self) {
        self.run = None;
        self.last_voice = None;
    }
}
