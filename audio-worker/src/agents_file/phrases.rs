//! What agents say that were told nothing better, by language. Pure.

/// The program's own words in one language.
pub(super) struct Phrases {
    pub(super) apology: &'static str,
    pub(super) still_there: &'static str,
    pub(super) goodbye: &'static str,
    pub(super) give_up: &'static str,
    pub(super) not_understood: &'static str,
}

const ENGLISH: Phrases = Phrases {
    apology: "Sorry, something went wrong on my side. Could you say that again?",
    still_there: "Are you still there?",
    goodbye: "Goodbye.",
    give_up: "I am sorry, I cannot help you right now. Please call again later. Goodbye.",
    not_understood: "Sorry, I did not understand that.",
};

const GERMAN: Phrases = Phrases {
    apology: "Entschuldigung, bei mir ist etwas schiefgegangen. Können Sie das bitte wiederholen?",
    still_there: "Sind Sie noch da?",
    goodbye: "Auf Wiederhören.",
    give_up: "Es tut mir leid, ich kann Ihnen gerade nicht helfen. Bitte rufen Sie später wieder an. Auf Wiederhören.",
    not_understood: "Das habe ich leider nicht verstanden.",
};

const SPANISH: Phrases = Phrases {
    apology: "Perdone, algo ha fallado. ¿Puede repetirlo?",
    still_there: "¿Sigue ahí?",
    goodbye: "Adiós.",
    give_up: "Lo siento, ahora mismo no puedo ayudarle. Por favor, llame más tarde. Adiós.",
    not_understood: "Perdone, no le he entendido.",
};

const FRENCH: Phrases = Phrases {
    apology: "Excusez-moi, un problème est survenu. Pouvez-vous répéter ?",
    still_there: "Êtes-vous toujours là ?",
    goodbye: "Au revoir.",
    give_up: "Je suis désolé, je ne peux pas vous aider pour le moment. Veuillez rappeler plus tard. Au revoir.",
    not_understood: "Excusez-moi, je n'ai pas compris.",
};

const JAPANESE: Phrases = Phrases {
    apology: "申し訳ありません、問題が発生しました。もう一度お願いします。",
    still_there: "もしもし、聞こえますか。",
    goodbye: "失礼いたします。",
    give_up: "申し訳ありません、ただいま対応できません。後ほどおかけ直しください。失礼いたします。",
    not_understood: "申し訳ありません、聞き取れませんでした。",
};

/// Those of a BCP 47 tag; English where the language has none.
pub(super) fn of(language: &str) -> &'static Phrases {
    match language.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "de" => &GERMAN,
        "es" => &SPANISH,
        "fr" => &FRENCH,
        "ja" => &JAPANESE,
        _ => &ENGLISH,
    }
}
