//! A frame allocates nothing: the signal path works in buffers that live as long as the call.
//!
//! Counted per thread by an allocator of the test program's own, so nothing else in it takes part.

use allocation_counter::measure;
use audio_worker::{
    dsp::{Resampler, SampleRate, dtmf::Keys, mulaw},
    ears::{Ears, detector},
    pipeline::{Downlink, HEARING_RATE, Uplink},
};

/// Frames of 20 ms after which every buffer has its size.
const WARM_UP: u64 = 10;
/// Frames of 20 ms that are counted: ten seconds of call.
const COUNTED: u64 = 500;

/// Allocations of `frame` after the warm-up; it gets the number of the frame.
fn allocations(mut frame: impl FnMut(u64)) -> u64 {
    (0..WARM_UP).for_each(&mut frame);
    measure(|| (WARM_UP..WARM_UP + COUNTED).for_each(&mut frame)).count_total
}

/// Sound that differs from frame to frame.
fn codes(frame: u64, length: usize) -> [u8; 320] {
    let mut codes = [mulaw::SILENCE; 320];
    for (index, code) in codes[..length].iter_mut().enumerate() {
        *code = (index as u64 * 7 + frame * 31) as u8;
    }
    codes
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|frame| drop(std::hint::black_box(Box::new(frame)))), COUNTED);
}

#[test]
fn mulaw_allocates_nothing() {
    let (mut pcm, mut again) = (Vec::new(), Vec::new());
    let counted = allocations(|frame| {
        pcm.clear();
        again.clear();
        mulaw::decode(&codes(frame, 160)[..160], &mut pcm);
        mulaw::encode(&pcm, &mut again);
    });
    assert_eq!(counted, 0);
}

#[test]
fn key_tones_allocate_nothing() {
    // 38 seconds: more than is taken.
    let (mut keys, mut frame) = (Keys::parse(&"5W".repeat(32)).unwrap(), Vec::new());
    let counted = allocations(|_| {
        frame.clear();
        keys.take(160, &mut frame);
        assert_eq!(frame.len(), 160);
    });
    assert_eq!(counted, 0);
}

#[test]
fn resampler_allocates_nothing_at_any_rates() {
    for from in SampleRate::ALL {
        for to in SampleRate::ALL {
            let (mut resampler, mut output) = (Resampler::new(from, to).unwrap(), Vec::new());
            let mut input = vec![0; from.block()];
            let counted = allocations(|frame| {
                input.fill(frame as i16);
                output.clear();
                resampler.push(&input, &mut output).unwrap();
            });
            assert_eq!(counted, 0, "{} to {} Hz", from.hz(), to.hz());
        }
    }
}

#[test]
fn uplink_allocates_nothing() {
    let mut uplink = Uplink::new().unwrap();
    let counted = allocations(|frame| {
        let heard = uplink.push(&codes(frame, 160)[..160], frame * 20).unwrap();
        assert_eq!(heard.pcm.len(), 320);
    });
    assert_eq!(counted, 0);
}

#[test]
fn uplink_allocates_nothing_when_frames_are_odd_or_missing() {
    let mut uplink = Uplink::new().unwrap();
    let counted = allocations(|frame| {
        // 1 to 320 samples, and every seventh frame is lost.
        let length = 1 + usize::try_from(frame * 53 % 320).unwrap();
        if frame < WARM_UP {
            uplink.push(&codes(frame, 320), frame * 40).unwrap();
        } else if frame % 7 != 0 {
            uplink.push(&codes(frame, length)[..length], frame * 40).unwrap();
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn what_is_skipped_allocates_nothing() {
    let mut uplink = Uplink::new().unwrap();
    assert_eq!(allocations(|frame| assert_eq!(uplink.skip(160, frame * 20), 0)), 0);
}

#[test]
fn downlink_allocates_nothing_within_an_utterance_and_across_interrupts() {
    for rate in SampleRate::ALL {
        let (mut downlink, mut reply) = (Downlink::default(), Vec::new());
        let mut pcm = vec![0; rate.block()];
        let counted = allocations(|frame| {
            pcm.fill(frame as i16);
            reply.clear();
            downlink.push(&pcm, rate, &mut reply).unwrap();
            match frame % 50 {
                // The tail of an utterance, then an interrupted one.
                8 => downlink.finish(&mut reply).unwrap(),
                9 => downlink.reset(),
                _ => {}
            }
        });
        assert_eq!(counted, 0, "{} Hz", rate.hz());
    }
}

#[test]
fn there_and_back_allocates_nothing() {
    let (mut uplink, mut downlink, mut reply) = (Uplink::new().unwrap(), Downlink::default(), Vec::new());
    let counted = allocations(|frame| {
        let heard = uplink.push(&codes(frame, 160)[..160], frame * 20).unwrap();
        reply.clear();
        downlink.push(heard.pcm, HEARING_RATE, &mut reply).unwrap();
    });
    assert_eq!(counted, 0);
}

#[test]
fn ears_allocate_nothing_in_sound_and_in_gaps() {
    let mut ears = Ears::new(detector());
    let (mut pcm, mut windows) = ([0; 320], 0);
    let counted = allocations(|frame| {
        pcm.fill(frame as i16);
        ears.hear(&pcm, |_, _| windows += 1);
        if frame % 50 == 9 {
            ears.gap(frame * 3, |_, _| windows += 1);
        }
    });
    assert_eq!(counted, 0);
    assert!(windows > 300);
}
