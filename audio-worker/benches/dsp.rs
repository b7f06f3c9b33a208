//! What the signal path costs per frame of 20 ms and direction: `cargo bench -p audio-worker --bench dsp`.
//!
//! Each measurement is one frame in a hot loop; under many calls the filters' state comes from a colder cache.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use audio_worker::{
    dsp::{Resampler, SampleRate, mulaw},
    pipeline::{Downlink, HEARING_RATE, Uplink},
};
use criterion::{Criterion, criterion_group, criterion_main};

/// A frame as Twilio cuts it: 20 ms at 8 kHz.
const FRAME: usize = 160;

/// One 20 ms frame that sounds: two tones, so that no table entry is favoured.
fn sound(rate: SampleRate) -> Vec<i16> {
    let sample = |index: usize| {
        let time = index as f64 / rate.hz() as f64;
        let wave = |hz: f64| (time * hz * std::f64::consts::TAU).sin();
        (12_000.0 * wave(440.0) + 6_000.0 * wave(1_850.0)) as i16
    };
    (0..rate.block()).map(sample).collect()
}

fn codes() -> Vec<u8> {
    let mut codes = Vec::with_capacity(FRAME);
    mulaw::encode(&sound(SampleRate::Hz8000), &mut codes);
    codes
}

fn mulaw_tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mulaw");
    let (codes, pcm) = (codes(), sound(SampleRate::Hz8000));
    let mut decoded = Vec::with_capacity(FRAME);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            decoded.clear();
            mulaw::decode(black_box(&codes), &mut decoded);
            black_box(&decoded);
        });
    });
    let mut encoded = Vec::with_capacity(FRAME);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            encoded.clear();
            mulaw::encode(black_box(&pcm), &mut encoded);
            black_box(&encoded);
        });
    });
    group.finish();
}

fn resample(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resample");
    for (from, to) in [
        (SampleRate::Hz8000, SampleRate::Hz16000),
        (SampleRate::Hz16000, SampleRate::Hz8000),
        (SampleRate::Hz24000, SampleRate::Hz8000),
        (SampleRate::Hz48000, SampleRate::Hz8000),
    ] {
        let (mut resampler, input) = (Resampler::new(from, to).unwrap(), sound(from));
        let mut output = Vec::with_capacity(to.block());
        group.bench_function(format!("{}_to_{}", from.hz(), to.hz()), |bencher| {
            bencher.iter(|| {
                output.clear();
                resampler.push(black_box(&input), &mut output).unwrap();
                black_box(&output);
            });
        });
    }
    group.finish();
}

fn directions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("direction");
    let (mut uplink, codes, mut at) = (Uplink::new().unwrap(), codes(), 0);
    group.bench_function("uplink", |bencher| {
        bencher.iter(|| {
            at += 20;
            black_box(uplink.push(black_box(&codes), at).unwrap());
        });
    });
    let (mut downlink, pcm) = (Downlink::default(), sound(HEARING_RATE));
    let mut reply = Vec::with_capacity(FRAME);
    group.bench_function("downlink", |bencher| {
        bencher.iter(|| {
            reply.clear();
            downlink.push(black_box(&pcm), HEARING_RATE, &mut reply).unwrap();
            black_box(&reply);
        });
    });
    group.finish();
}

criterion_group!(benches, mulaw_tables, resample, directions);
criterion_main!(benches);
