//! The standard variables of OpenTelemetry (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables), as
//! far as they are about traces over gRPC.

use std::{borrow::Cow, time::Duration};

use percent_encoding::percent_decode_str;
use tonic::{
    metadata::{Ascii, MetadataKey, MetadataValue},
    transport::Uri,
};

use crate::{
    Sensitive,
    settings::{Reader, Setting},
};

const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const EXPORT_LIMIT: &str = "OTEL_BSP_EXPORT_TIMEOUT";

/// Settings of both services; defaults are those of the specification, but for the endpoint: without one, traces are off.
pub const SETTINGS: [Setting; 14] = [
    Setting {
        name: ENDPOINT,
        default: None,
        help: "OTLP collector for traces over gRPC, such as http://127.0.0.1:4317; none: no traces",
    },
    Setting { name: TRACES_ENDPOINT, default: None, help: "The same, before OTEL_EXPORTER_OTLP_ENDPOINT" },
    Setting { name: PROTOCOL, default: Some("grpc"), help: "grpc; there is no other" },
    Setting { name: HEADERS, default: None, help: "Headers for the collector: name=value,name=value" },
    Setting { name: TIMEOUT, default: Some("10000"), help: "How long the collector may take, in ms" },
    Setting { name: DISABLED, default: Some("false"), help: "true: no traces" },
    Setting { name: SERVICE_NAME, default: None, help: "Name of the service in its traces" },
    Setting { name: ATTRIBUTES, default: None, help: "What else the traces say of the service: name=value,name=value" },
    Setting {
        name: SAMPLER,
        default: Some("parentbased_always_on"),
        help: "Which traces are kept: always_on, always_off, traceidratio, or these with parentbased_ before",
    },
    Setting { name: SAMPLER_ARG, default: Some("1.0"), help: "Which part of them traceidratio keeps, 0 to 1" },
    Setting { name: DELAY, default: Some("5000"), help: "How long an ended span may wait for others, in ms" },
    Setting { name: QUEUE, default: Some("2048"), help: "Ended spans that may wait; more are dropped" },
    Setting { name: BATCH, default: Some("512"), help: "Spans in one request to the collector" },
    Setting {
        name: EXPORT_LIMIT,
        default: Some("30000"),
        help: "How long one batch may take with all its tries, in ms",
    },
];

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(super) endpoint: Uri,
    pub(super) headers: Sensitive<Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>>,
    /// How long one request may take.
    pub(super) timeout: Duration,
    pub(super) attributes: Vec<(String, String)>,
    name: Option<String>,
    pub(super) sampling: Sampling,
    pub(super) batching: Batching,
}

/// Which traces are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The part of those that begin here, 0 to 1.
    pub ratio: f64,
    /// Those that began elsewhere are kept if they are kept there.
    pub parent_based: bool,
}

/// How spans are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// How long one may wait for others.
    pub delay: Duration,
    /// How many may wait.
    pub queue: usize,
    /// How many go at once.
    pub batch: usize,
    /// How long that may take.
    pub export_limit: Duration,
}

impl Plan {
    /// Reads [`SETTINGS`]; `None` when traces are off, and then the rest is not looked at.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.switch(DISABLED) {
            return None;
        }
        let name = if reader.text(TRACES_ENDPOINT).is_some() { TRACES_ENDPOINT } else { ENDPOINT };
        reader.text(name)?;
        let endpoint = endpoint(reader, name);
        if reader.text(PROTOCOL).is_some_and(|protocol| protocol != "grpc") {
            reader.mistake(PROTOCOL, "must be grpc: traces are not sent over HTTP");
        }
        let headers = headers(reader);
        let attributes = pairs(reader, ATTRIBUTES);
        let sampling = sampling(reader);
        let queue = count(reader.number(QUEUE, 1..=1_000_000));
        let batch = count(reader.number(BATCH, 1..=1_000_000));
        if batch > queue {
            reader.mistake(BATCH, "must not be more than OTEL_BSP_MAX_QUEUE_SIZE");
        }
        let mut ms = |name| Duration::from_millis(reader.number(name, 1..=3_600_000));
        let (timeout, delay, export_limit) = (ms(TIMEOUT), ms(DELAY), ms(EXPORT_LIMIT));
        Some(Self {
            endpoint: endpoint?,
            headers: Sensitive::new(headers),
            timeout,
            attributes,
            name: reader.text(SERVICE_NAME).map(ToOwned::to_owned),
            sampling,
            batching: Batching { delay, queue, batch, export_limit },
        })
    }

    /// The name of the service: what the settings say, or its own.
    pub(super) fn service_name<'a>(&'a self, own: &'a str) -> &'a str {
        let among = || self.attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.as_str());
        self.name.as_deref().or_else(among).unwrap_or(own)
    }
}

fn endpoint(reader: &mut Reader<'_>, name: &'static str) -> Option<Uri> {
    let uri = reader.parsed::<Uri>(name)?;
    let is_plain = uri.scheme_str() == Some("http");
    let is_address = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_plain && is_address {
        return Some(uri);
    }
    let what = if uri.scheme_str() == Some("https") {
        "must begin with http://: TLS is for a collector beside the service to do"
    } else {
        "must be an address such as http://127.0.0.1:4317"
    };
    reader.mistake(name, what);
    None
}

fn headers(reader: &mut Reader<'_>) -> Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)> {
    let mut headers = Vec::new();
    for (name, value) in pairs(reader, HEADERS) {
        match (MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()), MetadataValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            _ => reader.mistake(HEADERS, "must be headers that gRPC carries as text"),
        }
    }
    headers
}

/// `name=value` pairs with commas between, values percent-encoded (W3C Baggage).
fn pairs(reader: &mut Reader<'_>, name: &'static str) -> Vec<(String, String)> {
    let text = reader.text(name).unwrap_or_default();
    let read = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok().map(Cow::into_owned)?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value))
    };
    let pairs: Option<Vec<_>> = text.split(',').filter(|pair| !pair.trim().is_empty()).map(read).collect();
    pairs.unwrap_or_else(|| {
        reader.mistake(name, "must be name=value pairs with commas between");
        Vec::new()
    })
}

fn sampling(reader: &mut Reader<'_>) -> Sampling {
    let ratio = reader.parsed::<f64>(SAMPLER_ARG).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        reader.mistake(SAMPLER_ARG, "must be a number from 0 to 1");
    }
    let text = reader.text(SAMPLER).unwrap_or_default();
    let (parent_based, root) = text.strip_prefix("parentbased_").map_or((false, text), |root| (true, root));
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio,
        _ => {
            reader.mistake(
                SAMPLER,
                "must be always_on, always_off or traceidratio, or one of these with parentbased_ before",
            );
            0.0
        }
    };
    Sampling { ratio, parent_based }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
