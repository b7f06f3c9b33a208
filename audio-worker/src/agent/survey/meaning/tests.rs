//! What callers say, and what they mean.

use Meaning::{Repeat, Skip, Unclear};
use proptest::prelude::*;

use super::*;

const YES: Meaning = Meaning::Answer(Value::Yes);
const NO: Meaning = Meaning::Answer(Value::No);

fn number(n: u64) -> Meaning {
    Meaning::Answer(Value::Number(n))
}

fn option(at: usize) -> Meaning {
    Meaning::Answer(Value::Choice(at))
}

fn choices() -> Kind {
    let choice = |id: &str, words: &[&str], key| Choice {
        id: id.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        key,
    };
    Kind::Choice(vec![
        choice("red", &["red"], '1'),
        choice("dark_blue", &["navy", "dark blue"], '2'),
        choice("none", &["none", "no colour", "not at all"], '5'),
    ])
}

fn check(language: &str, kind: &Kind, table: &[(&str, Meaning)]) {
    let lexicon = Lexicon::new(language, &Words::default());
    for (said, meaning) in table {
        assert_eq!(lexicon.meaning(said, kind), *meaning, "{language}: {said}");
    }
}

#[test]
fn yes_and_no_are_said_in_many_ways() {
    check(
        "en-US",
        &Kind::YesNo,
        &[
            ("Yes.", YES),
            ("yes please", YES),
            ("Yeah!", YES),
            ("yeah, sure", YES),
            ("Uh-huh.", YES),
            ("OK", YES),
            ("of course", YES),
            ("I think so.", YES),
            ("why not", YES),
            ("Yeah, no problem.", YES),
            ("well yes I do", YES),
            ("That's right.", YES),
            ("No.", NO),
            ("no thank you", NO),
            ("No, thanks.", NO),
            ("nope", NO),
            ("Of course not!", NO),
            ("I don't think so.", NO),
            ("I’m not.", NO),
            ("no I don't", NO),
            ("not really", NO),
            ("that's not right", NO),
            ("absolutely not", NO),
            ("yes and no", Unclear),
            ("yeah no", Unclear),
            ("I'm not sure", Unclear),
            ("I don't know", Unclear),
            ("maybe yes", Unclear),
            ("", Unclear),
            ("...", Unclear),
            ("the weather is nice", Unclear),
            ("nobody knows", Unclear),
            ("notice", Unclear),
            ("Repeat, please.", Repeat),
            ("Sorry, could you say that again?", Repeat),
            ("Pardon?", Repeat),
            ("What?", Repeat),
            ("sorry", Repeat),
            ("sorry, no", NO),
            ("what a yes", YES),
            ("yes, say again", Unclear),
            ("skip", Skip),
            ("no, I'd rather not say", Skip),
            ("next question please", Skip),
            ("yes, skip it", Unclear),
        ],
    );
}

#[test]
fn other_languages_have_their_words() {
    check(
        "de-DE",
        &Kind::YesNo,
        &[
            ("Ja, gerne.", YES),
            ("Na klar!", YES),
            ("Nein danke", NO),
            ("Natürlich nicht.", NO),
            ("Weiß ich nicht.", Unclear),
            ("Wie bitte?", Repeat),
            ("Das möchte ich nicht sagen", Skip),
            ("yes", Unclear),
        ],
    );
    check("es", &Kind::YesNo, &[("Sí, claro", YES), ("claro que no", NO), ("no lo sé", Unclear), ("¿Cómo?", Repeat)]);
    check(
        "fr",
        &Kind::YesNo,
        &[
            ("Oui, bien sûr", YES),
            ("d'accord", YES),
            ("Bien sûr que non", NO),
            ("Non merci", NO),
            ("je ne sais pas", Unclear),
            ("Pardon ?", Repeat),
        ],
    );
    check(
        "ja-JP",
        &Kind::YesNo,
        &[
            ("はい。", YES),
            ("はい、そうです。", YES),
            ("いいえ、違います。", NO),
            ("いいです", YES),
            ("ううん", NO),
            ("もう一度お願いします。", Repeat),
            ("もう一度", Repeat),
            ("わかりません", Unclear),
            ("スキップ", Skip),
        ],
    );
    check("pt-BR", &Kind::YesNo, &[("yes", YES)]);
}

#[test]
fn words_of_the_operator_replace_those_of_the_language() {
    let own = Words { yes: vec!["Aye, aye".to_owned()], ..Words::default() };
    let lexicon = Lexicon::new("en", &own);
    for (said, meaning) in [("aye aye captain", YES), ("yes", Unclear), ("no", NO)] {
        assert_eq!(lexicon.meaning(said, &Kind::YesNo), meaning, "{said}");
    }
}

#[test]
fn options_go_by_words_numbers_and_places() {
    check(
        "en",
        &choices(),
        &[
            ("Red.", option(0)),
            ("The red one, please", option(0)),
            ("I like navy", option(1)),
            ("dark blue", option(1)),
            ("blue", Unclear),
            ("red or navy", Unclear),
            ("not red", Unclear),
            ("No, red", Unclear),
            ("none", option(2)),
            ("not at all", option(2)),
            ("option two", option(1)),
            ("number 2", option(1)),
            ("two", option(1)),
            ("the first one", option(0)),
            ("the second one", option(1)),
            ("third", option(2)),
            ("three", option(2)),
            ("five", option(2)),
            ("press five", option(2)),
            ("one or two", Unclear),
            ("seven", Unclear),
            ("yes", Unclear),
            ("redder", Unclear),
            ("say that again", Repeat),
            ("skip this", Skip),
        ],
    );
    check("de", &choices(), &[("die zweite", option(1)), ("Nummer eins", option(0))]);
    check("ja", &choices(), &[("二番", option(1)), ("1番です", option(0)), ("最初", option(0))]);
}

#[test]
fn numbers_are_said_in_words_and_digits() {
    check(
        "en",
        &Kind::Number(0, 999_999_999),
        &[
            ("25", number(25)),
            ("I'm twenty-five.", number(25)),
            ("twenty five years old", number(25)),
            ("one two three", number(123)),
            ("oh seven", number(7)),
            ("nineteen eighty four", number(1984)),
            ("two hundred", number(200)),
            ("a hundred", number(100)),
            ("two hundred and five", number(205)),
            ("three thousand two hundred", number(3200)),
            ("one hundred twenty three thousand four hundred and fifty six", number(123_456)),
            ("two thousand and twenty six", number(2026)),
            ("1,000", number(1000)),
            ("555-1234", number(5_551_234)),
            ("zero", number(0)),
            ("2.5", Unclear),
            ("12:30", Unclear),
            ("minus five", Unclear),
            ("between three and five", Unclear),
            ("three or four", Unclear),
            ("1234567890", Unclear),
            ("99999999999999999999", Unclear),
            ("none", Unclear),
            ("repeat", Repeat),
            ("skip", Skip),
        ],
    );
    check("en", &Kind::Number(18, 99), &[("seventeen", Unclear), ("eighteen", number(18)), ("100", Unclear)]);
    check(
        "de",
        &Kind::Number(0, 9999),
        &[
            ("fünfundzwanzig", number(25)),
            ("Ich bin einunddreißig Jahre alt", number(31)),
            ("zwei hundert", number(200)),
            ("zwo drei", number(23)),
        ],
    );
    check("es", &Kind::Number(0, 9999), &[("treinta y cinco", number(35)), ("veintiuno", number(21))]);
    check(
        "fr",
        &Kind::Number(0, 9999),
        &[
            ("vingt et un", number(21)),
            ("soixante-quinze", number(75)),
            ("quatre-vingt-dix-sept", number(97)),
            ("deux cents", number(200)),
        ],
    );
    check("ja", &Kind::Number(0, 9999), &[("二十五", number(25)), ("25歳です", number(25)), ("百二十", number(120))]);
}

proptest! {
    #[test]
    fn nothing_said_makes_it_panic(said in "\\PC{0,60}", words in "(one |two |hundred |thousand |9|,|\\.|yes |not |第|十){0,40}") {
        for language in ["en", "de", "es", "fr", "ja"] {
            let lexicon = Lexicon::new(language, &Words::default());
            for kind in [Kind::YesNo, choices(), Kind::Number(0, u64::MAX)] {
                let _ = lexicon.meaning(&said, &kind);
                let _ = lexicon.meaning(&words, &kind);
            }
        }
    }
}
