//! The table and the JSON.

use std::fmt::Write;

use cellnorm::machine::Machine;
use serde_json::{Value, json};

use crate::network::{Framework, Network, Norms};
use crate::training::Losses;

/// The time that one network took in one framework.
pub struct Row {
    pub framework: Framework,
    pub network: Network,
    /// Of theirs and ours.
    pub losses: [Losses; 2],
    /// Seconds of a step of theirs and ours, in each block.
    pub steps: Vec<[f64; 2]>,
    /// Seconds of a step's normalizations alone of theirs and ours, in each block.
    pub norms: Vec<[f64; 2]>,
}

impl Row {
    /// Milliseconds of a step of theirs or ours.
    fn step(&self, norms: Norms) -> f64 {
        1e3 * median(self.steps.iter().map(|step| step[norms as usize]))
    }

    /// Milliseconds of a step's normalizations alone.
    fn norms(&self, norms: Norms) -> f64 {
        1e3 * median(self.norms.iter().map(|of| of[norms as usize]))
    }

    /// How many times as fast a step is with our layers.
    fn gain(&self) -> f64 {
        median(self.steps.iter().map(|[theirs, ours]| theirs / ours))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "Training steps, f32, {} threads, {}.\n\n\
         | framework | network | normalization | theirs: step, ms | norms, ms | share | ours: step, ms | norms, ms | \
         share | gain |\n\
         |---|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
        rayon::current_num_threads(),
        Machine::this()
    );
    for row in rows {
        let _ = write!(
            text,
            "| {} | {} | {} |",
            row.framework.name(),
            row.network.name(),
            row.network.normalization()
        );
        for of in Norms::ALL {
            let (step, norms) = (row.step(of), row.norms(of));
            let _ = write!(text, " {step:.1} | {norms:.1} | {:.1} % |", 100.0 * norms / step);
        }
        let _ = writeln!(text, " {:.2} × |", row.gain());
    }
    text
}

pub fn json(rows: &[Row]) -> Value {
    json!({
        "machine": Machine::this().to_string(),
        "threads": rayon::current_num_threads(),
        "rows": rows.iter().map(fields).collect::<Vec<_>>(),
    })
}

fn fields(row: &Row) -> Value {
    let of = |norms: Norms| {
        let [before, after] = row.losses[norms as usize];
        json!({
            "loss_before": before,
            "loss_after": after,
            "step_ms": row.step(norms),
            "norms_ms": row.norms(norms),
            "share": row.norms(norms) / row.step(norms),
            "steps_s": row.steps.iter().map(|step| step[norms as usize]).collect::<Vec<_>>(),
            "norms_s": row.norms.iter().map(|of| of[norms as usize]).collect::<Vec<_>>(),
        })
    };
    json!({
        "framework": row.framework.name(),
        "network": row.network.name(),
        "normalization": row.network.normalization(),
        "theirs": of(Norms::Theirs),
        "ours": of(Norms::Ours),
        "gain": row.gain(),
    })
}
