//! A voice over the agent's: an interruption once there are words in it, and none when there are none in time.

use super::{
    TurnTaking,
    message::Output,
    state::{AFTER_DOUBT, Guess, Over, State},
};

impl TurnTaking {
    /// The caller takes the floor from the agent; `confirmed` when words are known.
    pub(super) fn interrupt(&mut self, confirmed: bool) {
        self.out.push_back(Output::Interrupt);
        let over = Over { since: self.now, confirmed, worded: confirmed, probes: 0 };
        self.hear(Some(over));
        if confirmed {
            self.stats.barge_ins += 1;
            self.voice.unmute_run(self.now);
            let mut guess = Guess::Words;
            if self.voice.silence() < self.settings.guess_silence {
                // The words are only the beginning of what is being said.
                self.forget();
                guess = Guess::None;
            }
            self.state = State::Hearing { guess, over: Some(over) };
        }
    }

    /// More was understood of what is being said, or something else. It may still change, so that nothing is decided by it
    /// before its time; see [`TurnTaking::over_deadline`].
    pub(super) fn on_words_so_far(&mut self, text: &str) {
        if let State::Hearing { guess, over: Some(over) } = self.state {
            let over = Over { worded: !self.fillers.is_filler(text), ..over };
            self.state = State::Hearing { guess, over: Some(over) };
        }
    }

    /// Whether it is an interruption was to be known by now.
    pub(super) fn on_over_deadline(&mut self, over: Over, guess: Guess) {
        if over.worded {
            self.confirm(over, guess);
        } else if guess == Guess::None && self.settings.probe(over.probes).is_some() {
            self.guess(true);
            let over = Some(Over { probes: over.probes + 1, ..over });
            self.state = State::Hearing { guess: Guess::Probe, over };
        } else {
            self.go_on(guess != Guess::Asked);
        }
    }

    /// There are words in it, though those that were asked for have not come.
    fn confirm(&mut self, over: Over, guess: Guess) {
        self.stats.barge_ins += 1;
        let mut guess = guess;
        if guess == Guess::Probe {
            // They are only the beginning of what is being said.
            self.forget();
            guess = Guess::None;
        }
        let over = Some(Over { confirmed: true, ..over });
        self.state = State::Hearing { guess, over };
        if self.endpoint_deadline(over, guess).is_some_and(|at| at <= self.now) {
            self.endpoint(guess, over);
        }
    }

    /// What the caller did was no interruption; `doubtful` when not all of it may have been listened to.
    pub(super) fn go_on(&mut self, doubtful: bool) {
        self.stats.false_interruptions += 1;
        self.out.push_back(Output::Speech { began: false });
        self.out.push_back(Output::GoOn);
        self.doubt = doubtful && self.voice.silence() < AFTER_DOUBT;
        // The same noise does not interrupt twice.
        self.voice.mute_run();
        self.state = State::Speaking { protected: false };
    }
}
