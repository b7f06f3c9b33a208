//! What a `traceparent` is, and what the settings say.

use super::*;
use crate::settings::{Mistakes, Reader, Setting, Values};

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_traceparent_is_read_as_the_standard_says() {
    let context: TraceContext = GOOD.parse().unwrap();
    assert!(context.is_sampled());
    assert_eq!(context.to_string(), GOOD);
    assert_eq!(context.trace_id().unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
    let dropped: TraceContext = format!("{}00", &GOOD[..53]).parse().unwrap();
    assert!(!dropped.is_sampled() && dropped.trace_id().is_none() && dropped.to_string().ends_with("-00"));
    // A later version may say more, and what it says in its flags is not ours to hand on.
    let later: TraceContext = format!("cc{}ff-what-else", &GOOD[2..53]).parse().unwrap();
    assert_eq!(later.to_string(), GOOD);
}

#[test]
fn what_is_no_traceparent_is_refused() {
    let wrong = [
        "",
        "garbage",
        "\u{fffd}\u{1f600}-\u{fffd}",
        &GOOD[..54],
        &format!("{GOOD}-more"),
        &format!("ff{}", &GOOD[2..]),
        &GOOD.to_uppercase(),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
        &"0".repeat(100_000),
    ];
    for text in wrong {
        assert_eq!(text.parse::<TraceContext>(), Err(NoTraceparent), "{text:.80}");
    }
}

fn read(pairs: &[(&'static str, &str)]) -> Result<Option<Plan>, Mistakes> {
    let table: Vec<Setting> = SETTINGS.to_vec();
    let values =
        Values::from_lookup(&table, |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()));
    let mut reader = Reader::new(&values);
    let plan = Plan::read(&mut reader);
    reader.finish(Some(plan))
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

#[test]
fn traces_are_off_without_an_endpoint_and_when_they_are_disabled() {
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("OTEL_TRACES_SAMPLER", "sometimes")]), Ok(None));
    assert_eq!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
}

#[test]
fn defaults_are_those_of_the_specification() {
    let plan = read(&[ENDPOINT]).unwrap().unwrap();
    assert_eq!(plan.endpoint, "http://collector:4317/");
    assert_eq!(plan.sampling, Sampling { ratio: 1.0, parent_based: true });
    let ms = Duration::from_millis;
    assert_eq!(plan.batching, Batching { delay: ms(5000), queue: 2048, batch: 512, export_limit: ms(30_000) });
    assert_eq!((plan.timeout, plan.service_name("own")), (ms(10_000), "own"));
}

#[test]
fn everything_can_be_said_and_no_header_is_printed() {
    let plan = read(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x-tenant = a=b ,"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=among,deployment.environment.name=t%C3%A9st"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ])
    .unwrap()
    .unwrap();
    assert_eq!(plan.endpoint, "http://127.0.0.1:1/");
    let headers: Vec<_> =
        plan.headers.expose().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("authorization", "Bearer s3cret"), ("x-tenant", "a=b")]);
    assert!(!format!("{plan:?}").contains("s3cret"));
    assert_eq!(plan.attributes[1], ("deployment.environment.name".to_owned(), "tést".to_owned()));
    assert_eq!(plan.sampling, Sampling { ratio: 0.25, parent_based: false });
    assert_eq!(plan.service_name("own"), "among");
    assert_eq!(read(&[ENDPOINT, ("OTEL_SERVICE_NAME", "n")]).unwrap().unwrap().service_name("own"), "n");
}

#[test]
fn mistakes_come_together() {
    let mistakes = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://s3cret@collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "5"),
    ])
    .unwrap_err();
    let names: Vec<_> = mistakes.0.iter().map(|mistake| mistake.name.strip_prefix("OTEL_").unwrap()).collect();
    let expected = [
        "EXPORTER_OTLP_ENDPOINT",
        "EXPORTER_OTLP_PROTOCOL",
        "EXPORTER_OTLP_HEADERS",
        "RESOURCE_ATTRIBUTES",
        "TRACES_SAMPLER_ARG",
        "TRACES_SAMPLER",
        "BSP_MAX_EXPORT_BATCH_SIZE",
        "EXPORTER_OTLP_TIMEOUT",
    ];
    assert_eq!(names, expected);
    assert!(!mistakes.to_string().contains("s3cret"));
    for endpoint in ["collector:4317", "unix:///run/x", "4317", "http://a@b:1"] {
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).is_err(), "{endpoint}");
    }
}

#[test]
fn the_sampler_is_the_one_that_was_asked_for() {
    let shown = |ratio, parent_based| format!("{:?}", sampler(Sampling { ratio, parent_based }));
    assert_eq!(shown(1.0, false), "AlwaysOn");
    assert_eq!(shown(0.0, true), "ParentBased(AlwaysOff)");
    assert_eq!(shown(0.5, false), "TraceIdRatioBased(0.5)");
}
