//! Which values share a statistic for a shape, and what that costs: the figure of the Group Normalization paper as data.
//!
//! [`explain`] computes nothing of a tensor's values. It says for a [`Rule`] and a shape which values share
//! ([`Sharing`]), how well a statistic of so few values is known ([`Noise`]), which parameters and running statistics there are
//! ([`Table`]), how many bytes are moved ([`Traffic`]), and what is likely a mistake ([`Warning`]).
//!
//! Source of the figure: Y. Wu, K. He, *Group Normalization*, 2018, figure 2.

mod layout;
mod rule;
mod sharing;
mod traffic;
mod warning;

pub use layout::Layout;
pub use rule::{Rule, Table};
pub use sharing::{Along, Measure, Noise, Sharing};
pub use traffic::{CACHE, Traffic};
pub use warning::Warning;

use crate::error::Error;

/// What a normalization does with a tensor of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The normalization.
    pub rule: Rule,
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
    /// What is kept from training for inference; empty where both are the same.
    pub state: Vec<Table>,
    /// The bytes moved in f32.
    pub traffic: Traffic,
    /// What is likely a mistake.
    pub warnings: Vec<Warning>,
}

/// Explains a normalization of a tensor of this shape.
///
/// # Errors
/// If the normalization refuses the shape (axes that do not exist, groups that do not divide the channels, an axis of length
/// 0), the layout does not suit it, or the elements are too many to count.
///
/// ```
/// use cellnorm::explain::{Layout, Rule, explain};
/// let group = explain(&Rule::Group { groups: 4 }, &[8, 32, 28, 28], Layout::channels_first(4)?)?;
/// assert_eq!((group.sharings[0].sets(), group.sharings[0].values()), (8 * 4, (8 * 28 * 28, 8 * 28 * 28)));
/// // the set of sample 2, channel 9: group 1 of that sample
/// assert_eq!(group.sharings[0].set(&[2, 9, 0, 0]), [2..3, 8..16, 0..28, 0..28]);
/// assert!(group.warnings.is_empty());
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn explain(rule: &Rule, shape: &[usize], layout: Layout) -> Result<Explanation, Error> {
    if layout.letters().len() != shape.len() {
        let reason = "give one letter for each axis, such as nc, nct, ntc, nchw or nhwc";
        return Err(Error::Layout { layout: layout.to_string(), rank: shape.len(), reason });
    }
    if shape.contains(&0) {
        return Err(Error::Empty { shape: shape.to_vec() });
    }
    // room for the bytes of the five tensors that a backward pass may move
    if shape.iter().try_fold(64_usize, |product, len| product.checked_mul(*len)).is_none() {
        return Err(Error::TooLarge { shape: shape.to_vec() });
    }
    let ruling = rule.over(shape, &layout)?;
    Ok(Explanation {
        traffic: Traffic::of(&ruling.sharings),
        warnings: warning::warnings(rule, &layout, &ruling.sharings, &ruling.parameters),
        rule: rule.clone(),
        shape: shape.to_vec(),
        formula: ruling.formula,
        sharings: ruling.sharings,
        parameters: ruling.parameters,
        state: ruling.state,
        layout,
    })
}
