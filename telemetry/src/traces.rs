//! Traces: one for each call over both services, sent to an OTLP collector in batches by a thread of its own.
//!
//! A span is a value that the task of a call holds: it is never entered, since that costs on every wake-up, and names its
//! parent itself. Without a collector no span is made at all. With one that is dead or slow, spans are dropped.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter as _},
};
use tokio::{runtime, sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Endpoint};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

mod queue;
mod settings;

pub use settings::{Batching, Plan, SETTINGS, Sampling};

/// Target of every span; the log does not listen to it, and traces listen to nothing else.
pub const TARGET: &str = "tandem::trace";

/// Name of the header, and of whatever else carries a [`TraceContext`] (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";

/// How long the last spans may take to leave when the service ends.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// What the process's [`Traces`] dropped. There is one subscriber a process, and so one of these.
static DROPPED: OnceLock<Arc<AtomicU64>> = OnceLock::new();

/// Spans of this process that no collector got: the queue was full, or the collector did not take them. 0 without traces.
pub fn dropped_spans() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.load(Ordering::Relaxed))
}

/// Why there can be no traces.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread, or no runtime on it.
    #[error("the thread of the traces cannot be started")]
    Thread(#[from] std::io::Error),
    /// The collector's address, or something else that the exporter is told.
    #[error("the exporter of the traces cannot be made")]
    Exporter(#[from] ExporterBuildError),
    /// The collector's address.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT is no address")]
    Endpoint(#[from] tonic::transport::Error),
}

/// The way of spans to the collector.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    dropped: Arc<AtomicU64>,
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Traces {
    /// Starts to send what `service` has to tell; [`crate::log::init`] gives it the spans.
    ///
    /// # Errors
    /// When the thread or the exporter cannot be made. That nobody listens is none.
    pub fn start(plan: &Plan, service: &'static str, version: &'static str) -> Result<Self, StartError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let resource = Resource::builder_empty()
            .with_attributes(plan.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone())))
            .with_attribute(KeyValue::new("service.version", version))
            .with_service_name(plan.service_name(service).to_owned())
            .build();
        let mut exporter = {
            // Its connection lives on this runtime.
            let _inside = runtime.enter();
            exporter(plan)?
        };
        exporter.set_resource(&resource);
        let (queue, outlet) = queue::queue(plan.batching);
        let dropped = outlet.dropped();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(sampler(plan.sampling))
            .with_resource(resource)
            .build();
        let stop = CancellationToken::new();
        let (done, ended) = oneshot::channel();
        let stopped = stop.clone();
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            runtime.block_on(outlet.run(&exporter, &stopped));
            let _ = done.send(());
        })?;
        Ok(Self { tracer: provider.tracer("tandem"), dropped, stop, ended })
    }

    /// Sends what is left, for two seconds at most.
    pub async fn finish(self) {
        self.stop.cancel();
        if timeout(FINISH_LIMIT, self.ended).await.is_err() {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }

    /// The process's spans go here from now on, as those of its log do; only the first is believed.
    pub(crate) fn announce(&self) {
        let _ = DROPPED.set(Arc::clone(&self.dropped));
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }
}

fn exporter(plan: &Plan) -> Result<SpanExporter, StartError> {
    let endpoint = Endpoint::from(plan.endpoint.clone()).connect_timeout(plan.timeout).timeout(plan.timeout);
    let headers = plan.headers.clone();
    Ok(SpanExporter::builder()
        .with_tonic()
        .with_channel(endpoint.connect_lazy())
        .with_timeout(plan.timeout)
        // Inserted last: the exporter reads the environment by itself, and would have it win over a flag.
        .with_interceptor(move |mut request: Request<()>| {
            for (name, value) in headers.expose() {
                request.metadata_mut().insert(name.clone(), value.clone());
            }
            Ok::<_, Status>(request)
        })
        .build()?)
}

fn sampler(Sampling { ratio, parent_based }: Sampling) -> Sampler {
    let root = match ratio {
        1.0.. => Sampler::AlwaysOn,
        0.0 => Sampler::AlwaysOff,
        _ => Sampler::TraceIdRatioBased(ratio),
    };
    if parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
}

/// Where a span is, for others to go on below it: in another task, in TwiML, at another service. Its text is a
/// `traceparent` (www.w3.org/TR/trace-context).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent")]
pub struct NoTraceparent;

impl TraceContext {
    /// Of a span of ours; `None` when traces are off. The span begins for good: its parent cannot be changed any more.
    pub fn of(span: &Span) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        let context = span.context();
        let context = context.span().span_context().clone();
        let made = || Self { trace: context.trace_id(), span: context.span_id(), flags: context.trace_flags() };
        context.is_valid().then(made)
    }

    /// Puts `span`, which must be new, below this one.
    pub fn adopt(self, span: &Span) {
        let Self { trace, span: id, flags } = self;
        let parent = SpanContext::new(trace, id, flags, true, TraceState::NONE);
        // A span that is not recorded, or began already, stays where it is.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }

    /// The trace is one of those that are kept.
    pub fn is_sampled(self) -> bool {
        self.flags.is_sampled()
    }

    /// The trace's id as 32 hex digits, where the trace is kept.
    pub fn trace_id(self) -> Option<TraceId> {
        self.is_sampled().then_some(self.trace)
    }
}

/// Records a number. Attributes have signed ones only; any other kind would become text.
pub fn count(span: &Span, field: &'static str, number: u128) {
    span.record(field, i64::try_from(number).unwrap_or(i64::MAX));
}

/// The field `trace_id` of a line of the log: absent where no trace is kept.
pub fn logged(trace: Option<TraceContext>) -> Option<field::DisplayValue<TraceId>> {
    trace.and_then(TraceContext::trace_id).map(field::display)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8() & TraceFlags::SAMPLED.to_u8())
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceparent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('-');
        let mut part = |digits| parts.next().filter(|text| is_hex(text, digits)).ok_or(NoTraceparent);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may say more behind it.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(NoTraceparent);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| NoTraceparent)?;
        let span = SpanId::from_hex(span).map_err(|_| NoTraceparent)?;
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).map_err(|_| NoTraceparent)?);
        if trace == TraceId::INVALID || span == SpanId::INVALID {
            return Err(NoTraceparent);
        }
        Ok(Self { trace, span, flags })
    }
}

#[cfg(test)]
mod tests;
