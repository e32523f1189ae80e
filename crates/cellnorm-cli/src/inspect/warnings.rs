//! What is wrong with normalizations, once for each problem: what it means, what to do, and where
//! it is.

use cellnorm::inspect::Health;

use super::Row;

/// A problem.
struct Problem {
    /// What it means, and what to do.
    words: &'static str,
    /// The channels that have it.
    channels: fn(&Health) -> &[usize],
}

const PROBLEMS: [Problem; 5] = [
    Problem {
        words: "NaN or infinity among the numbers of these channels: whatever reads them is NaN, \
                too. Go back to a checkpoint before training broke",
        channels: |health| &health.not_finite,
    },
    Problem {
        words: "The variance of these channels is negative, which no variance is: the root of it \
                is NaN. Look at how the model was converted, or gather the statistics again",
        channels: |health| &health.negative_variance,
    },
    Problem {
        words: "These channels multiply what they are given by more than 1,000 (|γ|/√(variance + \
                ε)), and rounding errors with it. Gather the statistics again on real data, or \
                use a larger ε and train on",
        channels: |health| &health.exploding,
    },
    Problem {
        words: "The variance of these channels is next to 0 (their deviation at most 1e-4 of the \
                layer's largest): what they are given never changed. Look whether the layer \
                before is dead there; it can be pruned",
        channels: |health| &health.dead_variance,
    },
    Problem {
        words: "γ of these channels is next to 0 (at most 1e-4 of the layer's largest): they make \
                β, whatever they are given. They can be pruned; if there are many, decay γ less \
                in training",
        channels: |health| &health.dead_gamma,
    },
];

/// Layers that are named for a problem; more are counted.
const MOST_LAYERS: usize = 12;

/// Channels that are named for a layer.
const MOST_CHANNELS: usize = 8;

/// Sentences on what is wrong, and what the reasons not to fold mean.
pub fn of(rows: &[Row]) -> String {
    PROBLEMS
        .iter()
        .map(|problem| sentences(problem, rows))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn sentences(problem: &Problem, rows: &[Row]) -> String {
    let with: Vec<(&Row, &[usize])> = rows
        .iter()
        .map(|row| (row, (problem.channels)(&row.health)))
        .filter(|(_, channels)| !channels.is_empty())
        .collect();
    if with.is_empty() {
        return String::new();
    }
    let mut text = format!("{}:\n", problem.words);
    for (row, channels) in with.iter().take(MOST_LAYERS) {
        let shown: Vec<String> =
            channels.iter().take(MOST_CHANNELS).map(usize::to_string).collect();
        let more = if channels.len() > MOST_CHANNELS { ", …" } else { "" };
        text += &format!(
            "  {}: {} of {} ({}{more})\n",
            row.name,
            channels.len(),
            row.health.channels,
            shown.join(", ")
        );
    }
    if let Some(more) = with.len().checked_sub(MOST_LAYERS).filter(|more| *more > 0) {
        text += &format!("  and {more} more layers; --json names them\n");
    }
    text
}
