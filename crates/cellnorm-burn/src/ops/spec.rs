//! The description of a fused normalization, besides its tensors.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock, Weak};

use cellnorm::kernels::{Affine, Sums};
use cellnorm::norms::{Lines, LocalResponseNorm, LpNorm};
use cellnorm::ranks::Communicator;
use cellnorm::rule::{
    Formula, FormulaGradients, FormulaOutput, Merged, NamedValues, Region, Rule, Statistics,
};
use cellnorm::shape::{Cells, Centering, Roles, Sharing};
use cellnorm::{Activation, Element, Error, Moments};

/// How a tensor of one shape is normalized.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) form: Form,
    /// Whether γ is used; otherwise its tensor is ignored.
    pub(crate) scale: bool,
    /// Whether β is used; otherwise its tensor is ignored.
    pub(crate) center: bool,
    /// The activation after γ x̂ + β.
    pub(crate) activation: Activation,
}

impl Spec {
    /// Without γ, β and activation.
    pub(crate) fn bare(form: Form) -> Self {
        Self { form, scale: false, center: false, activation: Activation::Identity }
    }
}

/// How the passes normalize.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// One mean and one variance a set, in closed form; of x, or given.
    Plain { roles: Roles, centering: Centering, epsilon: f64, given: Option<Arc<Statistics>> },
    /// A formula on tables of cells.
    Cells(Arc<CellSpec>),
    /// Lines of values, divided by a size; `along` marks the axes that they lie along.
    Lines { layer: LineLayer, along: Vec<bool> },
    /// No normalization, but the mean and the biased variance of each cell.
    Moments(Cells),
    /// No normalization, but (x − center) · scale + offset for each cell, with these tables one
    /// after another.
    Affine(Cells),
}

/// A rule for the cells of one tensor.
#[derive(Debug)]
pub(crate) struct CellSpec {
    /// The cells of the row-major tensor.
    pub(crate) region: Region,
    pub(crate) formula: Box<dyn AnyFormula>,
    /// The names of the parameters and how many elements each has; None for one that the layer does
    /// not have.
    pub(crate) parameters: Vec<(&'static str, Option<usize>)>,
}

impl CellSpec {
    /// The parameters by name, from γ and the others one after another.
    pub(super) fn named(&self, gamma: &[f64], others: &[f64]) -> NamedValues {
        let mut rest = others;
        let values = |(name, len): &(&'static str, Option<usize>)| {
            let values = len.map(|len| match *name {
                "gamma" => gamma.to_vec(),
                _ => rest.split_off(..len).expect("as many as the parameters have").to_vec(),
            });
            (*name, values)
        };
        self.parameters.iter().map(values).collect()
    }
}

/// The formula of any rule: operations of a backend cannot be generic.
pub(crate) trait AnyFormula: Debug + Send + Sync {
    fn forward(&self, moments: &[Moments], parameters: &NamedValues) -> FormulaOutput;
    /// The cells' maps of the earlier forward pass.
    fn maps(&self, moments: &[Moments], parameters: &NamedValues) -> Vec<Affine>;
    /// The numbers that the values of the cells are measured from, after the forward pass.
    fn centers(&self, moments: &[Moments]) -> Vec<f64>;
    fn backward(
        &self,
        moments: &[Moments],
        parameters: &NamedValues,
        sums: &[Sums],
    ) -> FormulaGradients;
}

/// A rule's formula, with the ranks that share its statistics.
#[derive(Debug)]
pub(crate) struct RuleFormula<R> {
    formula: Formula<R>,
    ranks: Option<Ranks>,
    /// The statistics of the forward pass that ranks share.
    merged: OnceLock<Vec<Option<Merged>>>,
    /// Whether the running averages normalize; where the policy for one value says so, no
    /// statistics of x are tracked, as the forward pass finds out.
    fixed: OnceLock<bool>,
}

/// The other ranks, and in words the settings that all must have alike.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    /// Not held: what is left on Burn's tape would hold it, too, and the others would wait for a
    /// rank that is gone.
    pub(crate) over: Weak<dyn Communicator>,
    pub(crate) request: String,
}

impl<R> RuleFormula<R> {
    /// `fixed` says whether the running averages normalize; None where it is up to the policy for
    /// one value.
    pub(crate) fn new(formula: Formula<R>, ranks: Option<Ranks>, fixed: Option<bool>) -> Self {
        let fixed = fixed.map_or_else(OnceLock::new, OnceLock::from);
        Self { formula, ranks, merged: OnceLock::new(), fixed }
    }

    /// The statistics of the forward pass that ranks share.
    fn merged(&self) -> &[Option<Merged>] {
        self.merged.get().expect("the forward pass came first")
    }

    /// The ranks, while the layer keeps them.
    fn ranks(&self) -> Option<(Arc<dyn Communicator>, &str)> {
        let Ranks { over, request } = self.ranks.as_ref()?;
        let over =
            over.upgrade().expect("the layer and its ranks are kept until the backward pass");
        Some((over, request))
    }
}

impl<R: Rule> AnyFormula for RuleFormula<R> {
    fn forward(&self, moments: &[Moments], parameters: &NamedValues) -> FormulaOutput {
        let merged = self.ranks().map_or(Ok(vec![]), |(over, request)| {
            self.formula.merge_ranks::<Error>(&*over, request, Ok(moments))
        });
        let output = merged.and_then(|merged| {
            let merged = self.merged.get_or_init(|| merged);
            self.formula.forward(moments, parameters, merged)
        });
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        self.fixed.get_or_init(|| output.tracked.is_none());
        output
    }

    fn maps(&self, moments: &[Moments], parameters: &NamedValues) -> Vec<Affine> {
        let output = self.formula.forward(moments, parameters, self.merged());
        output.unwrap_or_else(|error| panic!("{error}")).affines
    }

    fn centers(&self, moments: &[Moments]) -> Vec<f64> {
        self.formula.centers(moments, self.merged())
    }

    fn backward(
        &self,
        moments: &[Moments],
        parameters: &NamedValues,
        sums: &[Sums],
    ) -> FormulaGradients {
        // other ranks have no part in y where the running averages normalized
        let fixed = *self.fixed.get().expect("the forward pass came first");
        let ranks = if fixed { None } else { self.ranks() };
        let over = ranks.as_ref().map(|(over, request)| (&**over, *request));
        let gradients = self.formula.backward(moments, parameters, sums, self.merged(), over);
        gradients.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The normalizations of lines.
#[derive(Clone, Debug)]
pub(crate) enum LineLayer {
    Lp(LpNorm),
    LocalResponse(LocalResponseNorm),
}

impl LineLayer {
    /// Which values of a tensor of this shape share what they are divided by.
    pub(crate) fn sharing(&self, shape: &[usize]) -> Result<Sharing, Error> {
        match self {
            Self::Lp(layer) => layer.sharing(shape),
            Self::LocalResponse(layer) => layer.sharing(shape),
        }
    }

    /// y of all lines. NaN and infinity in x pass on to y, and that is no error: a tensor library
    /// goes on.
    pub(super) fn forward<T: Element>(&self, x: &[T], y: &mut [T], lines: &Cells) {
        let _ = match self {
            Self::Lp(layer) => layer.forward_lines(x, y, lines),
            Self::LocalResponse(layer) => layer.forward_lines(x, y, lines),
        };
    }

    /// dx over dy.
    pub(super) fn backward<T: Element>(&self, x: &[T], dy_dx: &mut [T], lines: &Cells) {
        let _ = match self {
            Self::Lp(layer) => layer.backward_lines(x, dy_dx, lines),
            Self::LocalResponse(layer) => layer.backward_lines(x, dy_dx, lines),
        };
    }
}
