//! Normalizations in a checkpoint, by nothing but the names and shapes of its tensors.

use std::collections::BTreeMap;

use super::Checkpoint;
use crate::{normalization::Normalization, semantics::Semantics};

/// The names of a normalization's tensors in a checkpoint; absent where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// γ.
    pub gamma: Option<String>,
    /// β.
    pub beta: Option<String>,
    /// The running mean.
    pub mean: Option<String>,
    /// The running variance.
    pub variance: Option<String>,
    /// The number of training steps.
    pub steps: Option<String>,
}

/// A normalization that a checkpoint seems to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The prefix of its tensors' names.
    pub name: String,
    /// Its tensors.
    pub names: Names,
    /// The semantics whose names these are, as [`Semantics::preset`] knows them.
    pub frameworks: Vec<&'static str>,
}

impl Found {
    /// Whether it has running statistics: then it is a batch normalization, or an instance
    /// normalization that tracks them.
    pub fn has_statistics(&self) -> bool {
        self.names.mean.is_some() && self.names.variance.is_some()
    }

    /// The preset of the first framework whose names these are: batch normalization where there are
    /// running statistics, layer normalization otherwise.
    pub fn semantics(&self) -> Option<Semantics> {
        let normalization =
            if self.has_statistics() { Normalization::Batch } else { Normalization::Layer };
        self.frameworks.iter().find_map(|name| Semantics::preset(name, normalization).ok())
    }
}

/// The prefixes by which frameworks separate parameters and statistics: Flax, MXNet.
const APART: [&str; 6] = ["params/", "batch_stats/", "params.", "batch_stats.", "arg:", "aux:"];

/// Words that tell a normalization with one vector of weights from a slope or a table.
const TELLING: [&str; 3] = ["norm", "ln", "rms"];

/// A framework's names of γ, β, mean, variance and steps.
type Words = [Option<&'static str>; 5];

/// The names of γ, β, mean, variance and steps in each framework except ONNX, which names inputs.
fn vocabularies() -> Vec<(&'static str, Words)> {
    let named = |preset: &'static str| {
        let vocabulary =
            move |layer| Some((preset, Semantics::preset(preset, layer).ok()?.names.all()));
        Normalization::ALL.into_iter().filter_map(vocabulary)
    };
    let presets = Semantics::presets().into_iter().filter(|name| !name.starts_with("onnx-"));
    let mut all: Vec<_> = presets.flat_map(named).collect();
    all.dedup();
    all
}

/// A name as the layer's and the tensor's own, at the last dot or stroke; MXNet's at an underscore.
fn split<'n>(name: &'n str, words: &[&str]) -> Option<(&'n str, &'n str)> {
    let name = name.strip_suffix(":0").unwrap_or(name);
    let name = APART.iter().find_map(|apart| name.strip_prefix(apart)).unwrap_or(name);
    let start = name.rfind(['.', '/']).map_or(0, |at| at + 1);
    let (layer, last) = (&name[..start], &name[start..]);
    if words.contains(&last) {
        return Some((layer.trim_end_matches(['.', '/']), last));
    }
    // `scale`, `weight`, `mean` and their like are parts of other names too often
    let mut in_part =
        words.iter().filter(|word| !["weight", "bias", "scale", "mean", "var"].contains(word));
    let word =
        in_part.find(|word| last.strip_suffix(**word).is_some_and(|of| of.ends_with('_')))?;
    let end = name.len() - word.len();
    Some((&name[..end - 1], &name[end..]))
}

impl Checkpoint {
    /// Groups of tensors whose names and shapes are those of a normalization: with running
    /// statistics, with γ and β of one shape, or with one vector whose name says it. Names do not
    /// tell everything: ε and the axis are not among them.
    ///
    /// ```
    /// use cellnorm::state::{Checkpoint, DType, Tensor};
    /// let mut checkpoint = Checkpoint::default();
    /// for name in ["weight", "bias", "running_mean", "running_var"] {
    ///     checkpoint.insert(
    ///         &format!("layer1.bn.{name}"),
    ///         &Tensor::new(ndarray::array![1.0].into_dyn(), DType::F32),
    ///     )?;
    /// }
    /// let found = checkpoint.normalizations();
    /// assert_eq!((found[0].name.as_str(), found[0].has_statistics()), ("layer1.bn", true));
    /// assert_eq!(found[0].frameworks, ["pytorch-2", "candle-0.11"]);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn normalizations(&self) -> Vec<Found> {
        let vocabularies = vocabularies();
        let mut words: Vec<&str> =
            vocabularies.iter().flat_map(|(_, words)| words).flatten().copied().collect();
        // the longest first: `moving_variance` rather than an end of it
        words.sort_unstable_by_key(|word| (std::cmp::Reverse(word.len()), *word));
        words.dedup();
        let mut layers: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for name in self.names() {
            if let Some((layer, word)) = split(name, &words) {
                layers.entry(layer).or_default().insert(word, name);
            }
        }
        let found = |(layer, tensors)| self.found(layer, &tensors, &vocabularies);
        layers.into_iter().filter_map(found).collect()
    }

    /// The normalization that a group of tensors is, if it is one.
    fn found(
        &self,
        layer: &str,
        tensors: &BTreeMap<&str, &str>,
        vocabularies: &[(&'static str, Words)],
    ) -> Option<Found> {
        let explained = |words: &Words| {
            words.iter().flatten().filter(|word| tensors.contains_key(**word)).count()
        };
        let most = vocabularies.iter().map(|(_, words)| explained(words)).max()?;
        let mut fitting = vocabularies.iter().filter(|(_, words)| explained(words) == most);
        let named = |word: Option<&str>| {
            word.and_then(|word| tensors.get(word)).map(|name| (*name).to_owned())
        };
        let [gamma, beta, mean, variance, steps] = fitting.clone().next()?.1.map(named);
        let shape =
            |name: &Option<String>| self.shape(name.as_deref()?).filter(|shape| !shape.is_empty());
        let has_statistics = shape(&mean).is_some() && shape(&mean) == shape(&variance);
        let has_both = shape(&gamma).is_some() && shape(&gamma) == shape(&beta);
        let last = layer.rsplit(['.', '/']).next().unwrap_or(layer).to_lowercase();
        let says_so = TELLING.iter().any(|word| last.contains(word));
        let is_vector = shape(&gamma).is_some_and(|shape| shape.len() == 1) && beta.is_none();
        let is_one = has_statistics || has_both || is_vector && says_so;
        is_one.then(|| {
            let mut frameworks: Vec<_> =
                fitting.by_ref().map(|(framework, _)| *framework).collect();
            frameworks.dedup();
            Found {
                name: layer.to_owned(),
                names: Names { gamma, beta, mean, variance, steps },
                frameworks,
            }
        })
    }
}
