//! Captured calls, played again: this tree says what it said when they were captured, and a change is noticed.
//!
//! The captures in `tests/captures` are made by `make captures`, which runs the ignored test below.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tests::{
    line::{Invitation, Line},
    scripted::Notes,
    sim::{
        CallPlan, Caller, Difference, Fill, FramePlan, Pace, Quirks, Replay, Replayed, Tape, Tolerance, Transcript,
        bundled_speech, compare,
    },
    stack::{Stack, StackPlan, eventually},
};

/// A machine that is busy with other tests delays a word by some frames.
const TOLERANCE: Tolerance = Tolerance { samples: 5 * 160 };

/// All captures together; they are part of the tree.
const MAX_BYTES: u64 = 300 << 10;

/// A captured call: its file, its agent, whether its sound is kept, and the call.
struct Scene {
    name: &'static str,
    agent: &'static str,
    audio: bool,
    shape: fn(CallPlan) -> CallPlan,
}

const SCENES: [Scene; 6] = [
    // The normal call: three seconds of speech and their echo.
    Scene { name: "echo", agent: "echo", audio: false, shape: |plan| speak(plan, 0, 3000, 3500) },
    // The same with its sound, but short.
    Scene { name: "echo_with_sound", agent: "echo", audio: true, shape: |plan| speak(plan, 1000, 900, 1200) },
    // A carrier that sends nothing while the caller is silent.
    Scene {
        name: "silence_suppressed",
        agent: "echo",
        audio: false,
        shape: |plan| CallPlan {
            frames: FramePlan { suppress_silence: true, ..FramePlan::default() },
            ..speak(plan, 0, 4000, 4500)
        },
    },
    // A caller who leaves before the first word is over.
    Scene { name: "early_hang_up", agent: "echo", audio: false, shape: |plan| speak(plan, 0, 300, 300) },
    // Keys; an agent that speaks, then hangs up once it was heard. The keys are no secret, so they are kept.
    Scene {
        name: "keys",
        agent: "scripted",
        audio: true,
        shape: |plan| press(plan, &[(200, '1'), (250, '#')], 20_000),
    },
    // The agent is interrupted in the middle of five seconds, and says something else.
    Scene {
        name: "barge_in",
        agent: "scripted",
        audio: true,
        shape: |plan| press(plan, &[(200, '5'), (1300, '*'), (1500, '1')], 3000),
    },
];

#[tokio::test]
async fn every_capture_is_answered_as_it_was() {
    let (echo, scripted) = (start("echo", None).await, start("scripted", None).await);
    let replays = SCENES.iter().map(|scene| {
        let stack = if scene.agent == "echo" { &echo } else { &scripted };
        async move { (scene.name, play(stack, tape(scene.name), Pace::Fast).await) }
    });
    for (name, replayed) in futures_util::future::join_all(replays).await {
        assert!(replayed.differences.is_empty(), "{name}: {replayed}");
        // Something was compared.
        assert!(replayed.captured.samples() > 0 || name == "early_hang_up", "{name}: {replayed}");
    }
    echo.stop().await;
    scripted.stop().await;
}

#[tokio::test]
async fn in_real_time_it_takes_as_long_and_is_the_same() {
    let stack = start("scripted", None).await;
    let began = tokio::time::Instant::from_std(now());
    let replayed = play(&stack, tape("barge_in"), Pace::RealTime).await;
    assert!(replayed.differences.is_empty(), "{replayed}");
    assert_eq!(replayed.now.clears(), 1, "{replayed}");
    assert!(began.elapsed() >= Duration::from_millis(3000), "{:?}", began.elapsed());
    stack.stop().await;
}

#[tokio::test]
async fn another_agent_and_another_key_are_noticed() {
    let (echo, scripted) = (start("echo", None).await, start("scripted", None).await);
    let text = text("barge_in");
    let other_key = text.replacen(r#""digit":"5""#, r#""digit":"7""#, 1);
    let no_interrupt = text.replacen(r#""digit":"*""#, r#""digit":"9""#, 1);
    let (agent, key, interrupt) = (
        play(&echo, tape("barge_in"), Pace::Fast),
        play(&scripted, Tape::read(&other_key).unwrap(), Pace::RealTime),
        play(&scripted, Tape::read(&no_interrupt).unwrap(), Pace::RealTime),
    );
    let (agent, key, interrupt) = tokio::join!(agent, key, interrupt);
    assert!(matches!(agent.differences[0], Difference::Mark { index: 1, .. }), "{agent}");
    assert!(matches!(key.differences[0], Difference::Sound { stretch: 1, .. }), "{key}");
    assert!(interrupt.differences.contains(&Difference::Clears { then: 1, now: 0 }), "{interrupt}");
    echo.stop().await;
    scripted.stop().await;
}

#[test]
fn a_capture_that_is_changed_anywhere_is_another() {
    let text = text("barge_in");
    let original = Transcript::of(&Tape::read(&text).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let is_said = |line: &str, event: &str| line.contains("gateway") && line.contains(&format!(r#""event":"{event}""#));
    let without = |event: &str, count: usize| {
        let mut left = count;
        let kept: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|line| {
                let is_dropped = left > 0 && is_said(line, event);
                left -= usize::from(is_dropped);
                !is_dropped
            })
            .collect();
        kept.join("\n")
    };
    let mutations = [
        without("mark", 1),
        without("clear", 1),
        without("media", 10),
        text.replacen("u1:200", "u1:220", 2),
        text.replace(r#""close":1000"#, r#""close":1011"#),
    ];
    for mutated in mutations {
        let changed = Transcript::of(&Tape::read(&mutated).unwrap());
        assert!(!compare(&original, &changed, TOLERANCE).is_empty(), "{changed}");
    }
    assert!(compare(&original, &original, Tolerance::default()).is_empty());
}

#[test]
fn the_captures_are_small() {
    let sizes = SCENES.iter().map(|scene| fs::metadata(path(scene.name)).unwrap().len());
    assert!(sizes.sum::<u64>() < MAX_BYTES);
    let files = fs::read_dir(path("echo").parent().unwrap()).unwrap().count();
    assert_eq!(files, SCENES.len(), "a capture that no test plays");
}

#[tokio::test]
async fn a_capture_tells_nothing_about_anybody() {
    const FROM: &str = "+15550147";
    const TO: &str = "+15550148";
    const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
    let directory = Scratch::new("private");
    let stack = start("scripted", Some((&directory, false))).await;
    let plan = CallPlan { from: FROM.into(), to: TO.into(), account_sid: ACCOUNT.into(), ..stack.call_plan() };
    let mut invitation = Invitation::ask(&plan).await;
    invitation.connect.stream.parameters.push(("customer".into(), "Erika Mustermann".into()));
    let ticket = invitation.ticket().to_owned();
    let mut line = Line::open(&plan, invitation).await;
    line.start().await;
    for key in ['7', '1', '8', '1'] {
        line.press(key).await;
    }
    let sound: Vec<u8> = (0..160).map(|n| 0x40 + n as u8 % 50).collect();
    line.speak(&sound).await;
    line.say("call Erika at 004915112345678").await;
    line.say(r#"{"event":"note","caller":{"number":"+4915112345678"}}"#).await;
    line.listen_until(|heard| heard.mulaw.len() > 800).await;
    let (call_sid, stream_sid) = (line.call_sid().to_owned(), line.stream_sid().to_owned());
    line.hang_up().await;
    stack.stop().await;
    let text = fs::read_to_string(directory.only_file()).unwrap();
    let payload = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &sound);
    let secrets = [
        &FROM[1..],
        &TO[1..],
        &ACCOUNT[2..],
        &call_sid[2..],
        &stream_sid[2..],
        &ticket,
        &ticket[20..60],
        &payload[..40],
        "Erika",
        "Mustermann",
        "4915112345678",
        r#""digit":"7""#,
        r#""digit":"8""#,
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "a secret of {} characters is in the capture", secret.len());
    }
    // And yet it is all there: the parameter's name, four keys, the sound's length, two odd messages.
    assert_eq!(text.matches(r#""digit":"0""#).count(), 4, "{text}");
    for expected in ["<ticket>", r#""customer":"<parameter>""#, r#"{"bytes":160}"#, "malformed", r#""event":"note""#] {
        assert!(text.contains(expected), "{expected}");
    }
    let name = directory.only_file().file_name().unwrap().to_string_lossy().into_owned();
    assert!(!name.contains(&call_sid[2..]), "{name}");
    assert!(Tape::read(&text).is_ok());
}

#[tokio::test]
#[ignore = "writes the captures of this tree: make captures"]
async fn make_the_captures() {
    fs::create_dir_all(path("x").parent().unwrap()).unwrap();
    for scene in &SCENES {
        let directory = Scratch::new(scene.name);
        let stack = start(scene.agent, Some((&directory, scene.audio))).await;
        let report = Caller::new((scene.shape)(stack.call_plan())).place().await;
        assert!(report.is_ok(), "{report}");
        eventually("the call is over", async || stack.live_calls().await == 0).await;
        stack.stop().await;
        fs::copy(directory.only_file(), path(scene.name)).unwrap();
    }
}

async fn start(agent: &str, capture: Option<(&Scratch, bool)>) -> Stack {
    let plan = StackPlan::default().agents(Notes::default().agents()).gateway("DEFAULT_AGENT", agent);
    Stack::start(match capture {
        Some((directory, audio)) => plan
            .gateway("CAPTURE", directory.0.to_str().unwrap())
            .gateway("CAPTURE_AUDIO", if audio { "1" } else { "0" }),
        None => plan,
    })
    .await
}

async fn play(stack: &Stack, tape: Tape, pace: Pace) -> Replayed {
    let replay = Replay { pace, fill: Fill::Speech, tolerance: TOLERANCE };
    replay.play(&tape, &stack.call_plan()).await.unwrap()
}

/// Speaks from a place of the bundled speech, for so long, and hangs up; all in ms.
fn speak(plan: CallPlan, from: usize, length: usize, hangup: u64) -> CallPlan {
    let speech = bundled_speech()[from * 8..(from + length) * 8].into();
    CallPlan { speech, hangup_after: Some(Duration::from_millis(hangup)), ..plan }
}

/// A silent caller, of whom no silence is sent, who presses keys (at ms).
fn press(plan: CallPlan, keys: &[(u64, char)], hangup: u64) -> CallPlan {
    CallPlan {
        digits: keys.iter().map(|(ms, key)| (Duration::from_millis(*ms), *key)).collect(),
        frames: FramePlan { suppress_silence: true, ..FramePlan::default() },
        quirks: Quirks::default(),
        ..speak(plan, 0, 0, hangup)
    }
}

fn tape(name: &str) -> Tape {
    Tape::read(&text(name)).unwrap()
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("captures/{name}.jsonl"))
}

#[expect(clippy::disallowed_methods, reason = "how long a replay takes is measured")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-replay-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn only_file(&self) -> PathBuf {
        let mut files = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let file = files.next().expect("a capture");
        assert_eq!(files.next(), None, "one call, one capture");
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
