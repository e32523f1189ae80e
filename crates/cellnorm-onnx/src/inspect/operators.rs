//! ONNX's normalizations: the meaning of each by its attributes and their defaults.

use cellnorm::{Normalization, Semantics};

use crate::fold::batch_statistics;
use crate::proto::node::Node;

/// An operator of ONNX's own set that normalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `BatchNormalization`.
    Batch,
    /// `InstanceNormalization`.
    Instance,
    /// `LayerNormalization`.
    Layer,
    /// `RMSNormalization`.
    Rms,
    /// `GroupNormalization`.
    Group,
    /// `LpNormalization`.
    Lp,
    /// `LRN`.
    LocalResponse,
    /// `MeanVarianceNormalization`.
    MeanVariance,
}

/// The meaning of a normalization.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// The semantics as [`Semantics::preset`] knows them, such as "onnx-15 batch"; `None` for
    /// operators that it does not know.
    pub preset: Option<&'static str>,
    /// ε, where there is one.
    pub epsilon: Option<f64>,
    /// Where the statistics come from: constants, the batch, or each input.
    pub statistics: Statistics,
    /// Over what, in words.
    pub words: String,
}

/// Where statistics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// They are constants of the model.
    Fixed,
    /// They are those of each batch, as in training.
    Batch,
    /// They are those of each input alone.
    Input,
}

impl Operator {
    /// The operator of a node; `None` if it does not normalize.
    pub fn from_node(node: &Node<'_>) -> Option<Self> {
        let operator = match node.op {
            "BatchNormalization" => Self::Batch,
            "InstanceNormalization" => Self::Instance,
            "LayerNormalization" => Self::Layer,
            "RMSNormalization" => Self::Rms,
            "GroupNormalization" => Self::Group,
            "LpNormalization" => Self::Lp,
            "LRN" => Self::LocalResponse,
            "MeanVarianceNormalization" => Self::MeanVariance,
            _ => return None,
        };
        node.domain.is_empty().then_some(operator)
    }

    /// The inputs that γ, β, mean and variance are.
    pub fn places(self) -> [Option<usize>; 4] {
        match self {
            Self::Batch => [Some(1), Some(2), Some(3), Some(4)],
            Self::Instance | Self::Layer | Self::Group => [Some(1), Some(2), None, None],
            Self::Rms => [Some(1), None, None, None],
            Self::Lp | Self::LocalResponse | Self::MeanVariance => [None; 4],
        }
    }

    /// ε; 1e-5 where it is left out.
    pub fn epsilon(self, node: &Node<'_>) -> Option<f64> {
        match self {
            Self::Lp | Self::LocalResponse => None,
            // the function that defines the operator adds it to the deviation
            Self::MeanVariance => Some(1e-9),
            _ => Some(node.float("epsilon", 1e-5)),
        }
    }

    /// The meaning of a node of this operator.
    pub fn meaning(self, opset: i64, node: &Node<'_>) -> Meaning {
        let normalization = match self {
            Self::Batch => Some(Normalization::Batch),
            Self::Instance => Some(Normalization::Instance),
            Self::Layer => Some(Normalization::Layer),
            Self::Rms => Some(Normalization::Rms),
            Self::Group => Some(Normalization::Group),
            _ => None,
        };
        let preset = |layer| {
            Semantics::preset(&format!("onnx-{opset}"), layer).ok().map(|semantics| semantics.name)
        };
        let axis = node.integer("axis", -1);
        let mut statistics = Statistics::Input;
        let words = match self {
            Self::Batch => {
                let source = batch_statistics(opset, node);
                statistics = source.map_or(Statistics::Fixed, |_| Statistics::Batch);
                match source {
                    Some(attribute) => format!("each batch's statistics ({attribute}) of axis 1"),
                    None if opset < 9 && node.integer("spatial", 1) == 0 => {
                        "fixed statistics for each element (spatial=0)".into()
                    }
                    None => "fixed statistics of axis 1".into(),
                }
            }
            Self::Instance => "over the positions of each channel and sample".into(),
            Self::Layer => format!("over the axes from {axis} on"),
            Self::Rms => format!("mean square over the axes from {axis} on"),
            Self::Group => {
                let groups = match node.integer("num_groups", 0) {
                    1 => "1 group".to_owned(),
                    groups => format!("{groups} groups"),
                };
                format!("over {groups} of axis 1 and all positions")
            }
            Self::Lp => format!("L{} length over axis {axis}", node.integer("p", 2)),
            Self::LocalResponse => {
                let (size, alpha) = (node.integer("size", 0), node.float("alpha", 1e-4));
                let (beta, bias) = (node.float("beta", 0.75), node.float("bias", 1.0));
                format!(
                    "squares of {size} neighbours on axis 1, alpha {alpha:.3e}, beta {beta}, bias \
                     {bias}"
                )
            }
            Self::MeanVariance => {
                let axes = node.integers("axes").unwrap_or_else(|| vec![0, 2, 3]);
                format!("over the axes {axes:?}, without γ and β")
            }
        };
        let preset = normalization.and_then(preset);
        Meaning { preset, epsilon: self.epsilon(node), statistics, words }
    }
}
