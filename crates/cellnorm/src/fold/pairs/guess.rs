//! Pairs that names suggest: for a person to look at, never to fold by.

use super::LayerKind;
use super::layer::weight_name;
use crate::state::Checkpoint;

/// A normalization with running statistics, and the layer before it that its name suggests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The normalization's prefix.
    pub norm: String,
    /// Its channels.
    pub channels: usize,
    /// The layer's prefix and its kind; `None` where no name fits.
    pub layer: Option<(String, LayerKind)>,
}

/// Parts of names that stand for a normalization, and for the layers that stand in its place.
const WORDS: [(&str, &[&str]); 4] = [
    ("batchnorm", &["conv", "deconv", "linear"]),
    ("batch_norm", &["conv", "deconv", "linear"]),
    ("norm", &["conv", "deconv", "linear"]),
    ("bn", &["conv", "deconv", "convtrans", "fc", "linear"]),
];

/// For each normalization with PyTorch's names, the layer of `X.conv` beside `X.bn`, `convN` beside
/// `bnN`, `X` beside `X_bn`, or k beside k + 1 whose outputs are as many as its channels. What lies
/// between the two, names do not tell.
pub fn guesses(checkpoint: &Checkpoint) -> Vec<Guess> {
    let of_pytorch = |names: &[&str]| names.contains(&"pytorch-2");
    let found = checkpoint.normalizations();
    let found =
        found.iter().filter(|found| found.has_statistics() && of_pytorch(&found.frameworks));
    found
        .map(|found| {
            let variance = found.names.variance.as_deref().and_then(|name| checkpoint.shape(name));
            let channels = variance.map_or(0, |shape| shape.iter().product());
            let mut layers = candidates(&found.name).into_iter();
            let layer = layers
                .find_map(|layer| kind(checkpoint, &layer, channels).map(|kind| (layer, kind)));
            Guess { norm: found.name.clone(), channels, layer }
        })
        .collect()
}

/// The names that the layer before a normalization may have.
fn candidates(norm: &str) -> Vec<String> {
    let start = norm.rfind('.').map_or(0, |at| at + 1);
    let (parent, last) = norm.split_at(start);
    if let Ok(place) = last.parse::<usize>() {
        let before = place.checked_sub(1);
        return before.map(|before| format!("{parent}{before}")).into_iter().collect();
    }
    let lower = last.to_lowercase();
    let mut names = Vec::new();
    if let Some((word, layers)) = WORDS.iter().find(|(word, _)| lower.contains(word))
        && let Some(at) = lower.find(word)
        && let (Some(before), Some(after)) = (last.get(..at), last.get(at + word.len()..))
    {
        names.extend(layers.iter().map(|layer| format!("{parent}{before}{layer}{after}")));
        // conv1_bn, or bn inside what it follows
        let stem = format!("{parent}{}{after}", before.trim_end_matches('_'));
        names.push(stem.trim_end_matches('.').to_owned());
    }
    names
}

/// The kind of a layer with as many outputs; `None` if there is no such.
fn kind(checkpoint: &Checkpoint, layer: &str, channels: usize) -> Option<LayerKind> {
    match checkpoint.shape(&weight_name(layer))? {
        [outputs, _] => (*outputs == channels).then_some(LayerKind::Linear),
        [outputs, _, _, ..] if *outputs == channels => Some(LayerKind::Convolution),
        [_, outputs, _, ..] if *outputs == channels => Some(LayerKind::TransposedConvolution),
        _ => None,
    }
}
