//! Which route takes which call, and what a routes file is told when it is wrong.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// The place of the route that takes a call, from 1.
fn chosen(routes: &Routes, to: &str, from: &str, fields: &[(&str, &str)]) -> Option<usize> {
    with(to, from, fields, |incoming| routes.choose(incoming).route)
}

fn with<T>(to: &str, from: &str, fields: &[(&str, &str)], then: impl FnOnce(&Incoming<'_>) -> T) -> T {
    let parameter = |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
    then(&Incoming { to, from, parameter: &parameter })
}

fn mistakes(text: &str) -> Vec<String> {
    Routes::parse(text).unwrap_err().told.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_is_a_good_file() {
    let example = include_str!("../../../routes.example.toml");
    assert_eq!(Routes::parse(example).unwrap().len(), example.matches("\n[[route]]").count());
}

#[test]
fn the_first_route_that_fits_decides() {
    let routes = Routes::parse(
        r#"
        [[route]]
        to = ["+4930111111", "+43*"]
        from = "+49170*"
        agent = "vip"

        [[route]]
        to = "+4930111111"
        language = "de-DE"

        [[route]]
        parameter = { name = "agent", is = ["sales", "shop"] }
        to = "+49*"
        agent = "sales"

        [[route]]
        from = ["anonymous", "client:joey"]
        agent = "careful"

        [[route]]
        parameter = [{ name = "FromCountry", is = "DE" }, { name = "FromCity", is = "BERLIN" }]
        agent = "berlin"

        [[route]]
        agent = "rest"
        "#,
    )
    .unwrap();
    let sales = [("agent", "sales")];
    let berlin = [("FromCountry", "DE"), ("FromCity", "BERLIN")];
    for (to, from, fields, route) in [
        ("+4930111111", "+491701234567", &[][..], 1),
        ("+4311234567", "+491701234567", &[], 1),
        ("+4311234567", "+491601234567", &[], 6),
        ("+4930111111", "+491601234567", &sales, 2),
        ("+4930222222", "+491601234567", &sales, 3),
        ("+4930222222", "+491601234567", &[("agent", "Sales")], 6),
        ("+15550100", "anonymous", &[], 4),
        ("+15550100", "client:joey", &berlin, 4),
        ("+15550100", "client:joe", &berlin, 5),
        ("+15550100", "", &berlin[..1], 6),
        ("", "", &[], 6),
    ] {
        assert_eq!(chosen(&routes, to, from, fields), Some(route), "{to} {from} {fields:?}");
    }
}

#[test]
fn a_call_that_no_route_fits_has_the_default_of_everything() {
    let routes = Routes::parse("[[route]]\nto = \"+15550100\"\nagent = \"a\"\n").unwrap();
    with("+15550101", "+15550100", &[], |incoming| assert_eq!(routes.choose(incoming), Choice::default()));
    with("+15550101", "", &[], |incoming| assert_eq!(Routes::default().choose(incoming), Choice::default()));
}

#[test]
fn a_route_gives_its_own_parameters_and_forwards_those_that_came() {
    let routes = Routes::parse(
        r#"[[route]]
        parameters = { team = "sales", note = "a \"b\" & <c>" }
        forward = ["CallerName", "FromCity", "campaign"]"#,
    )
    .unwrap();
    with("+15550100", "", &[("CallerName", "Ann"), ("campaign", ""), ("other", "x")], |incoming| {
        let choice = routes.choose(incoming);
        assert_eq!((choice.agent, choice.language), (None, None));
        let expected = [("note", "a \"b\" & <c>"), ("team", "sales"), ("CallerName", "Ann"), ("campaign", "")];
        assert_eq!(choice.parameters, expected);
    });
}

#[test]
fn each_mistake_has_its_line_its_route_and_its_cure_and_quotes_no_number() {
    let text = r#"colour = "red"
[[route]]
to = "030 1234567"
[[route]]
from = ["+4930*", "+0*", 49]
agent = "two words"
[[route]]
language = "de_DE"
"+15550123" = 1
[[route]]
parameter = { name = "From Country", is = "DE" }
parameters = { ticket = "x", team = 5, "a b" = "c", bell = "\u0007" }
forward = ["to", "CallerName", "CallerName"]
[[route]]
parameter = { name = "x", is = [], si = "y" }
[[route]]
"#;
    let told = mistakes(text);
    let begins: Vec<_> = told.iter().filter_map(|line| line.split_once(": ")).map(|(place, _)| place).collect();
    for place in [
        "line 1",
        "line 3, route 1",
        "line 5, route 2",
        "line 6, route 2",
        "line 8, route 3",
        "line 9, route 3",
        "line 11, route 4",
        "line 12, route 4",
        "line 13, route 4",
        "line 15, route 5",
    ] {
        assert!(begins.contains(&place), "{place}: {told:#?}");
    }
    let all = told.join("\n");
    for cure in
        ["\"+49*\"", "only [[route]]", "has an unknown key; those of a route", "of the gateway's own", "two values"]
    {
        assert!(all.contains(cure), "{cure}: {all}");
    }
    for quoted in ["1234567", "+4930", "+15550123", "red", "words"] {
        assert!(!all.contains(quoted), "{quoted}: {all}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line_and_without_its_text() {
    let told = mistakes("[[route]]\nto = +1555 0123\n\n[[route]\nto = \"+15550124\"\nto = \"+15550125\"\n");
    assert!(told.iter().any(|line| line.starts_with("line 2: is no TOML")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("line 4: is no TOML")), "{told:?}");
    assert!(!told.concat().contains("1555"), "{told:?}");
    let twice = mistakes("[[route]]\nto = \"+15550124\"\nto = \"+15550125\"\n");
    assert!(twice[0].starts_with("line 3: is no TOML") && !twice[0].contains("1555"), "{twice:?}");
    for (text, cure) in [("", "there is no route"), ("# nothing\n", "there is no route"), ("route = 1", "two brackets")]
    {
        assert!(mistakes(text)[0].contains(cure), "{text}");
    }
    assert!(mistakes("[route]\nto = \"+15550100\"")[0].contains("two brackets"));
    assert!(mistakes("route = [1]")[0].contains("must be a table"));
}

#[test]
fn a_route_that_takes_all_calls_is_the_last() {
    let all = "[[route]]\nagent = \"a\"\n";
    let one = "[[route]]\nto = \"+15550100\"\n";
    Routes::parse(&format!("{one}{all}")).unwrap();
    let told = mistakes(&format!("{one}{all}{one}"));
    assert!(told[0].starts_with("line 3, route 2") && told[0].contains("put it last"), "{told:?}");
}

#[test]
fn everything_is_bounded() {
    let routes = |count: usize| "[[route]]\nto = \"+15550100\"\n".repeat(count);
    assert_eq!(Routes::parse(&routes(MAX_ROUTES)).unwrap().len(), MAX_ROUTES);
    assert!(mistakes(&routes(MAX_ROUTES + 1))[0].contains("at most 10000"));

    let parameters = |count: usize| {
        let list: Vec<_> = (0..count).map(|n| format!("p{n} = \"v\"")).collect();
        format!("[[route]]\nforward = [\"FromCity\"]\nparameters = {{ {} }}\n", list.join(", "))
    };
    Routes::parse(&parameters(MAX_PARAMETERS - 1)).unwrap();
    assert!(mistakes(&parameters(MAX_PARAMETERS))[0].contains("at most 32"));

    let value = |length: usize| format!("[[route]]\nparameters = {{ team = \"{}\" }}\n", "ü".repeat(length));
    Routes::parse(&value(495)).unwrap();
    assert!(mistakes(&value(496))[0].contains("499 characters"));

    let names = |count: usize| {
        (0..count).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "[[route]]\nparameter = {{ name = \"n{n}\", is = \"v\" }}");
            text
        })
    };
    Routes::parse(&names(32)).unwrap();
    assert!(mistakes(&names(33))[0].contains("more than 32 different"));

    let many = Routes::parse(&"[[route]]\nto = \"nobody\"\n".repeat(1000)).unwrap_err();
    assert_eq!((many.told.len(), many.untold), (20, 980));
    assert!(many.to_string().ends_with("and 980 more"));
}

#[test]
fn few_of_ten_thousand_routes_are_looked_at() {
    let number = |n: usize| format!("+4930{n:07}");
    let file = |line: &dyn Fn(usize) -> String| {
        let text = (0..MAX_ROUTES).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "[[route]]\n{}\nagent = \"a{n}\"", line(n));
            text
        });
        Routes::parse(&text).unwrap()
    };
    let files = [
        file(&|n| format!("to = \"{}\"", number(n))),
        file(&|n| format!("to = \"+49*\"\nfrom = \"{}\"", number(n))),
        file(&|n| {
            format!(
                "to = \"+4930*\"\nfrom = [\"{}\", \"+1*\"]\nparameter = {{ name = \"n\", is = \"{n}\" }}",
                number(n)
            )
        }),
    ];
    for routes in files {
        for n in [0, 1, 4999, MAX_ROUTES - 1] {
            let (number, value) = (number(n), n.to_string());
            with(&number, &number, &[("n", &value)], |incoming| {
                let (found, looked_at) = routes.find(incoming);
                assert_eq!(found, Some(n));
                assert!(looked_at <= 2, "{looked_at}");
            });
        }
    }
}

/// What a route asks for: called numbers, callers, fields.
type Asks = (Vec<&'static str>, Vec<&'static str>, Vec<(&'static str, &'static str)>);

/// Numbers, prefixes and fields so few that they meet often.
fn small_file() -> impl Strategy<Value = Vec<Asks>> {
    let numbers = || {
        let patterns = ["+49301111", "+49302222", "+15550100", "+49*", "+4930*", "+1*", "anonymous"];
        prop::collection::vec(prop::sample::select(patterns.to_vec()), 0..3)
    };
    let fields = [("a", "1"), ("a", "2"), ("b", "1")];
    let conditions = prop::collection::vec(prop::sample::select(fields.to_vec()), 0..3);
    // At least one, so that no route in the middle takes every call.
    let route = (numbers(), numbers(), conditions).prop_filter("asks for something", |(to, from, conditions)| {
        !to.is_empty() || !from.is_empty() || !conditions.is_empty()
    });
    prop::collection::vec(route, 1..12)
}

proptest! {
    #[test]
    fn the_index_finds_what_reading_from_the_top_finds(
        file in small_file(),
        to in prop::sample::select(vec!["+49301111", "+49302222", "+4940333", "+15550100", "+33123456"]),
        from in prop::sample::select(vec!["+49301111", "+15550100", "anonymous", ""]),
        fields in prop::collection::vec(prop::sample::select(vec![("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]), 0..3),
    ) {
        let text = file.iter().fold(String::new(), |mut text, (to, from, conditions)| {
            let _ = writeln!(text, "[[route]]");
            for (key, list) in [("to", to), ("from", from)] {
                if !list.is_empty() {
                    let _ = writeln!(text, "{key} = {list:?}");
                }
            }
            let list: Vec<_> =
                conditions.iter().map(|(name, is)| format!("{{ name = {name:?}, is = {is:?} }}")).collect();
            if !list.is_empty() {
                let _ = writeln!(text, "parameter = [{}]", list.join(", "));
            }
            text
        });
        let routes = Routes::parse(&text).unwrap();
        let has = |list: &[&str], number: &str| {
            list.is_empty() || list.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => number.starts_with(prefix),
                None => number == *pattern,
            })
        };
        let field = |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
        let expected = file.iter().position(|(called, callers, conditions)| {
            has(called, to) && has(callers, from) && conditions.iter().all(|(name, is)| field(name) == Some(is))
        });
        prop_assert_eq!(chosen(&routes, to, from, &fields), expected.map(|at| at + 1));
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(\\[\\[route\\]\\]\n|to = |from = |parameter = |\"|\\+49|\\*|\\{|\\}|name|is|=|\\[|\\]|,|\n|forward|.){0,40}") {
        let _ = Routes::parse(&text);
    }
}
