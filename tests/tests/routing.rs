//! Routes from the called number to the agent: whole calls, and a file that changes while they run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use audio_worker::agent::{Act, Agent, Agents, Heard, Opening};
use gateway::Config;
use telemetry::settings::Values;
use tests::{
    line::{Invitation, Line, document, parameters, signed},
    sim::{CallPlan, Quirks, Verb},
    stack::{AUTH_TOKEN, PUBLIC_URL, Stack, StackPlan, eventually},
};

const ROUTES: &str = r#"
[[route]]
to = "+15550101"
agent = "sales"
language = "de-DE"
parameters = { team = "blue" }
forward = ["CallerName", "campaign"]

[[route]]
from = "+49*"
agent = "german"

[[route]]
parameter = { name = "agent", is = "support" }
agent = "support"

[[route]]
to = "+15550102"
agent = "nobody-knows-it"
"#;

/// Says nothing.
struct Silent;

impl Agent for Silent {
    fn hear(&mut self, _: Heard<'_>) {}

    fn poll_act(&mut self, _: &mut Context<'_>, _: &mut Vec<i16>) -> Poll<Act> {
        Poll::Pending
    }
}

/// Which agents took calls, and what they were told.
#[derive(Clone, Default)]
struct Hired(Arc<Mutex<Vec<(&'static str, Opening)>>>);

impl Hired {
    fn agents(&self) -> Agents {
        ["sales", "german", "support", "usual"].into_iter().fold(Agents::default(), |agents, name| {
            let hired = self.clone();
            agents.with(name, move |opening| {
                hired.0.lock().unwrap().push((name, opening.clone()));
                Box::new(Silent)
            })
        })
    }

    /// Who took the call.
    async fn of(&self, line: &Line) -> (&'static str, Opening) {
        let found = || self.0.lock().unwrap().iter().find(|(_, opening)| opening.call_id == line.call_sid()).cloned();
        eventually("an agent has the call", async || found().is_some()).await;
        found().unwrap()
    }
}

/// A routes file of one test; gone at its end.
struct File(PathBuf);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-routes-{test}-{}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn plan(&self, hired: &Hired) -> StackPlan {
        let plan = StackPlan::default().agents(hired.agents()).gateway("DEFAULT_AGENT", "usual");
        plan.gateway("ROUTES_FILE", self.0.to_str().unwrap())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn numbers_callers_and_webhook_parameters_choose_the_agent() {
    let (hired, file) = (Hired::default(), File::new("choose", ROUTES));
    let stack = Stack::start(file.plan(&hired)).await;
    let plan = stack.call_plan();
    for (to, from, path, agent) in [
        ("+15550101", "+4930123456", "/voice/incoming?campaign=spring%26more", "sales"),
        ("+15550100", "+4930123456", "/voice/incoming", "german"),
        ("+15550100", "+15550199", "/twiml?agent=support", "support"),
        ("+15550100", "+15550199", "/voice?agent=sales", "usual"),
        ("+15550100", "anonymous", "/voice/incoming", "usual"),
    ] {
        let plan = CallPlan { to: to.into(), from: from.into(), path: path.into(), ..plan.clone() };
        let mut line = Line::dial(&plan).await;
        let (hired, opening) = hired.of(&line).await;
        assert_eq!(hired, agent, "{to} {from} {path}");
        assert_eq!((opening.to.expose().as_str(), opening.from.expose().as_str()), (to, from));
        let told = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        if agent == "sales" {
            // CallerName did not come, so it is not told.
            assert_eq!(*opening.parameters.expose(), told(&[("campaign", "spring&more"), ("team", "blue")]));
            assert_eq!(opening.language, "de-DE");
        } else {
            assert_eq!((opening.parameters.expose(), opening.language.as_str()), (&told(&[]), ""));
        }
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn what_is_forwarded_fits_twilio_and_xml() {
    let (hired, file) = (Hired::default(), File::new("forward", ROUTES));
    let stack = Stack::start(file.plan(&hired)).await;
    let plan = CallPlan { to: "+15550101".into(), ..stack.call_plan() };
    let mut fields = plan.parameters("CA1", "ringing");
    fields.push(("CallerName".into(), format!("A\u{1}\n<&\"{}", "ü".repeat(600))));
    fields.push(("campaign".into(), String::new()));
    let reply = signed(&plan, "/voice/incoming?campaign=not-this", fields).await;
    // The simulated Twilio refuses a parameter that is too long.
    let Some(Verb::Connect(connect)) = document(&reply).verbs.into_iter().next() else { panic!("{}", reply.body) };
    let parameters = parameters(&connect);
    assert!(parameters["CallerName"].starts_with("A<&\"üü"));
    assert_eq!(parameters["CallerName"].chars().count(), 489);
    assert_eq!(parameters["campaign"], "", "Twilio's own field goes before the address");
    stack.stop().await;
}

#[tokio::test]
async fn an_agent_that_no_worker_knows_ends_in_the_fallback() {
    let (hired, file) = (Hired::default(), File::new("unknown", ROUTES));
    let stack = Stack::start(file.plan(&hired)).await;
    let plan = CallPlan { to: "+15550102".into(), ..stack.call_plan() };
    let mut line = Line::dial(&plan).await;
    assert_eq!(line.close_code().await, Some(1011));
    assert!(tests::line::is_fallback(&line.after().await));
    stack.stop().await;
}

#[tokio::test]
async fn a_good_file_replaces_the_routes_for_new_calls_and_a_broken_one_nothing() {
    let (hired, file) = (Hired::default(), File::new("reload", ROUTES));
    let stack = Stack::start(file.plan(&hired)).await;
    let plan = CallPlan { to: "+15550101".into(), ..stack.call_plan() };
    let mut early = Line::dial(&plan).await;
    assert_eq!(hired.of(&early).await.0, "sales");
    // Asked before the change and connected after it: what the webhook said holds.
    let between = Invitation::ask(&plan).await;

    fs::write(&file.0, "[[route]]\nto = \"+15550101\"\nagent = \"support\"\n").unwrap();
    assert!(stack.reload_routes());
    let mut late = Line::dial(&plan).await;
    assert_eq!(hired.of(&late).await.0, "support");
    let mut line = Line::open(&plan, between).await;
    line.start().await;
    assert_eq!(hired.of(&line).await.0, "sales");

    for broken in ["", "[[route]]\nto = 5\n", "[[rout"] {
        fs::write(&file.0, broken).unwrap();
        assert!(!stack.reload_routes(), "{broken}");
    }
    fs::write(&file.0, [0xff, 0xfe]).unwrap();
    assert!(!stack.reload_routes());
    fs::remove_file(&file.0).unwrap();
    assert!(!stack.reload_routes());
    let mut after = Line::dial(&plan).await;
    assert_eq!(hired.of(&after).await.0, "support");

    fs::write(&file.0, ROUTES).unwrap();
    assert!(stack.reload_routes());
    let mut again = Line::dial(&plan).await;
    assert_eq!(hired.of(&again).await.0, "sales");
    for line in [&mut early, &mut late, &mut line, &mut after, &mut again] {
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn twiml_of_somebody_elses_may_name_the_agent_where_no_ticket_is_asked_for() {
    let hired = Hired::default();
    let plan = StackPlan::default().agents(hired.agents()).gateway("DEFAULT_AGENT", "usual");
    let stack = Stack::start(plan.gateway("REQUIRE_TICKET", "false")).await;
    let plan = CallPlan { quirks: Quirks::default(), ..stack.call_plan() };
    for (given, agent) in [(Some("support"), "support"), (Some(""), "usual"), (None, "usual")] {
        let mut line = Line::open(&plan, Invitation::ask(&plan).await).await;
        let mut parameters = vec![("language".to_owned(), "fr".to_owned()), ("own".to_owned(), "1".to_owned())];
        parameters.extend(given.map(|agent| ("agent".to_owned(), agent.to_owned())));
        line.start_with(&parameters).await;
        let (hired, opening) = hired.of(&line).await;
        assert_eq!((hired, opening.language.as_str()), (agent, "fr"));
        assert_eq!(opening.parameters.expose().keys().collect::<Vec<_>>(), ["own"]);
        line.hang_up().await;
    }
    stack.stop().await;
}

#[test]
fn a_broken_file_is_among_the_mistakes_of_the_settings() {
    let read = |file: &Path| {
        Config::read(&Values::from_lookup(&gateway::config::SETTINGS, |name| match name {
            "TWILIO_AUTH_TOKEN" => Some(AUTH_TOKEN.into()),
            "TWILIO_VOICE_WEBHOOK_URL" => Some(PUBLIC_URL.into()),
            "SERVER_PORT" => Some("http".into()),
            "ROUTES_FILE" => Some(file.to_str().unwrap().into()),
            _ => None,
        }))
        .unwrap_err()
        .to_string()
    };
    let file = File::new("mistakes", "[[route]]\nto = \"030\"\nagnt = \"x\"\n");
    let told = read(&file.0);
    for part in ["SERVER_PORT", "ROUTES_FILE: line 2, route 1: to must", "ROUTES_FILE: line 3, route 1: has an unknown"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert!(read(Path::new("/nowhere/routes.toml")).contains("ROUTES_FILE: cannot be read"));
}
