//! The workers that are known: DNS, re-resolved; who is loaded, who is left out for a while.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};

use crate::config::WorkerAddress;

/// How often the name is resolved: with a resolver that takes its time, and a worker that is asked before it listens, a new
/// worker still gets calls within five seconds.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);
/// The same while no worker is known.
const RESOLVE_EVERY_WHEN_EMPTY: Duration = Duration::from_millis(500);
/// How long a resolver may take.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// More addresses of one name are not used.
const MAX_WORKERS: usize = 1024;

/// The workers known to one gateway, over all its shards.
#[derive(Debug, Clone)]
pub(crate) struct Fleet(Arc<watch::Sender<Vec<Arc<Worker>>>>);

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    /// Our calls there.
    ours: AtomicU32,
    /// Calls of others there, as of its last report.
    others: AtomicU32,
    /// It is left out until then: milliseconds since `epoch`.
    avoid_until_ms: AtomicU64,
    epoch: Instant,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    /// Keeps the list true, for ever; with `known` in place of DNS.
    pub(crate) async fn follow(
        &self,
        WorkerAddress { host, port, .. }: &WorkerAddress,
        known: Option<&watch::Receiver<Vec<SocketAddr>>>,
    ) {
        let mut failing = false;
        loop {
            let looked_up = async {
                match known {
                    Some(known) => Ok(known.borrow().clone()),
                    None => lookup_host((host.as_str(), *port)).await.map(|found| found.take(MAX_WORKERS).collect()),
                }
            };
            match timeout(RESOLVE_LIMIT, looked_up).await {
                Ok(Ok(addresses)) => {
                    failing = false;
                    self.update(addresses);
                }
                // Those that are known stay: a name server that is down must not end the service.
                Ok(Err(_)) | Err(_) if !failing => {
                    failing = true;
                    tracing::warn!(host, "the workers' name cannot be resolved; see WORKER_URL");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(if self.len() == 0 { RESOLVE_EVERY_WHEN_EMPTY } else { RESOLVE_EVERY }).await;
        }
    }

    /// The workers now.
    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        self.0.borrow().clone()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    fn update(&self, mut addresses: Vec<SocketAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        self.0.send_if_modified(|workers| {
            if workers.iter().map(|worker| worker.address).eq(addresses.iter().copied()) {
                return false;
            }
            tracing::info!(count = addresses.len(), "workers changed");
            let known = std::mem::take(workers);
            *workers = addresses
                .into_iter()
                .map(|address| {
                    let old = known.iter().find(|worker| worker.address == address);
                    old.map_or_else(|| Arc::new(Worker::new(address)), Arc::clone)
                })
                .collect();
            true
        });
    }
}

impl Worker {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            ours: AtomicU32::new(0),
            others: AtomicU32::new(0),
            avoid_until_ms: AtomicU64::new(0),
            epoch: now(),
        }
    }

    /// Leaves it out for a while.
    pub(crate) fn avoid_for(&self, time: Duration) {
        let until = u64::try_from((self.epoch.elapsed() + time).as_millis()).unwrap_or(u64::MAX);
        self.avoid_until_ms.fetch_max(until, Ordering::Relaxed);
    }

    /// It took a call and says how many live there, this one included.
    pub(crate) fn report(&self, live: u32) {
        self.others.store(live.saturating_sub(self.ours.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Counts a call of ours, until the answer is dropped.
    pub(crate) fn occupy(self: &Arc<Self>) -> Occupied {
        self.ours.fetch_add(1, Ordering::Relaxed);
        Occupied(Arc::clone(self))
    }

    fn is_avoided(&self) -> bool {
        u128::from(self.avoid_until_ms.load(Ordering::Relaxed)) > self.epoch.elapsed().as_millis()
    }

    fn load(&self) -> u32 {
        self.ours.load(Ordering::Relaxed).saturating_add(self.others.load(Ordering::Relaxed))
    }
}

/// A call of ours at a worker.
#[derive(Debug)]
pub(crate) struct Occupied(pub(crate) Arc<Worker>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.ours.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the less loaded of two drawn at random out of `candidates`; those that are left out come last.
pub(crate) fn choose(candidates: &mut Vec<Arc<Worker>>, mut random: impl FnMut(usize) -> usize) -> Option<Arc<Worker>> {
    let mut good: Vec<usize> = (0..candidates.len()).filter(|at| !candidates[*at].is_avoided()).collect();
    if good.is_empty() {
        good = (0..candidates.len()).collect();
    }
    if good.is_empty() {
        return None;
    }
    let first = good.swap_remove(random(good.len()) % good.len());
    let second = if good.is_empty() { first } else { good[random(good.len()) % good.len()] };
    let chosen = if candidates[second].load() < candidates[first].load() { second } else { first };
    Some(candidates.swap_remove(chosen))
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(count: u16) -> Fleet {
        let fleet = Fleet::new();
        fleet.update((1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect());
        fleet
    }

    fn draws() -> impl FnMut(usize) -> usize {
        let mut state = 12_345_usize;
        move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        }
    }

    #[test]
    fn calls_spread_evenly() {
        let (fleet, mut random) = (fleet(3), draws());
        let calls: Vec<_> = (0..300).map(|_| choose(&mut fleet.workers(), &mut random).unwrap().occupy()).collect();
        for worker in fleet.workers() {
            assert!((90..=110).contains(&worker.load()), "{}", worker.load());
        }
        drop(calls);
        assert!(fleet.workers().iter().all(|worker| worker.load() == 0));
    }

    #[test]
    fn one_that_came_and_one_that_went_leave_no_trace_after_as_many_calls() {
        for seed in 0..50 {
            let (fleet, mut random) = (fleet(3), draws());
            (0..seed).for_each(|_| {
                random(1);
            });
            let mut call = || choose(&mut fleet.workers(), &mut random).unwrap().occupy();
            let mut calls: Vec<_> = (0..100).map(|_| call()).collect();
            // Number 1 goes, number 4 comes. Of the calls that were there, every second one ends meanwhile.
            fleet.update((2..=4).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect());
            for n in 0..100 {
                calls.push(call());
                if n % 2 == 0 {
                    calls.remove(n / 2);
                }
            }
            let loads: Vec<_> = fleet.workers().iter().map(|worker| worker.load()).collect();
            let (least, most) = (*loads.iter().min().unwrap(), *loads.iter().max().unwrap());
            assert!((most - least) * 3 * 5 <= loads.iter().sum(), "seed {seed}: {loads:?}");
        }
    }

    #[test]
    fn one_that_is_left_out_comes_last() {
        let (fleet, mut random) = (fleet(2), draws());
        fleet.workers()[0].avoid_for(Duration::from_secs(60));
        for _ in 0..20 {
            let mut candidates = fleet.workers();
            assert_eq!(choose(&mut candidates, &mut random).unwrap().address.port(), 2);
            assert_eq!(choose(&mut candidates, &mut random).unwrap().address.port(), 1);
            assert!(choose(&mut candidates, &mut random).is_none());
        }
    }

    #[test]
    fn a_worker_that_stays_keeps_its_load() {
        let fleet = fleet(2);
        let _call = fleet.workers()[1].occupy();
        fleet.workers()[1].report(5);
        fleet.update(vec![([127, 0, 0, 1], 2).into(), ([127, 0, 0, 1], 3).into()]);
        assert_eq!(fleet.workers().iter().map(|worker| worker.load()).collect::<Vec<_>>(), [5, 0]);
    }
}
