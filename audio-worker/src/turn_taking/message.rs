//! What goes into the core of turn-taking and what comes out.

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// Another window of the caller's sound, [`super::WINDOW`] long.
    Window {
        /// How likely it holds voice, 0 to 1.
        voice: f32,
        /// It is the agent's own voice coming back.
        echo: bool,
    },
    /// The words of a guess; empty when there are none. None come for a guess whose recogniser failed: it is
    /// [`Input::Unanswered`], or its answer an apology.
    Words {
        /// The guess.
        turn: u64,
        /// What was said.
        text: &'a str,
    },
    /// What is understood by now of what the caller is saying, where somebody listens all the time; it may change.
    WordsSoFar {
        /// All of it, and empty when nothing is left of it.
        text: &'a str,
    },
    /// A recogniser that listens takes the caller's speech as over. It counts where our own ears hear nobody either.
    EndOfSpeech,
    /// The agent begins to be heard.
    Speaking {
        /// It must not be interrupted.
        protected: bool,
    },
    /// All that the agent said was heard.
    Finished,
    /// There is nothing to say.
    Unanswered,
    /// The agent is about to say something of its own accord: a greeting, an answer to a key. Whatever went on is over.
    Preparing,
    /// The caller pressed a key that means nothing yet.
    Key,
    /// The call was put on hold, or taken off: nothing of before counts.
    Held,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The caller began to speak, or ended.
    Speech {
        /// Which of the two.
        began: bool,
    },
    /// Put what the caller said so far into words, and, unless it is a probe, prepare an answer that nobody hears yet. What
    /// was prepared before is forgotten.
    Guess {
        /// Numbers only grow.
        turn: u64,
        /// Only the words are wanted.
        probe: bool,
    },
    /// That guess is worth nothing.
    Forget {
        /// The guess.
        turn: u64,
    },
    /// The caller has finished: say what was prepared, as soon as there is something.
    Answer {
        /// The guess.
        turn: u64,
    },
    /// Stop speaking, and keep what was not heard.
    Interrupt,
    /// It was no interruption: say the rest, from the word where it stopped.
    GoOn,
    /// The caller is silent; ask whether they are still there.
    Prompt {
        /// For the how many-th time in a row, from 1.
        nth: u32,
    },
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Turns of the caller that were answered or begun to be.
    pub turns: u64,
    /// Answers prepared ahead.
    pub guesses: u64,
    /// Of those, thrown away.
    pub forgotten: u64,
    /// The caller went on before the answer began to sound.
    pub cut_off: u64,
    /// Interruptions with words.
    pub barge_ins: u64,
    /// Interruptions that were none.
    pub false_interruptions: u64,
    /// Turns without words.
    pub empty: u64,
    /// Silences that were prompted.
    pub prompts: u64,
}
