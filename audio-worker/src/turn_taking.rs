//! Who has the floor: when the caller has finished, when the agent is interrupted, when an interruption was none.
//!
//! Pure: windows of the caller's sound, judged by a voice detector, and what becomes of answers go in with `now`; what is
//! to be done and one deadline come out. Contract: one [`TurnTaking::handle`], then [`TurnTaking::poll`] until it answers
//! `None`, before the next.
//!
//! The agent runs ahead: at the first short silence an answer is prepared that nobody hears ([`Output::Guess`]). It is said
//! when the silence has become long enough ([`Output::Answer`]) and thrown away when the caller goes on
//! ([`Output::Forget`]).

use std::{collections::VecDeque, time::Instant};

mod deadlines;
mod fillers;
mod message;
mod over;
mod settings;
mod state;
mod voice;

pub use message::{Input, Output, Stats};
pub use settings::Settings;
pub use voice::WINDOW;

use fillers::Fillers;
use state::{AFTER_DOUBT, Guess, Over, State};
use voice::Voice;

/// The floor of one conversation.
#[derive(Debug)]
pub struct TurnTaking {
    settings: Settings,
    fillers: Fillers,
    now: Instant,
    state: State,
    voice: Voice,
    /// The newest guess's number; 0 before the first.
    newest: u64,
    /// The newest that was answered.
    answered: u64,
    /// The agent went on over a voice that did not end: once it has, it is listened to as a whole.
    doubt: bool,
    /// Prompts since the caller last said something.
    prompts: u32,
    out: VecDeque<Output>,
    stats: Stats,
}

impl TurnTaking {
    /// A conversation that begins at `now`, with the floor free.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            fillers: Fillers::new(&settings.fillers),
            settings,
            now,
            state: State::Listening(now),
            voice: Voice::default(),
            newest: 0,
            answered: 0,
            doubt: false,
            prompts: 0,
            out: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one input at `now`. Time that goes backwards is ignored.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.now = self.now.max(now);
        match input {
            Input::Window { voice, echo } => self.on_window(voice, echo),
            Input::Words { turn, text } => self.on_words(turn, text),
            Input::WordsSoFar { text } => self.on_words_so_far(text),
            Input::EndOfSpeech => self.on_end_of_speech(),
            Input::Speaking { protected } => self.on_speaking(protected),
            Input::Finished => self.on_finished(),
            Input::Unanswered => self.listen(),
            Input::Preparing => self.on_preparing(),
            Input::Key => self.on_key(),
            Input::Held => {
                self.forget();
                self.voice.reset();
                self.listen();
            }
            Input::Tick => {}
        }
        self.look_at_time();
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`TurnTaking::handle`] with [`Input::Tick`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Listening(since) => Some(since + self.settings.silence_prompt),
            State::Hearing { over, guess } => {
                [self.over_deadline(over, guess), self.endpoint_deadline(over, guess)].into_iter().flatten().min()
            }
            State::Thinking | State::Preparing | State::Speaking { .. } => None,
        }
    }

    /// True while what the caller says belongs to a turn that is not answered yet, and is to be kept.
    pub const fn keeps_speech(&self) -> bool {
        matches!(self.state, State::Hearing { .. } | State::Thinking)
    }

    /// True while what the caller says may yet be asked for: in a turn, and while somebody speaks on whose interruption
    /// counts as none.
    pub const fn records(&self) -> bool {
        let doubtful = matches!(self.state, State::Speaking { .. }) && self.newest > self.answered;
        self.keeps_speech() || self.doubt || self.voice.is_running() || (doubtful && self.voice.goes_on())
    }

    /// True while the agent is expected to say something.
    pub const fn awaits_answer(&self) -> bool {
        matches!(self.state, State::Thinking | State::Preparing)
    }

    /// The end of the caller's newest voice, if there was any.
    pub const fn last_voice(&self) -> Option<Instant> {
        self.voice.last_voice()
    }

    /// What was counted so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn on_window(&mut self, probability: f32, echo: bool) {
        let in_turn = matches!(self.state, State::Hearing { .. });
        let resumed = self.voice.push(probability, echo, in_turn, self.now);
        match self.state {
            State::Listening(_) if self.voice.voiced() >= self.settings.min_speech => self.hear(None),
            State::Thinking if self.voice.voiced() >= self.settings.min_speech => {
                // Cut off too soon: what comes belongs to the same turn.
                self.stats.cut_off += 1;
                self.forget();
                self.hear(None);
            }
            State::Speaking { protected: false }
                if self.settings.interruptible && self.voice.voiced() >= self.settings.barge_in =>
            {
                self.interrupt(false);
            }
            State::Speaking { .. } if self.doubt && self.voice.silence() >= AFTER_DOUBT => {
                self.doubt = false;
                self.guess(false);
            }
            State::Hearing { guess, over } => self.on_heard(guess, over, resumed),
            State::Listening(_) | State::Thinking | State::Preparing | State::Speaking { .. } => {}
        }
    }

    /// The caller has the floor, and another window came.
    fn on_heard(&mut self, guess: Guess, over: Option<Over>, resumed: bool) {
        // A probe's words are on their way; a hole within a word must not start the search anew.
        let more_than_a_hole = 2 * WINDOW;
        let is_open = over.is_some_and(|over| !over.confirmed);
        if resumed && is_open && guess == Guess::Asked {
            // Nobody will hear an answer to it, but its words tell whether this is an interruption.
            self.state = State::Hearing { guess: Guess::Probe, over };
        } else if resumed && matches!(guess, Guess::Asked | Guess::Words | Guess::Empty) {
            self.forget();
            self.state = State::Hearing { guess: Guess::None, over };
        } else if is_open && guess == Guess::Empty && self.voice.silence() >= AFTER_DOUBT {
            self.go_on(false);
        } else if (self.voice.silence() >= self.settings.endpoint_silence
            && !self.voice.may_resume(self.settings.endpoint_silence))
            || self.voice.lasted(self.now) >= self.settings.max_utterance
        {
            self.endpoint(guess, over);
        } else if (guess == Guess::None && self.voice.silence() >= self.settings.guess_silence)
            || (guess == Guess::Probe && self.voice.silence() >= self.settings.guess_silence + more_than_a_hole)
        {
            self.guess(false);
            self.state = State::Hearing { guess: Guess::Asked, over };
        }
    }

    fn on_words(&mut self, turn: u64, text: &str) {
        if turn != self.newest || turn == 0 {
            return;
        }
        let is_speech = !self.fillers.is_filler(text);
        match self.state {
            State::Hearing { over: Some(over), guess } if !over.confirmed => {
                if is_speech {
                    self.stats.barge_ins += 1;
                    let guess = if guess == Guess::Asked { Guess::Words } else { Guess::None };
                    self.state = State::Hearing { guess, over: Some(Over { confirmed: true, ..over }) };
                } else if guess == Guess::Probe && self.settings.probe(over.probes).is_some() {
                    // Half a sentence may be none to a recogniser: the caller still speaks, and is listened to.
                    self.state = State::Hearing { guess: Guess::None, over: Some(over) };
                } else if guess == Guess::Asked && text.trim().is_empty() && self.voice.silence() < AFTER_DOUBT {
                    // It may be a hole within a word: who goes on is listened to.
                    self.state = State::Hearing { guess: Guess::Empty, over: Some(over) };
                } else {
                    self.go_on(text.trim().is_empty());
                }
            }
            State::Hearing { guess: Guess::Asked, over } => {
                let guess = if text.trim().is_empty() { Guess::Empty } else { Guess::Words };
                self.state = State::Hearing { guess, over };
            }
            // Nobody said anything: back to listening.
            State::Thinking if text.trim().is_empty() => {
                self.stats.empty += 1;
                self.forget();
                self.listen();
            }
            // It was taken for no interruption before its words were known.
            State::Speaking { protected: false }
                if is_speech && self.settings.interruptible && turn > self.answered =>
            {
                self.interrupt(true);
            }
            // The same, and the agent has finished meanwhile.
            State::Listening(_) if is_speech && turn > self.answered => {
                self.hear(None);
                self.state = State::Hearing { guess: Guess::Words, over: None };
            }
            State::Listening(_)
            | State::Hearing { .. }
            | State::Thinking
            | State::Preparing
            | State::Speaking { .. } => {}
        }
    }

    /// Somebody else has decided that the caller has finished; our own ears have to have heard the end of a run.
    fn on_end_of_speech(&mut self) {
        if let State::Hearing { guess, over } = self.state
            && over.is_none_or(|over| over.confirmed)
            && self.voice.silence() >= voice::FORGOTTEN
        {
            self.endpoint(guess, over);
        }
    }

    /// Who types is not silent.
    fn on_key(&mut self) {
        self.prompts = 0;
        if let State::Listening(_) = self.state {
            self.listen();
        }
    }

    fn on_finished(&mut self) {
        if let State::Speaking { .. } = self.state {
            self.listen();
            if self.voice.voiced() >= self.settings.min_speech && self.voice.is_running() {
                self.hear(None);
            }
        }
    }

    fn on_speaking(&mut self, protected: bool) {
        if self.state == State::Preparing {
            // What was said before it began does not interrupt it.
            self.voice.mute_run();
        }
        self.state = State::Speaking { protected };
    }

    /// Whatever went on before is over: the agent has something to say.
    fn on_preparing(&mut self) {
        match self.state {
            State::Speaking { .. } => self.out.push_back(Output::Interrupt),
            State::Hearing { .. } => {
                self.out.push_back(Output::Speech { began: false });
                self.forget();
            }
            State::Thinking => self.forget(),
            State::Listening(_) | State::Preparing => {}
        }
        (self.prompts, self.doubt) = (0, false);
        self.voice.mute_run();
        self.state = State::Preparing;
    }

    fn look_at_time(&mut self) {
        match self.state {
            State::Listening(since) if since + self.settings.silence_prompt <= self.now && !self.voice.is_running() => {
                self.prompts += 1;
                self.stats.prompts += 1;
                self.out.push_back(Output::Prompt { nth: self.prompts });
                self.state = State::Preparing;
            }
            State::Listening(since) if since + self.settings.silence_prompt <= self.now => self.listen(),
            State::Hearing { guess, over } => {
                if self.over_deadline(over, guess).is_some_and(|at| at <= self.now)
                    && let Some(over) = over
                {
                    self.on_over_deadline(over, guess);
                } else if self.endpoint_deadline(over, guess).is_some_and(|at| at <= self.now) {
                    self.endpoint(guess, over);
                }
            }
            State::Listening(_) | State::Thinking | State::Preparing | State::Speaking { .. } => {}
        }
    }

    fn hear(&mut self, over: Option<Over>) {
        self.out.push_back(Output::Speech { began: true });
        self.doubt = false;
        self.state = State::Hearing { guess: Guess::None, over };
    }

    fn guess(&mut self, probe: bool) {
        self.newest += 1;
        self.stats.guesses += u64::from(!probe);
        self.out.push_back(Output::Guess { turn: self.newest, probe });
    }

    /// The caller has finished.
    fn endpoint(&mut self, guess: Guess, over: Option<Over>) {
        if matches!(guess, Guess::None | Guess::Probe) {
            self.guess(false);
        }
        if over.is_some_and(|over| !over.confirmed) {
            // Whether it was an interruption at all is not known yet; its words are on their way, and there is a deadline.
            self.state = State::Hearing { guess: Guess::Asked, over };
            return;
        }
        self.out.push_back(Output::Speech { began: false });
        // One that was cut at its greatest length does not go on in the next.
        self.voice.mute_run();
        if guess == Guess::Empty {
            self.stats.empty += 1;
            self.forget();
            if over.is_some() {
                // Of what interrupted nothing was left; the rest is said after all.
                self.out.push_back(Output::GoOn);
                self.state = State::Speaking { protected: false };
            } else {
                self.listen();
            }
            return;
        }
        self.answered = self.newest;
        self.out.push_back(Output::Answer { turn: self.newest });
        self.stats.turns += 1;
        self.prompts = 0;
        self.state = State::Thinking;
    }

    /// The newest guess is worth nothing any more.
    fn forget(&mut self) {
        if self.newest > 0 && matches!(self.state, State::Hearing { .. } | State::Thinking) {
            self.stats.forgotten += 1;
            self.out.push_back(Output::Forget { turn: self.newest });
        }
    }

    const fn listen(&mut self) {
        self.doubt = false;
        self.state = State::Listening(self.now);
    }
}

#[cfg(test)]
mod tests;
