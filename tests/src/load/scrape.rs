//! `/metrics` of the servers, asked for as Prometheus would while they carry calls.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::call::now;
use crate::{
    pair::Watched,
    sim::{Route, get},
};

/// Both are asked this often: three times as often as Prometheus does.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long one server took to tell its metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScrapeCost {
    /// The service.
    pub name: String,
    /// How often it was asked.
    pub scrapes: usize,
    /// Half took less, in ms; connection and all.
    pub median_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Length of the last answer.
    pub bytes: usize,
}

/// Asks all of `watched` until `end`.
pub(super) async fn scrape(watched: Vec<Watched>, end: Instant) -> anyhow::Result<Vec<ScrapeCost>> {
    let mut seen: Vec<(Vec<Duration>, usize)> = vec![Default::default(); watched.len()];
    let mut next = now();
    while next < end {
        for (Watched { operations, name, .. }, (times, bytes)) in watched.iter().zip(&mut seen) {
            let began = now();
            let url = Url::parse(&format!("http://{operations}/metrics"))?;
            let reply = get(&Route::Tcp(*operations), &url).await.with_context(|| format!("/metrics of the {name}"))?;
            anyhow::ensure!(reply.status == 200, "/metrics of the {name} answers {}", reply.status);
            times.push(began.elapsed());
            *bytes = reply.body.len();
        }
        next += INTERVAL;
        sleep_until(next.min(end)).await;
    }
    Ok(watched.into_iter().zip(seen).map(|(watched, (times, bytes))| cost(watched.name, times, bytes)).collect())
}

fn cost(name: String, mut times: Vec<Duration>, bytes: usize) -> ScrapeCost {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    ScrapeCost {
        name,
        scrapes: times.len(),
        median_ms: ms(times.get(times.len() / 2)),
        max_ms: ms(times.last()),
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_one_is_not_lost_in_the_middle() {
        let cost = cost("worker".to_owned(), [3, 9, 1].map(Duration::from_millis).to_vec(), 7);
        assert_eq!((cost.scrapes, cost.median_ms, cost.max_ms), (3, 3.0, 9.0));
    }
}
