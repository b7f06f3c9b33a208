//! Pure: a bounded histogram of microseconds, exact to 1.6 %, for a run of any length.

/// Values up to this are kept exactly; above, each doubling has half as many buckets.
const EXACT: u64 = 128;
/// Buckets per doubling.
const PER_DOUBLING: u64 = EXACT / 2;
/// Largest value told apart, in µs (about 18 minutes).
const LARGEST: u64 = 1 << 30;

/// Counts of durations.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Counts a value in µs.
    pub fn add(&mut self, micros: u64) {
        let bucket = bucket(micros.min(LARGEST));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The value in µs that `share` (0 to 1) of all values do not exceed; none when there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_edge(bucket).min(self.max))
    }

    /// The largest value in µs.
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.max)
    }
}

fn bucket(value: u64) -> usize {
    let shift = u64::from((value / EXACT).checked_ilog2().map_or(0, |log| log + 1));
    usize::try_from(shift * PER_DOUBLING + (value >> shift)).unwrap_or(usize::MAX)
}

fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let shift = bucket / PER_DOUBLING - 1;
    let mantissa = bucket - shift * PER_DOUBLING;
    ((mantissa + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_exact_to_one_bucket(
            mut values in prop::collection::vec(0u64..10_000_000, 1..200),
            share in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            let mut half = Histogram::default();
            for (index, &value) in values.iter().enumerate() {
                if index % 2 == 0 { histogram.add(value) } else { half.add(value) }
            }
            histogram.merge(&half);
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let found = histogram.quantile(share).unwrap();
            prop_assert!(found >= exact && found as f64 <= exact as f64 * 1.016 + 1.0);
            prop_assert_eq!(histogram.max(), values.last().copied());
            prop_assert_eq!(histogram.len(), values.len() as u64);
        }
    }

    #[test]
    fn empty_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().max(), None);
    }
}
