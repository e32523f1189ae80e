//! Why a normalization stays: a code that does not change from version to version, and a sentence.

use serde::Serialize;

/// The reason that a normalization cannot be folded exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The value between is read by others, too.
    FanOut,
    /// The value between is an output of the graph.
    GraphOutput,
    /// It normalizes by the statistics of its batch.
    BatchStatistics,
    /// Weights or parameters are computed when the model runs.
    NotConstant,
    /// Weights or parameters are inputs of the model, which a caller may set.
    Overridable,
    /// Zeros are padded between, which a shift would have to move.
    Padding,
    /// An operator between is not linear.
    NonLinear,
    /// An operator between admits no negative scale.
    Sign,
    /// An operator between admits no shift.
    Shift,
    /// The channels cannot be followed through an operator between.
    Axis,
    /// The model does not say the shape that would tell where the channels are.
    ShapeUnknown,
    /// A folded number does not fit the type of the weights.
    Range,
    /// The parameters are damaged.
    Parameters,
    /// Something that this program does not do.
    Unsupported,
    /// The weights are shared, and copies were forbidden.
    Shared,
    /// No linear layer was reached.
    NoLinearLayer,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 16] = [
        Self::FanOut,
        Self::GraphOutput,
        Self::BatchStatistics,
        Self::NotConstant,
        Self::Overridable,
        Self::Padding,
        Self::NonLinear,
        Self::Sign,
        Self::Shift,
        Self::Axis,
        Self::ShapeUnknown,
        Self::Range,
        Self::Parameters,
        Self::Unsupported,
        Self::Shared,
        Self::NoLinearLayer,
    ];

    /// The code, as JSON has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::FanOut => "fan-out",
            Self::GraphOutput => "graph-output",
            Self::BatchStatistics => "batch-statistics",
            Self::NotConstant => "not-constant",
            Self::Overridable => "overridable",
            Self::Padding => "padding",
            Self::NonLinear => "non-linear",
            Self::Sign => "sign",
            Self::Shift => "shift",
            Self::Axis => "axis",
            Self::ShapeUnknown => "shape-unknown",
            Self::Range => "range",
            Self::Parameters => "parameters",
            Self::Unsupported => "unsupported",
            Self::Shared => "shared",
            Self::NoLinearLayer => "no-linear-layer",
        }
    }

    /// What it means, and what would help.
    pub fn advice(self) -> &'static str {
        match self {
            Self::FanOut => {
                "others read the value before normalization as well, so its layer must keep making \
                 it"
            }
            Self::GraphOutput => {
                "the value before normalization is an output of the graph and must stay as it is"
            }
            Self::BatchStatistics => {
                "it uses the statistics of each batch: export the model in evaluation mode"
            }
            Self::NotConstant => "its numbers are known only when the model runs",
            Self::Overridable => {
                "its numbers are inputs that a caller may set: --freeze-inputs makes them constants"
            }
            Self::Padding => {
                "the next layer pads zeros, which were not normalized: a shift there differs at \
                 the border. Train with the normalization behind the layer, or pad before it"
            }
            Self::NonLinear => {
                "between it and the nearest layer with weights lies an operator that is not linear"
            }
            Self::Sign => {
                "the operator between keeps its meaning under positive scales alone, and a scale \
                 here is negative"
            }
            Self::Shift => "the operator between keeps its meaning under scales, not under shifts",
            Self::Axis => "the operator between mixes the channels with other axes",
            Self::ShapeUnknown => {
                "the model does not say the shapes: infer them first (onnx.shape_inference), or \
                 fix the inputs'"
            }
            Self::Range => {
                "the folded numbers would not fit the type of the weights: convert the model to \
                 float32 first"
            }
            Self::Parameters => {
                "its variance, scale or shift is negative, infinite or NaN, or of the wrong \
                 length: look at how the model was trained or exported"
            }
            Self::Unsupported => "this form is not handled",
            Self::Shared => {
                "the weights serve several layers: allow a copy by leaving out --no-copy"
            }
            Self::NoLinearLayer => {
                "no convolution or dense layer with constant weights is next to it"
            }
        }
    }
}

/// A reason, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// What it was seen at: an operator, a value, a number.
    pub at: String,
}

impl Refusal {
    /// A reason seen at something.
    pub fn new(reason: Reason, at: impl Into<String>) -> Self {
        Self { reason, at: at.into() }
    }
}
