//! Report of what was folded and what stays, for people and for programs: each reason is a code
//! that does not change from version to version, and a sentence.

use std::fmt::Display;

use serde::Serialize;

use crate::proto::NodeId;

/// The result of folding a model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The counts before folding.
    pub before: Counts,
    /// The counts after folding.
    pub after: Counts,
    /// The folds, in the order in which they happened.
    pub folds: Vec<Fold>,
    /// Normalizations that stay.
    pub kept: Vec<Unfolded>,
}

/// How much of something a model holds, the graphs inside its nodes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Nodes.
    pub nodes: usize,
    /// Batch normalizations.
    pub batch_norms: usize,
}

/// A node, named so that it can be found in a viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeName {
    /// Its name, or the name of what it makes.
    pub name: String,
    /// The name of what it makes, first of several.
    pub makes: String,
    /// Its operator.
    pub op: String,
    /// The number of its graph, 0 being the model's own, then those inside nodes in the order of
    /// the file, and its own number there; `None` inside a function of the model.
    #[serde(skip)]
    pub place: Option<(usize, NodeId)>,
}

impl NodeName {
    /// Whether this is what somebody calls the node: its name, or the name of what it makes.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.makes == name
    }
}

/// A map that became part of layers.
#[derive(Clone, Debug, Serialize)]
pub struct Fold {
    /// The node that is gone (of a layer or RMS normalization: γ and β, which are now 1 and 0).
    pub node: NodeName,
    /// Whether it went into layers before it (backward) or after it (forward).
    pub direction: Direction,
    /// The layers.
    pub targets: Vec<NodeName>,
    /// The operators between the node and the layers.
    pub through: Vec<String>,
    /// The number of channels.
    pub channels: usize,
}

/// Which way a map went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into the layers that make its input.
    Backward,
    /// Into the layers that read its result.
    Forward,
}

/// A normalization that stays, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Unfolded {
    /// The node.
    pub node: NodeName,
    /// The reason.
    pub reason: Reason,
    /// Where it was seen: an operator, a value, a number.
    pub at: String,
    /// The meaning of the reason, and a remedy.
    pub advice: &'static str,
    /// Why it cannot be folded the other way, if that is another reason.
    pub other_way: Option<Refusal>,
}

impl Unfolded {
    /// A node that stays, and why it cannot be folded one way and, if that is another reason, the
    /// other.
    pub fn new(node: NodeName, refusal: Refusal, other_way: Option<Refusal>) -> Self {
        let Refusal { reason, at } = refusal;
        Self { node, reason, at, advice: reason.advice(), other_way }
    }
}

/// One row for each reason: its name, its code, and what it means with what would help.
macro_rules! reasons {
    ($($reason:ident: $code:literal, $advice:literal;)*) => {
        /// The reason that a normalization cannot be folded exactly.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = concat!("`", $code, "`: ", $advice, ".")] #[serde(rename = $code)] $reason,)*
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

            /// The reason, and where it was seen.
            pub fn at(self, at: impl Display) -> Refusal {
                Refusal { reason: self, at: at.to_string() }
            }
        }
    };
}

reasons! {
    FanOut: "fan-out",
        "others read the value before normalization as well, so its layer must keep making it";
    GraphOutput: "graph-output",
        "the value before normalization is an output of the graph and must stay as it is";
    BatchStatistics: "batch-statistics",
        "it uses the statistics of each batch: export the model in evaluation mode";
    NotConstant: "not-constant",
        "its numbers are known only when the model runs";
    Overridable: "overridable",
        "its numbers are inputs that a caller may set: --freeze-inputs makes them constants";
    Padding: "padding",
        "the next layer pads zeros, which were not normalized: a shift there differs at the \
         border. Train with the normalization after the layer, or pad before it";
    NonLinear: "non-linear",
        "between it and the nearest layer with weights lies an operator that is not linear";
    Sign: "sign",
        "the operator in between keeps its meaning under positive scales alone, and a scale here \
         is negative";
    Shift: "shift",
        "the operator in between keeps its meaning under scales, not under shifts";
    Axis: "axis",
        "the operator in between mixes the channels with other axes";
    ShapeUnknown: "shape-unknown",
        "the model does not say the shapes: infer them first (onnx.shape_inference), or fix the \
         inputs'";
    Range: "range",
        "the folded numbers would not fit the type of the weights: convert the model to float32 \
         first";
    Cancellation: "cancellation",
        "the data lie so far from 0 that a layer which takes them as they are would lose more than \
         half of its digits: keep the subtraction, or fold all the same with --allow-cancellation";
    Parameters: "parameters",
        "its variance, scale or shift is negative, infinite or NaN, or of the wrong length: look \
         at how the model was trained or exported";
    Unsupported: "unsupported",
        "this form is not handled";
    Shared: "shared",
        "the weights serve several layers: allow a copy by leaving out --no-copy";
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
