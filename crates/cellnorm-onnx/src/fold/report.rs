//! Report of what was folded and what stays, for people and for programs.

use serde::Serialize;

use super::reason::{Reason, Refusal};
use super::walk::Side;

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

impl From<Side> for Direction {
    fn from(side: Side) -> Self {
        match side {
            Side::After => Self::Backward,
            Side::Before => Self::Forward,
        }
    }
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
