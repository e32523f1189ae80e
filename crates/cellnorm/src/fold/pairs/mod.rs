//! Folding in a checkpoint, where a list of pairs says which normalization belongs to which layer.
//!
//! A checkpoint has names and numbers. It does not say what lies between two layers (an activation
//! between them makes folding wrong), nor ε, groups or padding. So a [`Pair`] says all of it, and
//! [`guesses`] are for a person to read.
//!
//! ```
//! use cellnorm::fold::pairs::{LayerKind, Pair, Side, fold};
//! use cellnorm::state::{Checkpoint, DType, Tensor};
//!
//! let mut checkpoint = Checkpoint::default();
//! let mut put = |name: &str, value: f64, shape: &[usize]| {
//!     checkpoint
//!         .insert(name, &Tensor::new(ndarray::ArrayD::from_elem(shape, value), DType::F32))
//! };
//! put("conv.weight", 2.0, &[1, 1, 1, 1])?;
//! for (name, value) in
//!     [("weight", 3.0), ("bias", 1.0), ("running_mean", 0.5), ("running_var", 3.75)]
//! {
//!     put(&format!("bn.{name}"), value, &[1])?; // 3 (y - 0.5) / 2 + 1
//! }
//! let pair = Pair {
//!     layer: "conv".into(),
//!     norm: "bn".into(),
//!     kind: LayerKind::Convolution,
//!     groups: 1,
//!     side: Side::After,
//!     unpadded: false,
//!     epsilon: 0.25,
//! };
//! fold(&mut checkpoint, &[pair])?;
//! assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["conv.bias", "conv.weight"]);
//! assert_eq!(checkpoint.tensor("conv.weight")?.values.sum(), 3.0);
//! assert_eq!(checkpoint.tensor("conv.bias")?.values.sum(), 0.25);
//! # Ok::<(), cellnorm::Error>(())
//! ```

mod guess;
mod layer;
mod proof;

use std::collections::BTreeMap;

use super::Affine;
use crate::error::{Error, check_epsilon};
use crate::state::{Checkpoint, State, Tensors};
use crate::{normalization::Normalization, semantics::Semantics};
pub use guess::{Guess, guesses};
use layer::Layer;

/// The kind of layer that a weight belongs to; a checkpoint does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A convolution: (outputs, inputs / groups, taps…).
    Convolution,
    /// A transposed convolution: (inputs, outputs / groups, taps…).
    TransposedConvolution,
    /// A dense layer: (outputs, inputs).
    Linear,
}

/// The side of the layer that the normalization is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The normalization follows the layer directly.
    #[default]
    After,
    /// The normalization precedes the layer directly.
    Before,
}

/// A normalization to be folded into a layer, with PyTorch's names after both prefixes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The prefix of the layer's `.weight` and `.bias`.
    pub layer: String,
    /// The prefix of the normalization's `.running_mean` and its other tensors.
    pub norm: String,
    /// The kind of the layer.
    pub kind: LayerKind,
    /// The groups of the layer's channels.
    pub groups: usize,
    /// The side of the layer that the normalization is on.
    pub side: Side,
    /// Whether no zeros are padded to the layer's input; needed before a convolution.
    pub unpadded: bool,
    /// ε of the normalization.
    pub epsilon: f64,
}

/// A layer that has other numbers now.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedLayer {
    /// Its prefix.
    pub layer: String,
    /// The prefixes of the normalizations that are part of it now.
    pub norms: Vec<String>,
    /// Its outputs.
    pub outputs: usize,
    /// The largest difference between the layer with its normalizations and the new one, on random
    /// input in f64, as a share of what rounding the new numbers once explains.
    pub share: f64,
}

/// Folds all pairs, or none: weights are computed in f64 and rounded once to their type. Afterwards
/// each layer has a `.bias`, the normalizations' tensors are gone, all others unchanged.
///
/// # Errors
/// If a tensor is missing or of a wrong shape, a number is not finite or does not fit its type, a
/// layer has two normalizations on one side, a normalization is on both sides of layers, or one
/// before a convolution shifts values that may be padded.
pub fn fold(checkpoint: &mut Checkpoint, pairs: &[Pair]) -> Result<Vec<FoldedLayer>, Error> {
    let mut layers: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    let mut sides: BTreeMap<&str, Side> = BTreeMap::new();
    for pair in pairs {
        let others = layers.entry(&pair.layer).or_default();
        if others.iter().any(|other| other.side == pair.side) {
            let problem = "has two normalizations on one side: weights that several places share \
                           cannot be folded";
            return Err(Error::tensor(&pair.layer, problem));
        }
        if *sides.entry(&pair.norm).or_insert(pair.side) != pair.side {
            let problem =
                "is after one layer and before another: it can be folded to one side alone";
            return Err(Error::tensor(&pair.norm, problem));
        }
        others.push(pair);
    }
    let mut folded = checkpoint.clone();
    let mut done = Vec::new();
    for (name, pairs) in layers {
        let layer = Layer::read(checkpoint, name, pairs[0])?;
        let norms =
            pairs.iter().map(|pair| Norm::read(checkpoint, pair)).collect::<Result<Vec<_>, _>>()?;
        layer.plus(&norms)?.write(&mut folded)?;
        let written = Layer::read(&folded, name, pairs[0])?;
        let share = proof::share(&layer, &norms, &written);
        let (layer, outputs) = (name.to_owned(), layer.kernel.outputs());
        let norms = pairs.iter().map(|pair| pair.norm.clone()).collect();
        done.push(FoldedLayer { layer, norms, outputs, share });
    }
    for norm in sides.keys() {
        for name in tensors_of(norm, &pytorch()?) {
            folded.remove(&name);
        }
    }
    *checkpoint = folded;
    Ok(done)
}

/// The semantics whose names the tensors have.
fn pytorch() -> Result<Semantics, Error> {
    Semantics::preset("pytorch-2", Normalization::Batch)
}

/// The names of all that a normalization stores.
fn tensors_of(norm: &str, semantics: &Semantics) -> Vec<String> {
    semantics.names().into_iter().flatten().map(|name| format!("{norm}.{name}")).collect()
}

/// A normalization of a pair: its numbers, and where it is.
struct Norm {
    state: State,
    epsilon: f64,
    side: Side,
    map: Affine,
}

impl Norm {
    fn read(checkpoint: &Checkpoint, pair: &Pair) -> Result<Self, Error> {
        check_epsilon(pair.epsilon)?;
        let torch = pytorch()?;
        let mut tensors = Tensors::new();
        for name in tensors_of(&pair.norm, &torch) {
            if checkpoint.shape(&name).is_some() {
                let tensor = checkpoint.tensor(&name)?;
                tensors.insert(name, tensor);
            }
        }
        let at = |name: &str| format!("{}.{name}", pair.norm);
        let has = |name| tensors.contains_key(&at(name));
        let semantics =
            Semantics { scale: has(torch.names.gamma), center: has(torch.names.beta), ..torch };
        if !has(torch.names.mean) {
            // names what the checkpoint has instead
            checkpoint.tensor(&at(torch.names.mean))?;
        }
        let state = State::find(&tensors, format!("{}.", pair.norm).as_str(), &semantics)?;
        let list = |values: &Option<ndarray::ArrayD<f64>>| {
            values.as_ref().map(|of| of.iter().copied().collect::<Vec<_>>())
        };
        let (gamma, beta) = (list(&state.gamma), list(&state.beta));
        let [mean, variance] =
            [&state.mean, &state.variance].map(|of| list(of).unwrap_or_default());
        let affine = (gamma.as_deref(), beta.as_deref());
        let map = Affine::of_batch_norm(affine.0, affine.1, &mean, &variance, pair.epsilon)?;
        if pair.side == Side::Before && !map.is_linear() {
            match pair.kind {
                LayerKind::Convolution if !pair.unpadded => {
                    let problem = "shifts what the convolution takes, which differs where zeros \
                                   are padded: say that none are (\"unpadded\": true), if so";
                    return Err(Error::tensor(&pair.norm, problem));
                }
                LayerKind::TransposedConvolution => {
                    let problem = "shifts what the transposed convolution takes, whose outputs \
                                   see different numbers of taps: it cannot be folded";
                    return Err(Error::tensor(&pair.norm, problem));
                }
                _ => {}
            }
        }
        Ok(Self { state, epsilon: pair.epsilon, side: pair.side, map })
    }
}
