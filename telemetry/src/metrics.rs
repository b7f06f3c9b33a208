//! Prometheus instruments of one service, under names with its prefix. What they are called and mean is the service's.

use prometheus::{
    Counter, CounterVec, Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};
pub use prometheus::{Error, TEXT_FORMAT};

use crate::tls::Expiry;

mod spread;

pub use spread::{Spread, SpreadTotal};

/// Makes instruments, and writes what they hold.
#[derive(Debug)]
pub struct Register {
    registry: Registry,
    prefix: &'static str,
}

impl Register {
    /// Names begin with `prefix` and an underscore. One instrument is there at once: `build_info`.
    ///
    /// # Errors
    /// When the prefix is no name; so do all others, also when a name is used twice.
    pub fn new(prefix: &'static str, version: &str) -> Result<Self, Error> {
        let register = Self { registry: Registry::new(), prefix };
        let opts = register.opts("build_info", "1, for the version that runs");
        register.add(IntGaugeVec::new(opts, &["version"])?)?.with_label_values(&[version]).set(1);
        Ok(register)
    }

    /// Something that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::with_opts(self.opts(name, help))?)
    }

    /// The same by labels; there is none until it is set.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(self.opts(name, help), labels)?)
    }

    /// How often something happened.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::with_opts(self.opts(name, help))?)
    }

    /// The same by labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(self.opts(name, help), labels)?)
    }

    /// How many seconds something lasted in all.
    pub fn seconds(&self, name: &str, help: &str) -> Result<Counter, Error> {
        self.add(Counter::with_opts(self.opts(name, help))?)
    }

    /// The same by labels.
    pub fn seconds_by(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, Error> {
        self.add(CounterVec::new(self.opts(name, help), labels)?)
    }

    /// How values are spread over `buckets`, each named by the largest value in it.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(opts)?)
    }

    /// The same by one label.
    pub fn histograms(&self, name: &str, help: &str, buckets: &[f64], label: &str) -> Result<HistogramVec, Error> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, &[label])?)
    }

    /// How times are spread that every frame takes, for one value of one label: 0.1 to 50 ms, in seconds. Others of the
    /// same name and help have another value of it.
    pub fn spread(&self, name: &str, help: &str, label: (&str, &str)) -> Result<SpreadTotal, Error> {
        self.add(SpreadTotal::new(format!("{}_{name}", self.prefix), help, label)?)
    }

    /// What all of them hold, in Prometheus' text format ([`TEXT_FORMAT`]).
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    fn add<C: Collector + Clone + 'static>(&self, instrument: C) -> Result<C, Error> {
        self.registry.register(Box::new(instrument.clone()))?;
        Ok(instrument)
    }
}

/// Tells when certificates expire, by which of them. Prometheus compares that with `time()`.
pub fn tell_expiry(gauges: &IntGaugeVec, expiry: Option<Expiry>) {
    let Some(Expiry { certificate, authority }) = expiry else { return };
    for (of, seconds) in [("certificate", certificate), ("authority", authority)] {
        if let Some(seconds) = seconds {
            gauges.with_label_values(&[of]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }
}

/// Raises a counter to a total that is counted elsewhere. Two callers at a time would both raise it.
pub fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_given_once_and_a_counter_never_falls() {
        let register = Register::new("tandem_test", "1.2.3").unwrap();
        let counter = register.counter("things_total", "Things").unwrap();
        assert!(register.counter("things_total", "Things").is_err());
        for total in [3, 5, 4] {
            raise(&counter, total);
        }
        let text = register.text();
        assert!(text.contains("tandem_test_things_total 5\n"), "{text}");
        assert!(text.contains("tandem_test_build_info{version=\"1.2.3\"} 1\n"), "{text}");
    }

    #[test]
    fn what_calls_counted_by_themselves_is_one_histogram() {
        let register = Register::new("tandem_test", "1.2.3").unwrap();
        let [there, back] = ["there", "back"].map(|way| register.spread("way_seconds", "Times", ("way", way)).unwrap());
        assert!(register.spread("way_seconds", "Times", ("way", "back")).is_err());
        let mut counted = Spread::default();
        for micros in [0, 100, 101, 50_000, 50_001, 3_000_000] {
            counted.note(Duration::from_micros(micros));
        }
        there.take(&mut counted);
        assert_eq!(counted, Spread::default());
        counted.note(Duration::from_micros(700));
        there.take(&mut counted);
        back.take(&mut Spread::default());
        let text = register.text();
        for line in [
            "# TYPE tandem_test_way_seconds histogram",
            "tandem_test_way_seconds_bucket{way=\"there\",le=\"0.0001\"} 2",
            "tandem_test_way_seconds_bucket{way=\"there\",le=\"0.00025\"} 3",
            "tandem_test_way_seconds_bucket{way=\"there\",le=\"0.001\"} 4",
            "tandem_test_way_seconds_bucket{way=\"there\",le=\"0.05\"} 5",
            "tandem_test_way_seconds_bucket{way=\"there\",le=\"+Inf\"} 7",
            "tandem_test_way_seconds_count{way=\"there\"} 7",
            "tandem_test_way_seconds_sum{way=\"there\"} 3.100902",
            "tandem_test_way_seconds_count{way=\"back\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert_eq!(text.matches("# TYPE tandem_test_way_seconds").count(), 1, "{text}");
    }
}
