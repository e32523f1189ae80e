//! Likely mistakes for a shape, and the remedy for each.

use super::{Layout, Table};
use crate::error::counted;
use crate::shape::{Along, Measure, Sharing};

/// Fewer values than this make a variance too noisy to normalize with: ±32 %.
const FEW: usize = 20;

/// Something that is likely a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A name for programs, such as `"few-values"`.
    pub code: &'static str,
    /// The mistake.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

pub(super) fn warnings(
    layout: &Layout,
    sharings: &[Sharing],
    parameters: &[Table],
) -> Vec<Warning> {
    let shape = &sharings[0].shape;
    let mut warnings: Vec<Warning> = missing_channels(layout, shape).into_iter().collect();
    if let ([sharing], false) = (sharings, layout.is_weight()) {
        warnings.extend(not_the_channels(layout, sharing));
    }
    warnings.extend(sharings.iter().filter_map(|sharing| few_values(layout, sharing)));
    if let ([sharing], false) = (sharings, layout.is_weight()) {
        warnings.extend(one_per_element(layout, sharing, parameters));
        warnings.extend(batch_of_one(layout, sharing));
    }
    warnings
}

/// Three axes with two equal ones: images without their channel axis?
fn missing_channels(layout: &Layout, shape: &[usize]) -> Option<Warning> {
    let [samples, height, width] = shape else { return None };
    (layout.is_assumed() && !layout.is_weight() && height == width && *height > 1).then(|| {
        Warning {
            code: "missing-channel-axis",
            what: format!(
                "the axes are taken as {layout}: {height} channels of {width} time steps; are \
                 these images?"
            ),
            remedy: format!(
                "for {} of {height} × {width} add the channel axis (expand_dims): \
                 {samples},1,{height},{width} or {samples},{height},{width},1; for sequences name \
                 the layout, nct or ntc",
                counted(*samples, "image")
            ),
        }
    })
}

/// Whether a statistic is one of the features of a sample, as of layer and RMS normalization.
fn shares_features(sharing: &Sharing) -> bool {
    matches!(sharing.name, "layer" | "RMS" | "Gemma")
}

/// Features that leave out the channels; where nobody named the axes, the last may be theirs.
fn not_the_channels(layout: &Layout, sharing: &Sharing) -> Option<Warning> {
    let (rank, channels) = (sharing.shape.len(), layout.channels());
    let has_channels = sharing.shares(channels) || layout.is_assumed() && sharing.shares(rank - 1);
    (shares_features(sharing) && !has_channels).then(|| {
        let negative = channels as isize - rank as isize;
        let named = (0..rank).filter(|axis| sharing.shares(*axis));
        let meanings: Vec<String> = named
            .map(|axis| format!("axis {axis} of {layout} is {}", meaning(layout.letters()[axis])))
            .collect();
        Warning {
            code: "not-the-channels",
            what: format!("{}, not the channels", meanings.join(", ")),
            remedy: format!("for the channels name axis {channels}, or {negative}"),
        }
    })
}

fn meaning(letter: char) -> String {
    match letter {
        'N' => "the samples".into(),
        'H' => "the image height".into(),
        'W' => "the image width".into(),
        'D' => "the depth".into(),
        'T' => "the time".into(),
        letter => letter.to_string(),
    }
}

/// Too few values to estimate from.
fn few_values(layout: &Layout, sharing: &Sharing) -> Option<Warning> {
    let noise = sharing.noise()?;
    let (n, centered) = (sharing.values().0, sharing.measure == Measure::MeanVariance);
    let (code, what) = match (n, centered) {
        (1, true) => (
            "one-value",
            "has exactly one value: the variance is 0 and every x̂ is 0, whatever the input".into(),
        ),
        (1, false) => ("one-value", "has exactly one value: of x only its sign is left".into()),
        (2, true) => (
            "two-values",
            "has two values: every x̂ is +1 or −1, and only which is larger is left".into(),
        ),
        (n, _) if n < FEW => {
            let percent = 100.0 * noise.variance?;
            ("few-values", format!("has only {n} values: chance moves it by ±{percent:.0} %"))
        }
        _ => return None,
    };
    let statistic = if centered { "variance" } else { "mean square" };
    let what = format!("each {statistic} ({}) {what}", sharing.name);
    Some(Warning { code, what, remedy: remedy(layout, sharing) })
}

/// How to get more values for a statistic.
fn remedy(layout: &Layout, sharing: &Sharing) -> String {
    let shape = &sharing.shape;
    let (samples, channels) = (shape[layout.samples()], shape[layout.channels()]);
    let positions: usize = layout.positions().iter().map(|axis| shape[*axis]).product();
    let values = channels * positions;
    if layout.is_weight() {
        return "an output has too few weights to be standardized: leave it as it is".into();
    }
    match (sharing.name, sharing.along[layout.samples()]) {
        (_, Along::Blocks(part)) if part < samples => {
            let first = sharing.along.iter().zip(shape).map(|(along, len)| along.range(*len, 0));
            let of_sample = first.map(|range| range.len()).product::<usize>() / part;
            let least = FEW.div_ceil(of_sample);
            format!("take virtual batches of at least {least}, which divide the batch")
        }
        ("batch", Along::Apart) => "average over the samples, too".into(),
        ("batch", _) => format!(
            "take batches of at least {} samples, or a normalization of single samples: layer or \
             group",
            (samples * FEW).div_ceil(sharing.values().0)
        ),
        ("group", _) => match (1..=channels)
            .rev()
            .find(|g| channels % g == 0 && channels / g * positions >= FEW)
        {
            Some(groups) => format!("take at most {}", counted(groups, "group")),
            None => {
                format!("a sample has {} in all: use batch normalization", counted(values, "value"))
            }
        },
        ("mean-variance", _) => "average over more axes".into(),
        _ if shares_features(sharing) => match values >= FEW {
            true => "average over more axes, such as all features of a sample".into(),
            false => "a sample has too few features: use batch normalization".into(),
        },
        _ if values >= FEW => "let channels share: group or layer normalization".into(),
        _ => "a sample has too few values: use batch normalization".into(),
    }
}

/// A γ for each pixel.
fn one_per_element(layout: &Layout, sharing: &Sharing, parameters: &[Table]) -> Option<Warning> {
    let gamma = parameters.first().filter(|_| shares_features(sharing))?;
    let (count, channels) = (gamma.count(), sharing.shape[layout.channels()]);
    (gamma.shape.len() > 1 && count > channels).then(|| Warning {
        code: "parameter-per-element",
        what: format!(
            "a parameter for each element: {} = {count} values of γ, and only tensors of this \
             size fit the layer",
            gamma.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
        ),
        remedy: format!(
            "let γ have a value for each channel, {channels} in all (`per_channel`), or take the \
             channels alone, as transformers do"
        ),
    })
}

/// A batch, or a part of it, in which no sample meets another.
fn batch_of_one(layout: &Layout, sharing: &Sharing) -> Option<Warning> {
    let samples = layout.samples();
    let one = match sharing.along[samples] {
        Along::Shared => sharing.shape[samples] == 1,
        Along::Blocks(part) => part.min(sharing.shape[samples]) == 1,
        _ => false,
    };
    let positions = layout.positions().iter().all(|axis| sharing.shares(*axis));
    (sharing.name == "batch" && one && positions).then(|| Warning {
        code: "batch-of-one",
        what: "with one sample in a batch, training normalizes as instance normalization does, \
               and inference otherwise"
            .into(),
        remedy: "take larger batches, or use instance or group normalization, the same in \
                 training and inference"
            .into(),
    })
}
