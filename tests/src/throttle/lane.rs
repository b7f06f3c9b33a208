//! Pure: one direction of a bad line: bandwidth, delay, jitter, stalls, and a bounded buffer.
//!
//! Bytes stay in order, as on a TCP connection; a lane that is full takes no more, so that back-pressure is real.

use std::{collections::VecDeque, time::Duration};

/// Largest piece that is taken at once: a packet.
pub(super) const PIECE_BYTES: usize = 1460;

/// How one direction of a line behaves. Times count from the beginning of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Bits per second; as many as there are when none.
    pub bits_per_second: Option<u64>,
    /// What every byte needs.
    pub delay: Duration,
    /// What some bytes need beyond it.
    pub jitter: Duration,
    /// Bytes under way at a time; those on the line count too, so it must hold bandwidth times delay.
    pub buffer_bytes: usize,
    /// When nothing is taken and nothing arrives.
    pub stalls: Vec<Stall>,
}

/// A time in which a line does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it begins.
    pub from: Duration,
    /// How long it lasts; for good when none.
    pub length: Option<Duration>,
}

impl Default for LanePlan {
    /// A line that only passes on.
    fn default() -> Self {
        Self {
            bits_per_second: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            buffer_bytes: 16 << 10,
            stalls: Vec::new(),
        }
    }
}

/// One direction of a line.
#[derive(Debug)]
pub(super) struct Lane {
    plan: LanePlan,
    under_way: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
    /// When the last byte that was taken will have left.
    free: Duration,
    /// When it will arrive, at least.
    arrival: Duration,
    chance: u64,
}

impl Lane {
    pub(super) fn new(plan: LanePlan, seed: u64) -> Self {
        let (free, arrival) = (Duration::ZERO, Duration::ZERO);
        Self { plan, under_way: VecDeque::new(), bytes: 0, free, arrival, chance: seed | 1 }
    }

    /// How many bytes it takes at `now`.
    pub(super) fn room(&self, now: Duration) -> usize {
        if self.stall_at(now).is_some() {
            0
        } else {
            self.plan.buffer_bytes.saturating_sub(self.bytes).min(PIECE_BYTES)
        }
    }

    /// Takes bytes, at most [`Lane::room`], at `now`.
    pub(super) fn push(&mut self, bytes: Vec<u8>, now: Duration) {
        let bits = bytes.len() as u64 * 8;
        let takes = self
            .plan
            .bits_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate.max(1)));
        self.free = self.free.max(now) + takes;
        let late = self.jitter();
        self.arrival = self.arrival.max(self.free + self.plan.delay + late);
        self.bytes += bytes.len();
        self.under_way.push_back((self.arrival, bytes));
    }

    /// What arrives by `now`.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.stall_at(now).is_some() {
            return None;
        }
        let (_, bytes) = self.under_way.pop_front_if(|(due, _)| *due <= now)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    /// When to ask again, if nothing else happens; `None` when nothing will.
    pub(super) fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        if let Some(stall) = self.stall_at(now) {
            return stall.length.map(|length| stall.from + length);
        }
        let next_stall = self.plan.stalls.iter().map(|stall| stall.from).filter(|from| *from > now);
        next_stall.chain(self.under_way.front().map(|(due, _)| *due)).min()
    }

    /// True when nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn stall_at(&self, now: Duration) -> Option<&Stall> {
        let is_on = |stall: &&Stall| stall.from <= now && stall.length.is_none_or(|length| now < stall.from + length);
        self.plan.stalls.iter().find(is_on)
    }

    /// Chance, alike in every run (xorshift).
    fn jitter(&mut self) -> Duration {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.plan.jitter * u32::try_from(self.chance % 1000).unwrap_or_default() / 1000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lane(plan: LanePlan) -> Lane {
        Lane::new(plan, 7)
    }

    #[test]
    fn bandwidth_and_delay_add_up_and_a_full_lane_takes_no_more() {
        let plan =
            LanePlan { bits_per_second: Some(64_000), delay: 30 * MS, buffer_bytes: 1000, ..LanePlan::default() };
        let mut lane = lane(plan);
        lane.push(vec![1; 800], Duration::ZERO);
        assert_eq!(lane.room(Duration::ZERO), 200);
        lane.push(vec![2; 200], 10 * MS);
        assert_eq!((lane.room(10 * MS), lane.poll(129 * MS)), (0, None));
        assert_eq!(lane.poll_timeout(10 * MS), Some(130 * MS));
        assert_eq!(lane.poll(130 * MS), Some(vec![1; 800]));
        assert_eq!((lane.room(130 * MS), lane.poll_timeout(130 * MS)), (800, Some(155 * MS)));
        assert_eq!(lane.poll(155 * MS), Some(vec![2; 200]));
        assert_eq!((lane.is_empty(), lane.poll_timeout(200 * MS)), (true, None));
    }

    #[test]
    fn nothing_moves_in_a_stall() {
        let stall = Stall { from: 100 * MS, length: Some(50 * MS) };
        let mut short = lane(LanePlan { stalls: vec![stall], ..LanePlan::default() });
        short.push(vec![1], 99 * MS);
        assert_eq!((short.poll(100 * MS), short.room(100 * MS)), (None, 0));
        assert_eq!(short.poll_timeout(100 * MS), Some(150 * MS));
        assert_eq!((short.poll(150 * MS), short.room(150 * MS)), (Some(vec![1]), PIECE_BYTES));
        let mut long = lane(LanePlan { stalls: vec![Stall { length: None, ..stall }], ..LanePlan::default() });
        assert_eq!(long.poll_timeout(MS), Some(100 * MS), "the driver must not read on");
        long.push(vec![1], 99 * MS);
        assert_eq!((long.poll(3600 * 1000 * MS), long.poll_timeout(101 * MS)), (None, None));
    }

    proptest! {
        #[test]
        fn bytes_stay_whole_and_in_order_and_within_the_plan(
            rate in prop::option::of(8_000u64..1_000_000), jitter in 0u64..100, steps in prop::collection::vec(0u64..40, 1..200),
        ) {
            let plan = LanePlan {
                bits_per_second: rate, delay: 20 * MS, jitter: MS * u32::try_from(jitter).unwrap(),
                buffer_bytes: 4000, stalls: vec![Stall { from: 500 * MS, length: Some(300 * MS) }],
            };
            let (mut lane, mut now, mut pushed, mut arrived) = (lane(plan), Duration::ZERO, 0u32, Vec::new());
            for step in steps {
                now += MS * u32::try_from(step).unwrap();
                while let Some(bytes) = lane.poll(now) {
                    arrived.extend(bytes);
                }
                let room = lane.room(now).min(97);
                let piece: Vec<u8> = (0..room).map(|n| (pushed as usize + n) as u8).collect();
                pushed += room as u32;
                if room > 0 {
                    lane.push(piece, now);
                }
                prop_assert!(lane.bytes <= 4000);
                if let Some(rate) = rate {
                    prop_assert!(arrived.len() as u128 * 8 * 1000 <= now.as_millis() * u128::from(rate) + 8000);
                }
            }
            while let Some(at) = lane.poll_timeout(now) {
                now = at.max(now);
                arrived.extend(lane.poll(now).unwrap_or_default());
            }
            prop_assert!(arrived.iter().enumerate().all(|(at, byte)| *byte == at as u8));
            prop_assert_eq!(arrived.len(), pushed as usize);
        }
    }
}
