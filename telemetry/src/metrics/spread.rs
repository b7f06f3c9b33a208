//! Times that are taken with every frame: whoever owns a call counts them in a plain array, and adds that to a histogram of
//! Prometheus' every few seconds. Prometheus' own would be an atomic or three a frame, on a line that all shards fight for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::{self, MetricFamily, MetricType},
};

/// Largest times of the buckets, in µs: 0.1 to 50 ms, where a frame is 20. What is longer is in none.
const BOUNDS_US: [u64; 9] = [100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000];

/// How times are spread over the buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Each bucket's own, without those below it; longer ones at the end.
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Spread {
    /// Counts one time.
    pub fn note(&mut self, took: Duration) {
        // Nearly all are in the first.
        let bucket = BOUNDS_US.iter().position(|&bound| took <= Duration::from_micros(bound));
        self.counts[bucket.unwrap_or(BOUNDS_US.len())] += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// What the [`Spread`]s of many calls add up to; clones are the same.
#[derive(Debug, Clone)]
pub struct SpreadTotal(Arc<Total>);

#[derive(Debug)]
struct Total {
    about: Desc,
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl SpreadTotal {
    pub(super) fn new(name: String, help: &str, (label, value): (&str, &str)) -> Result<Self, Error> {
        let labels = HashMap::from([(label.to_owned(), value.to_owned())]);
        let about = Desc::new(name, help.to_owned(), Vec::new(), labels)?;
        Ok(Self(Arc::new(Total { about, counts: Default::default(), sum_ns: AtomicU64::new(0) })))
    }

    /// Adds `counted`, and leaves nothing of it.
    pub fn take(&self, counted: &mut Spread) {
        let Spread { counts, sum } = std::mem::take(counted);
        for (total, count) in self.0.counts.iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
        self.0.sum_ns.fetch_add(u64::try_from(sum.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn histogram(&self) -> proto::Histogram {
        let (mut histogram, mut below) = (proto::Histogram::default(), 0);
        let mut cumulative = self.0.counts.iter().map(|count| {
            below += count.load(Ordering::Relaxed);
            below
        });
        let buckets = BOUNDS_US.iter().zip(&mut cumulative).map(|(&bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(Duration::from_micros(bound).as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(cumulative.next().unwrap_or(0));
        histogram.set_sample_sum(Duration::from_nanos(self.0.sum_ns.load(Ordering::Relaxed)).as_secs_f64());
        histogram
    }
}

impl Collector for SpreadTotal {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.about]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metric = proto::Metric::from_label(self.0.about.const_label_pairs.clone());
        metric.set_histogram(self.histogram());
        let mut family = MetricFamily::default();
        family.set_name(self.0.about.fq_name.clone());
        family.set_help(self.0.about.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
