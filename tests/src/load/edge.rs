//! The edge beside calls that run: how fast webhooks are answered at a steady rate, and how fast the list of ended calls
//! pages.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep_until};
use url::Url;

use super::{
    Histogram, Latency, Load, THREAD_NAME,
    bench::{LATENESS_LIMIT, SETTLE, SETUP_LIMIT, latency, milliseconds},
    call::now,
};
use crate::{
    calls_api::ApiClient,
    sim::{CallPlan, Identity, post_form, sign, webhook},
};

/// Ended calls that a gateway remembers.
const REMEMBERED: u64 = 10_000;
/// Calls on a page of the list.
const PAGE: usize = 100;
/// Requests at once while calls are made only to be remembered.
const AT_ONCE: usize = 8;

/// What to measure.
pub struct EdgePlan<'a> {
    /// How a call is placed.
    pub call: &'a CallPlan,
    /// A gateway that has room for the calls and for 10,000 announced ones, and no limit to calls or requests a
    /// second.
    pub gateway: SocketAddr,
    /// Bearer token of the calls API.
    pub api_token: &'a str,
    /// Concurrent calls meanwhile.
    pub calls: u32,
    /// Threads of their load.
    pub threads: u32,
    /// Webhooks a second.
    pub rate: u32,
    /// For so long.
    pub window: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeReport {
    /// Calls that ran meanwhile.
    pub calls: u32,
    /// Frames of theirs that never came back.
    pub frames_lost: u64,
    /// Webhooks a second.
    pub rate: u32,
    /// Webhooks answered with TwiML.
    pub webhooks: u64,
    /// From opening the connection to the whole answer, each webhook over a connection of its own.
    pub webhook: Option<Latency>,
    /// 99th percentile of how late the load sent webhooks, in ms.
    pub lateness_p99_ms: f64,
    /// Ended calls that were listed.
    pub listed: usize,
    /// From opening the connection to having read a page of 100 calls.
    pub page: Option<Latency>,
    /// From TwiML to the first media back, of the calls that ran meanwhile.
    pub setup: Option<Latency>,
    /// Why this is no measurement; empty when it is one.
    pub invalid: Vec<String>,
    /// What kept the load itself from its pace.
    pub disturbed: Vec<String>,
}

/// Places the calls, measures beside them, and ends them.
pub async fn measure_edge(plan: &EdgePlan<'_>) -> anyhow::Result<EdgeReport> {
    let load = Load::start(plan.call, plan.calls, plan.threads)?;
    let all_up = load.wait_up(SETUP_LIMIT).await;
    tokio::time::sleep(SETTLE).await;
    let rung = ring_apart(plan).await?;
    end(plan, &rung.sids).await?;
    let missing = REMEMBERED.saturating_sub(rung.sids.len() as u64);
    let silent: Vec<String> =
        stream::iter((0..missing).map(|_| ring(plan))).buffer_unordered(AT_ONCE).try_collect().await?;
    end(plan, &silent).await?;
    let (listed, pages) = list(plan).await?;
    let seen = load.finish().await?;
    let lateness = rung.lateness.quantile(0.99).unwrap_or(0);
    let (mut invalid, mut disturbed) = (Vec::new(), Vec::new());
    if !all_up || seen.failed > 0 || seen.dropped > 0 {
        let why = seen.first_failure.unwrap_or_default();
        invalid.push(format!("{} calls failed to set up, {} were dropped: {why}", seen.failed, seen.dropped));
    }
    if Duration::from_micros(lateness) > LATENESS_LIMIT {
        disturbed.push(format!("webhooks were sent {:.1} ms late (p99)", milliseconds(lateness)));
    }
    Ok(EdgeReport {
        calls: plan.calls,
        frames_lost: seen.lost,
        rate: plan.rate,
        webhooks: rung.latency.len(),
        webhook: latency(&rung.latency),
        lateness_p99_ms: milliseconds(lateness),
        listed,
        page: latency(&pages),
        setup: latency(&seen.setup),
        invalid,
        disturbed,
    })
}

/// Calls that rang and went no further.
#[derive(Default)]
struct Rung {
    sids: Vec<String>,
    latency: Histogram,
    lateness: Histogram,
}

/// Rings at the rate, whether answers come or not, on a thread of its own like the rest of the load.
async fn ring_apart(plan: &EdgePlan<'_>) -> anyhow::Result<Rung> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot build a runtime")?;
    let (call, rate, window) = (plan.call.clone(), plan.rate.max(1), plan.window);
    let ring = move || runtime.block_on(ring_steadily(call, rate, window));
    let builder = thread::Builder::new().name(format!("{THREAD_NAME}webhooks"));
    let thread = builder.spawn(ring).context("cannot start a thread")?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the thread that rings panicked"))?
}

async fn ring_steadily(call: CallPlan, rate: u32, window: Duration) -> anyhow::Result<Rung> {
    let (begin, interval) = (now(), Duration::from_secs(1) / rate);
    let (mut rung, mut under_way) = (Rung::default(), JoinSet::new());
    for number in 0..u32::try_from(window.as_millis())?.saturating_mul(rate) / 1000 {
        let due = begin + interval * number;
        sleep_until(due).await;
        rung.lateness.add(micros(now().saturating_duration_since(due)));
        let call = call.clone();
        under_way.spawn(async move {
            let asked = now();
            let sid = ring_once(&call).await?;
            anyhow::Ok((sid, asked.elapsed()))
        });
    }
    while let Some(answer) = under_way.join_next().await {
        let (sid, took) = answer??;
        rung.latency.add(micros(took));
        rung.sids.push(sid);
    }
    Ok(rung)
}

async fn ring(plan: &EdgePlan<'_>) -> anyhow::Result<String> {
    ring_once(plan.call).await
}

async fn ring_once(call: &CallPlan) -> anyhow::Result<String> {
    let identity = Identity::random(&call.account_sid);
    let reply = webhook(call, &identity.call_sid).await?;
    ensure!(reply.status == 200 && reply.body.contains("<Connect"), "the webhook answered {reply:?}");
    Ok(identity.call_sid)
}

/// Tells the gateway that these callers left, as the number's status callback does.
async fn end(plan: &EdgePlan<'_>, sids: &[String]) -> anyhow::Result<()> {
    let url: Url = plan.call.public_url.join("/voice/status")?;
    let tell = async |sid: &String| {
        let form = plan.call.parameters(sid, "completed");
        let signature = sign(url.as_str(), &form, &plan.call.auth_token);
        let reply = post_form(&plan.call.route, &url, &form, Some(signature)).await?;
        ensure!(reply.status == 204, "the status callback answered {reply:?}");
        Ok(())
    };
    stream::iter(sids.iter().map(tell)).buffer_unordered(AT_ONCE).try_collect().await
}

/// Reads the whole list of ended calls: how many there are, and how long each page took.
async fn list(plan: &EdgePlan<'_>) -> anyhow::Result<(usize, Histogram)> {
    let api = ApiClient { gateway: plan.gateway, token: plan.api_token.to_owned() };
    let (mut listed, mut pages, mut cursor) = (0, Histogram::default(), String::new());
    loop {
        let asked = now();
        let page = api.get(&format!("/v1/calls?state=ended&limit={PAGE}{cursor}")).await;
        pages.add(micros(asked.elapsed()));
        let calls = page.json["calls"].as_array().with_context(|| format!("no list: {}", page.json))?;
        listed += calls.len();
        match page.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok((listed, pages)),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
