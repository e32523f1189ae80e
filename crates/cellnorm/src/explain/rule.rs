//! Every normalization as a rule: which values share, which parameters there are, what is kept.
//!
//! Batch, layer, instance, group and RMS normalization are asked for their [`Kind`]'s own roles, so that an explanation cannot
//! disagree with what they compute. The others are a table of axes.

use super::layout::Layout;
use super::sharing::{Along, Measure, Sharing};
use crate::error::Error;
use crate::norms::{Batch, Features, Group, Instance, Kind, Layer, Rms};
use crate::semantics::GroupParameters;
use crate::standardize::About;

/// A normalization with what it needs besides a shape and a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Batch normalization (S. Ioffe, C. Szegedy, 2015).
    Batch,
    /// Batch normalization of neighbouring samples only (E. Hoffer, I. Hubara, D. Soudry, 2017).
    GhostBatch {
        /// The number of samples that share statistics.
        virtual_batch: usize,
    },
    /// Batch normalization with statistics for each time step (T. Cooijmans et al., 2016).
    BatchPerStep,
    /// Layer normalization (J. L. Ba, J. R. Kiros, G. E. Hinton, 2016).
    Layer {
        /// The axes, as Keras' `axis`, with a parameter for each element; None for all features with one for each channel.
        axes: Option<Vec<isize>>,
    },
    /// Instance normalization (D. Ulyanov, A. Vedaldi, V. Lempitsky, 2016).
    Instance,
    /// Group normalization (Y. Wu, K. He, 2018).
    Group {
        /// The number of groups.
        groups: usize,
    },
    /// RMS normalization (B. Zhang, R. Sennrich, 2019).
    Rms {
        /// The axes, as for layer normalization.
        axes: Option<Vec<isize>>,
    },
    /// Batch-instance normalization: ρ of the one and 1 − ρ of the other (H. Nam, H.-E. Kim, 2018).
    BatchInstance,
    /// Switchable normalization: a learned mixture of instance, layer and batch statistics (P. Luo et al., 2018).
    Switchable,
    /// Weight normalization: each output's weights by their norm (T. Salimans, D. P. Kingma, 2016).
    Weight,
    /// Local response normalization over neighbouring channels (A. Krizhevsky, I. Sutskever, G. E. Hinton, 2012).
    LocalResponse {
        /// The number of channels in a window.
        size: usize,
    },
    /// Filter response normalization (S. Singh, S. Krishnan, 2019).
    FilterResponse,
    /// Mean-variance normalization: no parameters, over any axes (ONNX `MeanVarianceNormalization`: 0, 2, 3).
    MeanVariance {
        /// The axes.
        axes: Vec<isize>,
    },
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

/// What a rule says about one shape.
pub(super) struct Ruling {
    pub(super) formula: &'static str,
    pub(super) sharings: Vec<Sharing>,
    pub(super) parameters: Vec<Table>,
    pub(super) state: Vec<Table>,
}

const STANDARDIZE: &str = "y = γ (x − mean) / √(variance + ε) + β";

impl Rule {
    /// The normalization's full name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Batch => Batch::NAME,
            Self::GhostBatch { .. } => "ghost batch normalization",
            Self::BatchPerStep => "batch normalization per time step",
            Self::Layer { .. } => Layer::NAME,
            Self::Instance => Instance::NAME,
            Self::Group { .. } => Group::NAME,
            Self::Rms { .. } => Rms::NAME,
            Self::BatchInstance => "batch-instance normalization",
            Self::Switchable => "switchable normalization",
            Self::Weight => "weight normalization",
            Self::LocalResponse { .. } => "local response normalization",
            Self::FilterResponse => "filter response normalization",
            Self::MeanVariance { .. } => "mean-variance normalization",
        }
    }

    /// Whether what is normalized is a weight rather than an activation.
    pub fn of_weights(&self) -> bool {
        matches!(self, Self::Weight)
    }

    pub(super) fn over(&self, shape: &[usize], layout: &Layout) -> Result<Ruling, Error> {
        if layout.is_weight() != self.of_weights() {
            let reason = match self.of_weights() {
                true => "weight normalization needs o (outputs) and i (inputs), such as oi or oihw",
                false => "activations need n (samples) and c (channels), such as nchw",
            };
            return Err(Error::Layout { layout: layout.to_string(), rank: shape.len(), reason });
        }
        let (channel_axis, channels) = (layout.channels() as isize, shape[layout.channels()]);
        let batch = Batch { channels, channel_axis };
        let instance = Instance { channels, channel_axis };
        let features = |axes: &Option<Vec<isize>>| match axes {
            None => Ok(Features::PerChannel { channels, axis: channel_axis }),
            Some(axes) => {
                let over = crate::arrays::axis_set(axes, shape.len())?;
                let lengths = (0..shape.len()).filter(|axis| over[*axis]).map(|axis| shape[axis]).collect();
                Ok(Features::Axes(axes.clone(), lengths))
            }
        };
        let ruling = match self {
            Self::Batch => {
                let (sharing, shape) = of_kind("batch", &batch, shape)?;
                Ruling::new(STANDARDIZE, [sharing], affine(&shape), running(&shape))
            }
            Self::GhostBatch { virtual_batch: size } => {
                let samples = shape[layout.samples()];
                if *size == 0 || !samples.is_multiple_of(*size) {
                    return Err(Error::VirtualBatch { batch: samples, size: *size });
                }
                let (mut sharing, shape) = of_kind("batch", &batch, shape)?;
                sharing.along[layout.samples()] = Along::Blocks(*size);
                Ruling::new(STANDARDIZE, [sharing], affine(&shape), running(&shape))
            }
            Self::BatchPerStep => {
                let Some(time) = layout.time() else {
                    let reason = "statistics for each time step need an axis t, such as in nct or ntc";
                    return Err(Error::Layout { layout: layout.to_string(), rank: shape.len(), reason });
                };
                let (mut sharing, of_channels) = of_kind("batch", &batch, shape)?;
                sharing.along[time] = Along::Apart;
                Ruling::new(STANDARDIZE, [sharing], affine(&of_channels), running(&[shape[time], channels]))
            }
            Self::Layer { axes } => {
                let (sharing, shape) = of_kind("layer", &Layer(features(axes)?), shape)?;
                Ruling::new(STANDARDIZE, [sharing], affine(&shape), vec![])
            }
            Self::Instance => {
                let (sharing, shape) = of_kind("instance", &instance, shape)?;
                Ruling::new(STANDARDIZE, [sharing], affine(&shape), vec![])
            }
            Self::Group { groups } => {
                let parameters = GroupParameters::PerChannel;
                let group = Group { groups: *groups, channels, channel_axis, parameters };
                let (sharing, shape) = of_kind("group", &group, shape)?;
                Ruling::new(STANDARDIZE, [sharing], affine(&shape), vec![])
            }
            Self::Rms { axes } => {
                let (sharing, shape) = of_kind("rms", &Rms(features(axes)?), shape)?;
                let formula = "y = γ x / √(mean(x²) + ε)";
                Ruling::new(formula, [sharing], vec![Table { name: "gamma", shape }], vec![])
            }
            Self::BatchInstance => {
                let (batch, of_channels) = of_kind("batch", &batch, shape)?;
                let (instance, _) = of_kind("instance", &instance, shape)?;
                let mut parameters = affine(&of_channels);
                parameters.push(Table { name: "rho", shape: of_channels.clone() });
                let formula = "y = γ (ρ x̂_batch + (1 − ρ) x̂_instance) + β,  x̂ = (x − mean) / √(variance + ε)";
                Ruling::new(formula, [batch, instance], parameters, running(&of_channels))
            }
            Self::Switchable => {
                let (instance, of_channels) = of_kind("instance", &instance, shape)?;
                let (layer, _) = of_kind("layer", &Layer(features(&None)?), shape)?;
                let (batch, _) = of_kind("batch", &batch, shape)?;
                let mut parameters = affine(&of_channels);
                parameters.extend(["mean_weight", "var_weight"].map(|name| Table { name, shape: vec![3] }));
                let formula = "y = γ (x − Σ w_k mean_k) / √(Σ w′_k variance_k + ε) + β,  w and w′ softmax of 3";
                Ruling::new(formula, [instance, layer, batch], parameters, running(&of_channels))
            }
            Self::Weight => {
                let outputs = layout.samples();
                let sharing = by_axis("weight", Measure::Norm, shape, |axis| match axis == outputs {
                    true => Along::Apart,
                    false => Along::Shared,
                });
                let direction = Table { name: "v", shape: shape.to_vec() };
                let length = Table { name: "g", shape: vec![shape[outputs]] };
                Ruling::new("w = g v / ‖v‖", [sharing], vec![direction, length], vec![])
            }
            Self::LocalResponse { size } => {
                if *size == 0 {
                    return Err(Error::Number { name: "size", given: 0.0, expected: "at least 1, such as 5" });
                }
                let window = Along::Window { before: size / 2, after: (size - 1) / 2 };
                let sharing = by_axis("local-response", Measure::SumOfSquares, shape, |axis| {
                    if axis == layout.channels() { window } else { Along::Apart }
                });
                Ruling::new("y = x / (k + α/n Σ x²)^β,  k, α, β fixed", [sharing], vec![], vec![])
            }
            Self::FilterResponse => {
                let (mut sharing, of_channels) = of_kind("filter-response", &instance, shape)?;
                sharing.measure = Measure::MeanSquare;
                let mut parameters = affine(&of_channels);
                parameters.push(Table { name: "tau", shape: of_channels });
                Ruling::new("y = max(γ x / √(mean(x²) + ε) + β, τ)", [sharing], parameters, vec![])
            }
            Self::MeanVariance { axes } => {
                let layer = Layer(features(&Some(axes.clone()))?);
                let (sharing, _) = of_kind("mean-variance", &layer, shape)?;
                Ruling::new("y = (x − mean) / √(variance + ε)", [sharing], vec![], vec![])
            }
        };
        Ok(ruling)
    }
}

impl Ruling {
    fn new<const N: usize>(
        formula: &'static str,
        sharings: [Sharing; N],
        parameters: Vec<Table>,
        state: Vec<Table>,
    ) -> Self {
        Self { formula, sharings: sharings.into(), parameters, state }
    }
}

/// The sharing of a library's layer, from the roles that it computes with, and the shape of its parameters.
fn of_kind<K: Kind>(name: &'static str, kind: &K, shape: &[usize]) -> Result<(Sharing, Vec<usize>), Error> {
    kind.check()?;
    let along = kind.roles(shape, true)?.along(shape);
    let measure = match K::ABOUT {
        About::Mean => Measure::MeanVariance,
        About::Zero => Measure::MeanSquare,
    };
    Ok((Sharing { name, measure, shape: shape.to_vec(), along }, kind.parameter_shape()))
}

fn by_axis(name: &'static str, measure: Measure, shape: &[usize], along: impl Fn(usize) -> Along) -> Sharing {
    Sharing { name, measure, shape: shape.to_vec(), along: (0..shape.len()).map(along).collect() }
}

fn affine(shape: &[usize]) -> Vec<Table> {
    ["gamma", "beta"].map(|name| Table { name, shape: shape.to_vec() }).into()
}

fn running(shape: &[usize]) -> Vec<Table> {
    ["running_mean", "running_var"].map(|name| Table { name, shape: shape.to_vec() }).into()
}
