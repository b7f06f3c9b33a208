//! Providers that fail, through the whole system: refused, silent, failing, overrun or speaking HTML, at each stage. Another
//! one stands in within the same answer; the next call does not wait for it at all; the first is used again once it is
//! well; and what all of it cost is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::Value;
use tests::{
    calls_api::ApiClient,
    openai::{Extent, Mishap, OpenAi, Script, Stage, tone},
    sim::CallPlan,
    stack::{Stack, StackPlan, eventually},
    talk::{Clip, Phone, Transcripts, recorded, staff},
};
use tokio::{
    net::TcpSocket,
    sync::{Semaphore, SemaphorePermit},
};
use url::Url;

const TOKEN: &str = "a-token-of-the-calls-api-that-is-long";

/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over.
const PAUSE: Duration = Duration::from_millis(250);
/// What the machine may add to a time.
const NOISE_MS: u64 = 150;
/// Sound of one character of an answer.
const CHARACTER: Duration = Duration::from_millis(15);
/// How often a caller says something until the breaker is open.
const MAX_TURNS: usize = 4;

/// An agent with one provider for a stage that may fail, another that stands in, and good ones elsewhere.
struct Desk {
    stack: Stack,
    plan: CallPlan,
    /// Serves the stage that may fail, and that one alone.
    first: OpenAi,
    /// Stands in.
    second: OpenAi,
    /// Serves the others.
    others: OpenAi,
    stage: Stage,
    label: &'static str,
    /// Where the first is said to be.
    host: String,
    transcripts: Transcripts,
    /// Where nobody listens.
    _refusing_port: Option<TcpSocket>,
    _seat: SemaphorePermit<'static>,
}

/// Calls mostly wait, but their times are measured: a few at once.
static SEATS: Semaphore = Semaphore::const_new(3);

const STAGES: [(Stage, &str); 3] =
    [(Stage::Transcription, "speech_to_text"), (Stage::Chat, "chat"), (Stage::Speech, "text_to_speech")];

fn script() -> Script {
    let turn = AtomicUsize::new(0);
    Script {
        hear: Arc::new(|_| "what time is it".to_owned()),
        // No answer is like the one before it, so that no voice is remembered.
        think: Arc::new(move |_| format!("It is number {}.", turn.fetch_add(1, Ordering::Relaxed))),
        say: Arc::new(|text, _| tone(440.0, CHARACTER * u32::try_from(text.chars().count()).unwrap())),
        ..Script::default()
    }
}

impl Desk {
    /// `refusing`: nobody listens where the first is.
    async fn open(name: &str, (stage, label): (Stage, &'static str), refusing: bool) -> Self {
        let seat = SEATS.acquire().await.unwrap();
        let start = || OpenAi::start(script());
        let (first, second, others) = (start().await.unwrap(), start().await.unwrap(), start().await.unwrap());
        let mut base = first.base();
        let mut refusing_port = None;
        if refusing {
            // Bound, so that nobody else gets it, and not listened to.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            base = Url::parse(&format!("http://{}/v1", socket.local_addr().unwrap())).unwrap();
            refusing_port = Some(socket);
        }
        let stages = STAGES.map(|(_, of)| {
            let is_it = of == label;
            let url = if is_it { base.clone() } else { others.base() };
            let own = format!("[agent.desk.{of}]\nmodel = \"m\"\nurl = \"{url}\"\n");
            let second = second.base();
            if is_it { format!("{own}[agent.desk.{of}.fallback]\nmodel = \"m\"\nurl = \"{second}\"\n") } else { own }
        });
        let file = format!(
            "[agent.desk]\nkind = \"pipeline\"\ninstructions = \"x\"\ngreeting = \"Hello there.\"\napology = \"Alas.\"\n{}",
            stages.concat()
        );
        let transcripts = Transcripts::of_test(&format!("failing-{name}"));
        let plan = StackPlan::default()
            .agents(staff(&file, &others.base()))
            .gateway("API_TOKENS", TOKEN)
            .gateway("DEFAULT_AGENT", "desk");
        let stack = Stack::start(transcripts.kept_by(plan)).await;
        let host = format!("{}:{}", base.host_str().unwrap(), base.port().unwrap());
        Self {
            plan: stack.call_plan(),
            stack,
            first,
            second,
            others,
            stage,
            label,
            host,
            transcripts,
            _refusing_port: refusing_port,
            _seat: seat,
        }
    }

    async fn dial(&self) -> Phone {
        let mut phone = Phone::dial(&self.plan).await.unwrap();
        let began = phone.began();
        phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
        phone
    }

    /// Asks, and hears the answer to its end.
    async fn ask(&self, phone: &mut Phone, clip: &Clip) {
        let said = phone.say_all(clip).await.unwrap().ended.unwrap();
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    }

    /// Hangs up; the transcript.
    async fn hang_up(&self, mut phone: Phone) -> Vec<Value> {
        phone.hang_up().await;
        self.transcripts.of_call(phone.call_sid()).await
    }

    async fn is_left_alone(&self) -> bool {
        let series = format!(
            "tandem_worker_provider_open{{host=\"{}\",provider=\"openai\",stage=\"{}\"}}",
            self.host, self.label
        );
        let samples = self.stack.worker_metrics().await;
        samples.of(&series).unwrap_or_else(|| panic!("{series} in\n{}", samples.0)) == 1.0
    }

    async fn close(self) {
        self.stack.stop().await;
    }
}

/// From the caller's last sound to the first one of each answer, in ms.
fn responses(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["first_sent_ms"].as_u64()).collect()
}

fn clip() -> Clip {
    recorded().into_iter().min_by_key(Clip::ms).unwrap()
}

/// What one stage cost, by the transcript's last line.
fn cost(lines: &[Value], stage: &str) -> Value {
    let costs = lines.last().unwrap()["costs"].as_array().unwrap().clone();
    costs.into_iter().find(|cost| cost["stage"] == stage).unwrap_or_default()
}

/// A call that finds the provider dead hears each answer less than a second later than one that knows it is.
async fn survives(name: &str, at: usize, mishap: Option<Mishap>) {
    let refusing = mishap.is_none();
    let desk = Desk::open(name, STAGES[at], refusing).await;
    if let Some(mishap) = &mishap {
        desk.first.upset(desk.stage, mishap.clone(), Extent::Lasting);
    }
    let clip = clip();
    let mut phone = desk.dial().await;
    for _ in 0..MAX_TURNS {
        desk.ask(&mut phone, &clip).await;
        if desk.is_left_alone().await {
            break;
        }
    }
    assert!(desk.is_left_alone().await, "{name}: it is asked again and again");
    let before = desk.hang_up(phone).await;
    let asked = desk.first.asked_for(desk.stage).len();
    let mut phone = desk.dial().await;
    desk.ask(&mut phone, &clip).await;
    let after = desk.hang_up(phone).await;
    assert_eq!(desk.first.asked_for(desk.stage).len(), asked, "{name}: the second call waits for it");
    let (found, usual) = (responses(&before), responses(&after)[0]);
    // The machine may be busy for a moment: the quickest of those turns counts. In virtual time, the bound holds for each.
    let late = found.iter().min().unwrap();
    assert!(*late <= usual + 1000 + NOISE_MS, "{name}: {found:?}, {usual}");
    // Nobody heard of it.
    for line in before.iter().chain(&after) {
        assert!(line["event"] != "fault" && line["text"] != "Alas.", "{name}: {line}");
    }
    let cost = cost(&after, desk.label);
    assert_eq!(cost["stood_in"], cost["requests"].as_u64().unwrap() - cost["given_up"].as_u64().unwrap_or(0), "{cost}");
    desk.close().await;
}

async fn survives_all(at: usize) {
    let too_many = Mishap::TooMany { retry_after: Some(Duration::from_secs(1)) };
    let cases = [
        ("refused", None),
        ("silent", Some(Mishap::Silent)),
        ("500", Some(Mishap::Internal)),
        ("429", Some(too_many)),
        ("html", Some(Mishap::Html)),
    ];
    join_all(cases.map(async |(name, mishap)| survives(&format!("{}-{name}", STAGES[at].1), at, mishap).await)).await;
}

#[tokio::test]
async fn another_recogniser_stands_in() {
    survives_all(0).await;
}

#[tokio::test]
async fn another_model_stands_in() {
    survives_all(1).await;
}

#[tokio::test]
async fn another_voice_stands_in() {
    survives_all(2).await;
}

#[tokio::test]
async fn who_is_well_again_is_used_again_and_what_it_cost_is_told() {
    let desk = Desk::open("recovers", STAGES[1], false).await;
    desk.first.upset(Stage::Chat, Mishap::Down, Extent::Lasting);
    let clip = clip();
    let mut phone = desk.dial().await;
    for _ in 0..MAX_TURNS {
        desk.ask(&mut phone, &clip).await;
    }
    assert!(desk.is_left_alone().await);
    desk.first.mend(Stage::Chat);
    let failed = desk.first.asked_for(Stage::Chat).len();
    // Its pause is 5 s, or twice as long after a trial: some turns.
    for _ in 0..10 {
        desk.ask(&mut phone, &clip).await;
        if !desk.is_left_alone().await {
            break;
        }
    }
    assert!(!desk.is_left_alone().await);
    desk.ask(&mut phone, &clip).await;
    assert!(desk.first.asked_for(Stage::Chat).len() >= failed + 2, "it is not used again");
    let call_sid = phone.call_sid().to_owned();
    let lines = desk.hang_up(phone).await;
    let turns = responses(&lines).len() as u64;
    let number = |cost: &Value, name: &str| cost[name].as_u64().unwrap_or_default();
    let (heard, thought, said) = (cost(&lines, "speech_to_text"), cost(&lines, "chat"), cost(&lines, "text_to_speech"));
    assert!(number(&heard, "requests") >= turns && number(&heard, "audio_ms") >= turns * (clip.ms() - 200), "{heard}");
    assert!(number(&thought, "failed") >= 3 && number(&thought, "stood_in") >= 3, "{thought}");
    // The stand-in counts tokens as it gives them: what the answers cost that came to their end.
    let answered = number(&thought, "requests") - number(&thought, "failed") - number(&thought, "given_up");
    assert!(number(&thought, "tokens_out") >= 3 * answered, "{thought}");
    assert_eq!(number(&thought, "without_usage"), number(&thought, "given_up"), "{thought}");
    let texts = desk.others.asked_for(Stage::Speech);
    let characters: usize = texts.iter().map(|asked| asked.text("input").chars().count()).sum();
    assert_eq!(number(&said, "characters"), characters as u64, "{said}");
    // Prometheus has the same.
    eventually("the call's costs are counted", async || {
        let samples = desk.stack.worker_metrics().await;
        let of = |series: &str| samples.of(&format!("tandem_worker_{series}")).unwrap();
        of("provider_characters_total{provider=\"openai\",stage=\"text_to_speech\"}") == characters as f64
            && of("provider_tokens_total{direction=\"out\",provider=\"openai\",stage=\"chat\"}")
                == number(&thought, "tokens_out") as f64
            && of("provider_stand_ins_total{provider=\"openai\",stage=\"chat\"}") == number(&thought, "stood_in") as f64
            && (of("provider_seconds_total{provider=\"openai\",stage=\"speech_to_text\"}") * 1000.0).round()
                == number(&heard, "audio_ms") as f64
    })
    .await;
    assert!(!desk.second.asked_for(Stage::Chat).is_empty());
    // So have the calls API and the debug bundle, which tell what is nothing as well.
    let api = ApiClient { gateway: desk.stack.gateway_address(), token: TOKEN.into() };
    let has_all = |told: &Value| {
        let of = |cost: &Value| {
            let told = told.as_array().into_iter().flatten().find(|told| told["stage"] == cost["stage"]);
            let counts = cost.as_object().unwrap();
            told.is_some_and(|told| counts.iter().all(|(name, count)| told[name] == *count) && told["failed"].is_u64())
        };
        lines.last().unwrap()["costs"].as_array().unwrap().iter().all(of)
    };
    eventually("the gateway knows the costs", async || {
        has_all(&api.get(&format!("/v1/calls/{call_sid}")).await.json["costs"])
    })
    .await;
    assert!(has_all(&api.get(&format!("/v1/calls/{call_sid}/debug")).await.json["call"]["costs"]));
    desk.close().await;
}
