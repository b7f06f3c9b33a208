//! Prometheus instruments of one service, under names with its prefix. What they are called and mean is the service's.

use prometheus::{
    Counter, Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};
pub use prometheus::{Error, TEXT_FORMAT};

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

/// Raises a counter to a total that is counted elsewhere. Two callers at a time would both raise it.
pub fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
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
}
