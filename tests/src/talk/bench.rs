//! Conversations with a pair of processes and a stand-in for the providers, measured by the callers.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use super::{Clip, Phone, paused};
use crate::{
    load::processor_seconds,
    pair::Watched,
    sim::{CallPlan, Reply, Route, get},
};

/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(30);
/// Silence after which an answer is over.
const PAUSE: Duration = Duration::from_millis(500);
/// Calls begin one after the other.
const STAGGER: Duration = Duration::from_millis(130);
/// A caller interrupts so long after the answer began.
const INTERRUPTS_AFTER: Duration = Duration::from_millis(1200);

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// They say a line and listen to the answer.
    Turns,
    /// They pause within what they say, 100 to 400 ms.
    Pauses,
    /// They interrupt the answer.
    Interruptions,
}

/// What to measure.
pub struct TalkPlan<'a> {
    /// How a call is placed.
    pub call: &'a CallPlan,
    /// The servers.
    pub watched: &'a [Watched],
    /// What callers say.
    pub clips: Arc<[Clip]>,
    /// Where the worker writes transcripts.
    pub transcripts: &'a Path,
    /// What callers do.
    pub course: Course,
    /// Calls at once.
    pub calls: u32,
    /// Things said in each.
    pub turns: u32,
}

/// Times in ms, in rising order.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Times(Vec<f64>);

impl Times {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// So many percent are within this; none when there are no times.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let at = (self.0.len() * percent).div_ceil(100).checked_sub(1)?;
        self.0.get(at).copied()
    }

    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct TalkReport {
    /// What the callers did.
    pub course: Course,
    /// Calls at once.
    pub calls: u32,
    /// Things said.
    pub said: usize,
    /// From the last sample of what was said being sent to the first of the answer being received.
    pub response: Times,
    /// From the first sample of an interruption to `clear`.
    pub barge_in: Times,
    /// Sound of the old utterance after `clear`, in messages.
    pub after_clear: usize,
    /// Callers who heard the agent before they had finished.
    pub cut_off: usize,
    /// The worker's own account, by stage.
    pub stages: Vec<(String, Times)>,
    /// What the worker counted meanwhile.
    pub guesses: f64,
    /// Of these, thrown away.
    pub guesses_forgotten: f64,
    /// Tokens of answers that nobody heard.
    pub wasted_tokens: f64,
    /// Messages of sound that the callers got.
    pub frames: usize,
    /// Of these, too late to be heard without a gap.
    pub frames_late: usize,
    /// Share of one processor that each server used for each call, by server.
    pub processor_per_call: Vec<(String, f64)>,
    /// Calls that did not go as planned, and why the first did not.
    pub failed: usize,
    /// Why.
    pub first_failure: Option<String>,
}

/// What one caller saw.
#[derive(Debug, Default)]
struct Seen {
    call_sid: String,
    said: usize,
    response: Vec<f64>,
    barge_in: Vec<f64>,
    after_clear: usize,
    cut_off: usize,
    frames: usize,
    frames_late: usize,
}

/// The stages of a turn in a transcript.
const STAGES: [&str; 5] = ["speech_to_text_ms", "first_token_ms", "first_audio_ms", "endpoint_ms", "first_sent_ms"];
const COUNTED: [&str; 3] = ["guesses_total", "guesses_forgotten_total", "wasted_tokens_total"];

/// Holds the conversations.
///
/// # Errors
/// When the servers cannot be asked what they counted.
pub async fn converse(plan: &TalkPlan<'_>) -> anyhow::Result<TalkReport> {
    let worker = plan.watched.last().context("no worker")?;
    let (counted, spent, began) = (counters(worker).await?, spent(plan.watched)?, super::phone::now());
    let mut callers = JoinSet::new();
    for index in 0..plan.calls {
        let (call, clips) = (plan.call.clone(), Arc::clone(&plan.clips));
        let (course, turns, index) = (plan.course, plan.turns as usize, index as usize);
        callers.spawn(async move {
            sleep(STAGGER * u32::try_from(index).unwrap_or(u32::MAX)).await;
            caller(&call, &clips, course, index, turns).await
        });
    }
    let (mut seen, mut failures) = (Vec::new(), Vec::new());
    while let Some(ended) = callers.join_next().await {
        match ended? {
            Ok(one) => seen.push(one),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    let lasted = began.elapsed().as_secs_f64();
    // What was counted is told when a conversation ends.
    sleep(Duration::from_secs(1)).await;
    let counted: Vec<f64> = counters(worker).await?.into_iter().zip(counted).map(|(now, then)| now - then).collect();
    let spent: Vec<f64> = self::spent(plan.watched)?.into_iter().zip(spent).map(|(now, then)| now - then).collect();
    let per_call = |spent: f64| spent / lasted / f64::from(plan.calls.max(1));
    let processor_per_call =
        plan.watched.iter().zip(spent).map(|(watched, spent)| (watched.name.clone(), per_call(spent)));
    let all = |of: fn(&Seen) -> &Vec<f64>| Times::of(seen.iter().flat_map(|seen| of(seen).iter().copied()).collect());
    let sum = |of: fn(&Seen) -> usize| seen.iter().map(of).sum::<usize>();
    Ok(TalkReport {
        course: plan.course,
        calls: plan.calls,
        said: sum(|seen| seen.said),
        response: all(|seen| &seen.response),
        barge_in: all(|seen| &seen.barge_in),
        after_clear: sum(|seen| seen.after_clear),
        cut_off: sum(|seen| seen.cut_off),
        stages: stages(plan.transcripts, &seen),
        guesses: counted[0],
        guesses_forgotten: counted[1],
        wasted_tokens: counted[2],
        frames: sum(|seen| seen.frames),
        frames_late: sum(|seen| seen.frames_late),
        processor_per_call: processor_per_call.collect(),
        failed: failures.len(),
        first_failure: failures.into_iter().next(),
    })
}

/// The results as Markdown tables.
pub fn talk_markdown(reports: &[TalkReport]) -> String {
    let ms = |times: &Times, percent| times.percentile(percent).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    let mut text = String::from(
        "| callers | calls | said | response p50 | p95 ms | cut off | `clear` p50 | p95 ms | sent after it | guesses a turn \
         | tokens wasted a turn | late frames | CPU per call | failed |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|\n",
    );
    for report in reports {
        let said = report.said.max(1) as f64;
        let cpu = report.processor_per_call.iter().map(|(name, share)| format!("{name} {:.2} %", 100.0 * share));
        text.push_str(&format!(
            "| {:?} | {} | {} | {} | {} | {:.1} % | {} | {} | {} | {:.1} | {:.1} | {:.2} % | {} | {} |\n",
            report.course,
            report.calls,
            report.said,
            ms(&report.response, 50),
            ms(&report.response, 95),
            100.0 * report.cut_off as f64 / said,
            ms(&report.barge_in, 50),
            ms(&report.barge_in, 95),
            report.after_clear,
            report.guesses / said,
            report.wasted_tokens / said,
            100.0 * report.frames_late as f64 / report.frames.max(1) as f64,
            cpu.collect::<Vec<_>>().join(", "),
            report.failed,
        ));
    }
    text.push_str("\nFrom the caller's last voice, by the worker's own account, ms:\n\n| callers | calls | stage | p50 | p95 |\n|---|---:|---|---:|---:|\n");
    for report in reports {
        for (stage, times) in &report.stages {
            let (p50, p95) = (ms(times, 50), ms(times, 95));
            text.push_str(&format!("| {:?} | {} | {stage} | {p50} | {p95} |\n", report.course, report.calls));
        }
    }
    text
}

async fn caller(plan: &CallPlan, clips: &[Clip], course: Course, index: usize, turns: usize) -> anyhow::Result<Seen> {
    let mut phone = Phone::dial(plan).await?;
    let mut seen = Seen { call_sid: phone.call_sid().to_owned(), ..Seen::default() };
    let began = phone.began();
    phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await?;
    for turn in 0..turns {
        let number = index * turns + turn;
        let clip = match course {
            Course::Turns | Course::Interruptions => clips[number % clips.len()].clone(),
            Course::Pauses => paused(clips, number, 100 + (number as u64 * 37) % 301),
        };
        let spoken = phone.say_all(&clip).await?;
        let said = spoken.ended.context("not said")?;
        seen.said += 1;
        if course != Course::Interruptions && phone.log().media_after(spoken.began).is_some_and(|media| media.at < said)
        {
            seen.cut_off += 1;
            phone.until("what it says", PATIENCE, |log| log.has_answered(spoken.began, 4 * PAUSE)).await?;
            continue;
        }
        phone.until("an answer", PATIENCE, |log| log.media_after(said).is_some()).await?;
        let answered = phone.log().media_after(said).context("no answer")?.at;
        seen.response.push((answered - said).as_secs_f64() * 1000.0);
        if course == Course::Interruptions {
            phone.wait(INTERRUPTS_AFTER).await?;
            let clears = phone.log().clears.len();
            phone.say(&clips[(number + 7) % clips.len()]);
            let from = phone.log().spoken.last().context("nothing said")?.began;
            phone.until("clear", PATIENCE, |log| log.clears.len() > clears).await?;
            let cleared = phone.log().clears[clears];
            seen.barge_in.push((cleared - from).as_secs_f64() * 1000.0);
            phone.until("the end of it", PATIENCE, |log| log.last_word().is_some()).await?;
            let ended = phone.log().last_word().context("not said")?;
            seen.after_clear += phone.log().media.iter().filter(|m| m.at > cleared && m.at < ended).count();
            phone.until("an answer", PATIENCE, |log| log.has_answered(ended, PAUSE)).await?;
        }
        phone.until("the end of the answer", PATIENCE, |log| log.has_answered(said, 2 * PAUSE)).await?;
    }
    phone.hang_up().await;
    seen.frames = phone.log().media.len();
    seen.frames_late = phone.log().media.iter().filter(|media| media.is_late).count();
    Ok(seen)
}

/// What the transcripts of these calls say of each stage.
fn stages(directory: &Path, seen: &[Seen]) -> Vec<(String, Times)> {
    let texts = seen.iter().map(|seen| {
        // A call without a transcript has no turns in it.
        std::fs::read_to_string(directory.join(format!("{}.jsonl", seen.call_sid))).unwrap_or_default()
    });
    let texts: Vec<String> = texts.collect();
    let lines =
        || texts.iter().flat_map(|text| text.lines()).map_while(|line| serde_json::from_str::<Value>(line).ok());
    let of = |stage: &str| lines().filter_map(|line| line[stage].as_f64()).collect();
    STAGES.map(|stage| (stage.to_owned(), Times::of(of(stage)))).into()
}

async fn counters(worker: &Watched) -> anyhow::Result<Vec<f64>> {
    let url = format!("http://{}/metrics", worker.operations).parse()?;
    let Reply { body, .. } = get(&Route::Tcp(worker.operations), &url).await?;
    let of = |name: &str| {
        let series = format!("tandem_worker_{name} ");
        body.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0.0)
    };
    Ok(COUNTED.map(of).into())
}

fn spent(watched: &[Watched]) -> anyhow::Result<Vec<f64>> {
    watched.iter().map(|watched| Ok(processor_seconds(watched.pid)?)).collect()
}
