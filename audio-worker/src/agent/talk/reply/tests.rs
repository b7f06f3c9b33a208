//! An answer on its way, with scripted voices.

use std::{sync::Mutex, task::Waker};

use super::*;
use crate::dsp::SampleRate;
use crate::provider::Fault;
use bytes::Bytes;

/// Says each text as a number of samples of one rate; every chunk waits for one poll.
#[derive(Debug, Default)]
struct Voices {
    asked: Mutex<Vec<String>>,
}

impl TextToSpeech for Voices {
    fn speak(&self, text: &str, _: &str) -> Streaming<Sound> {
        self.asked.lock().unwrap().push(text.to_owned());
        let rate = if text.contains("slow") { SampleRate::Hz8000 } else { SampleRate::Hz16000 };
        let value = i16::try_from(text.len()).unwrap();
        let mut left = 4;
        Box::pin(stream::poll_fn(move |_| {
            left -= 1;
            Poll::Ready((left >= 0).then(|| Ok(Sound::Pcm(rate, vec![value; rate.hz() / 10]))))
        }))
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
fn poll(reply: &mut Reply, voices: &Voices) {
    reply.poll(&mut Context::from_waker(Waker::noop()), voices, "", Instant::now());
}

fn answer(pieces: Vec<Result<Piece, ProviderError>>) -> Reply {
    Reply::new(Box::pin(stream::iter(pieces)))
}

/// All that it gives, as (rate, samples).
fn all(reply: &mut Reply) -> Vec<(SampleRate, usize)> {
    let mut given = Vec::new();
    loop {
        let mut pcm = Vec::new();
        match reply.give(&mut pcm) {
            None => return given,
            Some(Given::Pcm(rate)) => given.push((rate, pcm.len())),
            Some(Given::Mulaw(codes)) => given.push((SampleRate::Hz8000, codes.len())),
            Some(Given::Keys(keys)) => panic!("{keys}"),
        }
        assert!(given.last().is_some_and(|(_, samples)| *samples > 0));
    }
}

const TWO: &str = "This one is fast enough for all of us here. This one is slow.";

#[test]
fn keys_are_played_where_they_stand_and_once() {
    let say = |text: &str| Ok(Piece::Say(text.to_owned()));
    let keys = |keys: &str| Ok(Piece::Digits(keys.to_owned()));
    let pieces = vec![say("I type"), keys("12#"), say("that and wait. "), Ok(Piece::Pause), keys("9")];
    let (voices, mut reply) = (Voices::default(), answer(pieces));
    poll(&mut reply, &voices);
    assert_eq!(*voices.asked.lock().unwrap(), ["I type", "that and wait."]);
    let mut pcm = Vec::new();
    let mut given = Vec::new();
    while let Some(next) = reply.give(&mut pcm) {
        given.push(format!("{next:?} {}", reply.given_ms()));
        if given.len() == 2 {
            // What goes on from the beginning of a word does not type again.
            reply.rewind(0);
        }
    }
    let rate = "Pcm(Hz16000)";
    let expected = [
        &format!("{rate} 400"),
        "Keys(\"12#\") 400",
        &format!("{rate} 500"),
        &format!("{rate} 800"),
        "Keys(\"9\") 800",
    ];
    assert_eq!(given, expected);
    assert!(reply.is_given());
}

#[test]
fn clauses_become_sound_in_order_and_rates_do_not_mix() {
    let (voices, mut reply) = (Voices::default(), answer(vec![Ok(Piece::Say(TWO.to_owned()))]));
    poll(&mut reply, &voices);
    assert!(reply.is_made() && reply.can_begin());
    assert_eq!((reply.made_ms(), reply.whole().as_str()), (800, TWO));
    assert_eq!(all(&mut reply), [(SampleRate::Hz16000, 6400), (SampleRate::Hz8000, 3200)]);
    assert!(reply.is_given());
    assert_eq!(voices.asked.lock().unwrap().len(), 2);
}

#[test]
fn it_goes_on_from_a_word_and_keeps_what_it_may_need() {
    let (voices, mut reply) = (Voices::default(), answer(vec![Ok(Piece::Say(TWO.to_owned()))]));
    poll(&mut reply, &voices);
    all(&mut reply);
    reply.heard_to(500);
    let at = reply.rewind(500);
    assert!((400..=500).contains(&at), "{at}");
    let left: usize = all(&mut reply).iter().map(|(rate, samples)| samples * 1000 / rate.hz()).sum();
    assert_eq!(left as u64, 800 - at);
    assert_eq!(reply.heard(400), "This one is fast enough for all of us here.");
}

/// Says all texts as the same 3 s of mu-law, in pieces of 70 ms.
#[derive(Debug)]
struct Carrier;

impl TextToSpeech for Carrier {
    fn speak(&self, _: &str, _: &str) -> Streaming<Sound> {
        let codes = carried();
        Box::pin(stream::iter(
            (0..codes.len()).step_by(560).map(move |at| Ok(Sound::Mulaw(codes.slice(at..codes.len().min(at + 560))))),
        ))
    }
}

fn carried() -> Bytes {
    (0..24_000_u32).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
fn mulaw_is_given_byte_for_byte_and_again_from_a_word() {
    let mut reply = answer(vec![Ok(Piece::Say("One two three four.".to_owned()))]);
    reply.poll(&mut Context::from_waker(Waker::noop()), &Carrier, "", Instant::now());
    let give = |reply: &mut Reply| {
        let (mut codes, mut pcm) = (Vec::new(), Vec::new());
        while let Some(given) = reply.give(&mut pcm) {
            let Given::Mulaw(piece) = given else { panic!("{given:?}") };
            codes.extend_from_slice(&piece);
        }
        assert!(pcm.is_empty());
        codes
    };
    assert_eq!((give(&mut reply), reply.made_ms()), (carried().to_vec(), 3000));
    let at = usize::try_from(reply.rewind(1700)).unwrap();
    assert!((1000..1700).contains(&at));
    assert_eq!(give(&mut reply), carried()[at * 8..]);
}

#[test]
fn what_was_heard_long_ago_is_dropped() {
    let text = "A sentence of a good length, to be said again. ".repeat(40);
    let (voices, mut reply) = (Voices::default(), answer(vec![Ok(Piece::Say(text))]));
    let mut given_ms = 0;
    while !reply.is_given() {
        poll(&mut reply, &voices);
        let mut pcm = Vec::new();
        if reply.give(&mut pcm).is_some() {
            given_ms = reply.given_ms();
        }
        reply.heard_to(given_ms);
        assert!(reply.made_ms() <= given_ms + 20_500);
        assert!(reply.sound.iter().map(Chunk::ticks).sum::<u64>() <= 27 * TICKS);
    }
    assert_eq!(given_ms, 40 * 400);
}

#[test]
fn endings_and_protection_are_told_and_a_fault_comes_after_what_was_said() {
    let fault = ProviderError { kind: Fault::Failed, detail: "half-way".to_owned() };
    let pieces = vec![
        Ok(Piece::Protect),
        Ok(Piece::Say("Half of it".to_owned())),
        Ok(Piece::Hangup { reason: "done".to_owned() }),
        Err(fault.clone()),
    ];
    let (voices, mut reply) = (Voices::default(), answer(pieces));
    poll(&mut reply, &voices);
    assert!(reply.is_protected() && reply.take_ending().is_some() && reply.take_ending().is_none());
    assert_eq!(reply.take_fault(), Some((Stage::Chat, fault)));
    reply.say_instead("Sorry.");
    poll(&mut reply, &voices);
    assert_eq!(reply.whole(), "Half of it Sorry.");
}
