//! Which values share a statistic for a shape, and what that costs: the figure of the Group
//! Normalization paper as data.
//!
//! Nothing is computed of a tensor's values. An [`Explanation`] says for a normalization and a
//! shape which values share ([`Sharing`]), how well a statistic of so few values is known
//! ([`Noise`]), which parameters and running statistics there are ([`Table`]), how many bytes are
//! moved ([`Traffic`]), and likely mistakes ([`Warning`]).
//!
//! Layer and RMS normalization have two readings, which are two settings of one layer:
//!
//! | reading | values that share | statistics of N×T×C | γ |
//! |---|---|---|---|
//! | in transformers, `LayerNormConfig::new(&[C])` | the features at one position | N·T of C values | \[C\] |
//! | on images, `LayerNormConfig::per_channel(C)` | all features of a sample | N of T·C values | \[C\] |
//!
//! ```
//! use cellnorm::explain::{Layout, rule};
//! use cellnorm::norms::{Features, Layer};
//! let shape = [2, 10, 512];
//! let count = |features| {
//!     let sharing = &rule(&Layer(features), &shape, Layout::channels_last(3)?)?.sharings[0];
//!     Ok::<_, cellnorm::Error>((sharing.sets(), sharing.values().0))
//! };
//! assert_eq!(count(Features::Last(vec![512]))?, (20, 512));
//! assert_eq!(count(Features::PerChannel { channels: 512, axis: -1 })?, (2, 5120));
//! # Ok::<(), cellnorm::Error>(())
//! ```
//!
//! It asks the normalization itself, by the numbers that it computes with: any [`Rule`] ([`rule`]),
//! yours too, and the two that divide by a size ([`lines`]).
//!
//! Source of the figure: Y. Wu, K. He, *Group Normalization*, 2018, figure 2.

mod layout;
mod traffic;
mod warning;

pub use crate::shape::{Along, Measure, Noise, Sharing};
pub use layout::Layout;
pub use traffic::{CACHE, Traffic};
pub use warning::Warning;

use crate::error::{Error, check_not_empty};
use crate::{norms::Lines, rule::Rule};

/// The explanation of a normalization for a tensor of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The normalization's name.
    pub name: &'static str,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The meaning of its axes.
    pub layout: Layout,
    /// The formula, in words and letters.
    pub formula: &'static str,
    /// The statistics; one for most normalizations, two or three for mixtures.
    pub sharings: Vec<Sharing>,
    /// The learned parameters.
    pub parameters: Vec<Table>,
    /// The values kept from training for inference; empty where both are the same.
    pub state: Vec<Table>,
    /// The bytes moved in f32.
    pub traffic: Traffic,
    /// Likely mistakes.
    pub warnings: Vec<Warning>,
}

/// Learned parameters or kept statistics: a name and a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name, such as `"gamma"` or `"running_mean"`.
    pub name: &'static str,
    /// The shape; empty for a single number.
    pub shape: Vec<usize>,
}

impl Table {
    /// The number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Explains a normalization for a tensor of this shape; for a weight, v counts as a parameter.
///
/// # Errors
/// If the normalization refuses the shape (axes that do not exist, groups that do not divide the
/// channels, an axis of length 0), the layout does not suit it, or the elements are too many to
/// count; or if the rule has no statistics.
///
/// ```
/// use cellnorm::explain::{Layout, rule};
/// use cellnorm::norms::{Group, Switchable};
/// use cellnorm::semantics::GroupParameters;
/// let group = Group {
///     groups: 4,
///     channels: 32,
///     channel_axis: 1,
///     parameters: GroupParameters::PerChannel,
/// };
/// let group = rule(&group, &[8, 32, 28, 28], Layout::channels_first(4)?)?;
/// let sharing = &group.sharings[0];
/// assert_eq!((sharing.sets(), sharing.values()), (8 * 4, (8 * 28 * 28, 8 * 28 * 28)));
/// // the set of sample 2, channel 9: group 1 of that sample
/// assert_eq!(sharing.set(&[2, 9, 0, 0]), [2..3, 8..16, 0..28, 0..28]);
/// assert!(group.warnings.is_empty());
///
/// let switchable = Switchable { channels: 32, channel_axis: 1, authors_code: false };
/// let switchable = rule(&switchable, &[8, 32, 28, 28], Layout::channels_first(4)?)?;
/// let names: Vec<&str> = switchable.sharings.iter().map(|sharing| sharing.name).collect();
/// assert_eq!(names, ["instance", "layer", "batch"]);
/// assert_eq!(switchable.parameters[2].name, "mean_weight");
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn rule<R: Rule>(rule: &R, shape: &[usize], layout: Layout) -> Result<Explanation, Error> {
    rule.check()?;
    check(shape, &layout, R::OF_WEIGHTS)?;
    let sharings = rule.sharings(shape)?;
    if sharings.is_empty() {
        let what = "takes no statistics that could be explained";
        return Err(Error::Unsupported { layer: R::NAME, what });
    }
    let direction = R::OF_WEIGHTS.then(|| Table { name: "v", shape: shape.to_vec() });
    let usual = rule.parameters().into_iter().filter(|spec| R::CENTER || spec.name != "beta");
    let tables = usual.map(|spec| Table { name: spec.name, shape: spec.shape });
    let parameters = direction.into_iter().chain(tables).collect();
    let running = rule.running().into_iter().flat_map(|(shape, _)| {
        ["running_mean", "running_var"].map(|name| Table { name, shape: shape.clone() })
    });
    let state = running.collect();
    Ok(Explanation::new(R::NAME, R::FORMULA, sharings, layout, parameters, state))
}

/// Explains local response or Lp normalization for a tensor of this shape.
///
/// # Errors
/// Same errors as [`rule`].
pub fn lines<L: Lines>(layer: &L, shape: &[usize], layout: Layout) -> Result<Explanation, Error> {
    check(shape, &layout, false)?;
    Ok(Explanation::new(L::NAME, L::FORMULA, vec![layer.sharing(shape)?], layout, vec![], vec![]))
}

impl Explanation {
    fn new(
        name: &'static str,
        formula: &'static str,
        sharings: Vec<Sharing>,
        layout: Layout,
        parameters: Vec<Table>,
        state: Vec<Table>,
    ) -> Self {
        Self {
            name,
            formula,
            shape: sharings[0].shape.clone(),
            traffic: Traffic::new(&sharings),
            warnings: warning::warnings(&layout, &sharings, &parameters),
            layout,
            sharings,
            parameters,
            state,
        }
    }
}

/// # Errors
/// If there is not one letter for each axis, they are those of a weight where they should not be or
/// the reverse, an axis has length 0, or the elements are too many to count.
fn check(shape: &[usize], layout: &Layout, are_weights: bool) -> Result<(), Error> {
    let reason = match are_weights {
        _ if layout.letters().len() != shape.len() => {
            Some("give one letter for each axis, such as nc, nct, ntc, nchw or nhwc")
        }
        true if !layout.is_weight() => {
            Some("a weight needs o (outputs) and i (inputs), such as oi or oihw")
        }
        false if layout.is_weight() => {
            Some("activations need n (samples) and c (channels), such as nchw")
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(Error::Layout { layout: layout.to_string(), rank: shape.len(), reason });
    }
    check_not_empty(shape)?;
    // room for the bytes of the five tensors that a backward pass may move
    if shape.iter().try_fold(64_usize, |product, len| product.checked_mul(*len)).is_none() {
        return Err(Error::TooLarge { shape: shape.to_vec() });
    }
    Ok(())
}
