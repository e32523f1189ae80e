//! Times two libraries and the memory in turns, so that all meet the same weather on the machine:
//! `measure/alternate.py`, which says why, in Rust.

use std::time::{Duration, Instant};

const BLOCKS: usize = 9;
const BLOCK_SECONDS: f64 = 0.02;
const FAR: f64 = 5.0;
const PAUSE: Duration = Duration::from_millis(3);

/// Medians as the fields of a JSON object. The three run so many times and return the seconds of
/// all runs together.
pub fn alternate(
    mut ours: impl FnMut(usize) -> f64,
    mut peer: impl FnMut(usize) -> f64,
    mut stream: impl FnMut(usize) -> f64,
    budget: f64,
) -> String {
    let runners: &mut [&mut dyn FnMut(usize) -> f64; 3] = &mut [&mut ours, &mut peer, &mut stream];
    let single = [0, 1, 2].map(|i| estimate(runners[i]));
    let (mut block, mut blocks) = (BLOCK_SECONDS, BLOCKS);
    let far = single[1] > FAR * single[0];
    if far {
        (block, blocks) = (0.0, 3);
    }
    let need = |block: f64, blocks: usize| {
        blocks as f64 * single.iter().map(|t| t.max(block) + t + PAUSE.as_secs_f64()).sum::<f64>()
    };
    while need(block, blocks) > budget && block > 0.002 {
        block /= 1.5;
    }
    while need(block, blocks) > budget && blocks > 3 {
        blocks -= 1;
    }
    let least =
        if !far && blocks as f64 * single.iter().sum::<f64>() * 4.0 < 1.5 * budget { 3 } else { 1 };
    let counts = single.map(|t| ((block / t).round() as usize).max(least));
    let mut times = [const { Vec::new() }; 3];
    for turn in 0..blocks {
        for at in 0..3 {
            let i = if turn % 2 == 0 { at } else { 2 - at };
            std::thread::sleep(PAUSE);
            if !(far && i == 1) {
                runners[i]((counts[i] / 10).max(1));
            }
            times[i].push(runners[i](counts[i]) / counts[i] as f64);
        }
    }
    let [own, other, memory] = &times;
    let quotient = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    format!(
        "\"ours_ms\": {}, \"peer_ms\": {}, \"ratio\": {}, \"stream_ms\": {}, \"share\": {}, \"blocks\": {blocks}",
        median(own.clone()) * 1e3,
        median(other.clone()) * 1e3,
        quotient(other, own),
        median(memory.clone()) * 1e3,
        quotient(memory, own),
    )
}

/// Seconds of that many runs.
pub fn repeated(times: usize, mut run: impl FnMut()) -> f64 {
    seconds(|| (0..times).for_each(|_| run()))
}

/// Seconds of a run.
pub fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Seconds of a warm run, roughly.
fn estimate(run: &mut dyn FnMut(usize) -> f64) -> f64 {
    run(1);
    let first = run(1);
    if first > 0.01 {
        return first;
    }
    let times = ((0.002 / first.max(1e-7)) as usize).clamp(2, 1000);
    (run(times).min(run(times)) / times as f64).max(1e-9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
