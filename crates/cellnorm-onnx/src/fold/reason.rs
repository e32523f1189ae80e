//! Why a normalization stays: a code that does not change from version to version, and a sentence.

use std::fmt::Display;

use serde::Serialize;

/// One row for each reason: its documentation, its name, its code, and what it means with what
/// would help.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident: $code:literal, $advice:literal;)*) => {
        /// The reason that a normalization cannot be folded exactly.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $reason,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The code, as JSON has it.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$reason => $code,)*
                }
            }

            /// The meaning, and a remedy.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$reason => $advice,)*
                }
            }
        }
    };
}

reasons! {
    /// Other nodes read the value in between, too.
    FanOut: "fan-out",
        "others read the value before normalization as well, so its layer must keep making it";
    /// The value in between is an output of the graph.
    GraphOutput: "graph-output",
        "the value before normalization is an output of the graph and must stay as it is";
    /// It normalizes by the statistics of its batch.
    BatchStatistics: "batch-statistics",
        "it uses the statistics of each batch: export the model in evaluation mode";
    /// Weights or parameters are computed when the model runs.
    NotConstant: "not-constant",
        "its numbers are known only when the model runs";
    /// Weights or parameters are inputs of the model, which a caller may set.
    Overridable: "overridable",
        "its numbers are inputs that a caller may set: --freeze-inputs makes them constants";
    /// Zeros are padded in between, which a shift would have to move.
    Padding: "padding",
        "the next layer pads zeros, which were not normalized: a shift there differs at the \
         border. Train with the normalization after the layer, or pad before it";
    /// An operator in between is not linear.
    NonLinear: "non-linear",
        "between it and the nearest layer with weights lies an operator that is not linear";
    /// An operator in between admits no negative scale.
    Sign: "sign",
        "the operator in between keeps its meaning under positive scales alone, and a scale here \
         is negative";
    /// An operator in between admits no shift.
    Shift: "shift",
        "the operator in between keeps its meaning under scales, not under shifts";
    /// The channels cannot be followed through an operator in between.
    Axis: "axis",
        "the operator in between mixes the channels with other axes";
    /// The model does not say the shape that would tell where the channels are.
    ShapeUnknown: "shape-unknown",
        "the model does not say the shapes: infer them first (onnx.shape_inference), or fix the \
         inputs'";
    /// A folded number does not fit the type of the weights.
    Range: "range",
        "the folded numbers would not fit the type of the weights: convert the model to float32 \
         first";
    /// The parameters are damaged.
    Parameters: "parameters",
        "its variance, scale or shift is negative, infinite or NaN, or of the wrong length: look \
         at how the model was trained or exported";
    /// Something that this program does not do.
    Unsupported: "unsupported",
        "this form is not handled";
    /// The weights are shared, and copies were forbidden.
    Shared: "shared",
        "the weights serve several layers: allow a copy by leaving out --no-copy";
    /// No linear layer was reached.
    NoLinearLayer: "no-linear-layer",
        "no convolution or dense layer with constant weights is next to it";
}

/// A reason, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Where it was seen: an operator, a value, a number.
    pub at: String,
}

impl Refusal {
    /// A reason, and where it was seen.
    pub fn new(reason: Reason, at: impl Display) -> Self {
        Self { reason, at: at.to_string() }
    }
}
