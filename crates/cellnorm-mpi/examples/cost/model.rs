//! The cost of an exchange, on paper.
//!
//! A message takes latency + bytes / bandwidth. Short tables are gathered by doubling, in ⌈log₂ R⌉
//! rounds; either way each rank receives those of the R − 1 others, with m bytes from each. It then
//! copies and merges all R: t(m) = ⌈log₂ R⌉ · latency + (R − 1) · m / bandwidth + R · m / handled.
//!
//! The first message of an exchange has 2 KB; a table that does not fit it follows in a second one.
//! A channel has 3 numbers, forward and backward.

/// The bytes of the first message, and of its header.
const FIRST: f64 = 2048.0;
const HEADER: f64 = 24.0;

/// A link and the machines at its ends: microseconds, and bytes in one.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub latency: f64,
    pub bandwidth: f64,
    pub handled: f64,
}

impl Machine {
    /// One exchange of a layer, in microseconds.
    pub fn exchange(self, ranks: usize, channels: usize) -> f64 {
        let rest = (table(channels) - (FIRST - HEADER)).max(0.0);
        let second = if rest > 0.0 { self.gather(ranks, rest) } else { 0.0 };
        self.gather(ranks, FIRST) + second + ranks as f64 * table(channels) / self.handled
    }

    fn gather(self, ranks: usize, bytes: f64) -> f64 {
        let rounds = f64::from(ranks.next_power_of_two().ilog2());
        rounds * self.latency + (ranks - 1) as f64 * bytes / self.bandwidth
    }
}

/// The bytes of a layer's table.
pub fn table(channels: usize) -> f64 {
    24.0 * channels as f64
}
