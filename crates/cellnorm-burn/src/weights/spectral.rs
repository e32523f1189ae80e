//! Spectral normalization for Burn: w = W / σ, with σ = uᵀ W v the largest singular value, found by
//! power iteration.
//!
//! The formulas, and the treatment of a weight of zeros, are those of
//! [`cellnorm::weights::SpectralNorm`].
//!
//! Source: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, *Spectral Normalization for Generative
//! Adversarial Networks*, 2018. Defaults as `torch.nn.utils.parametrizations.spectral_norm` of
//! PyTorch 2.

use burn::module::{
    Flag, Module, Param, ParamGroup, Reparameterization, Reparameterizer, RunningState,
};
use burn::tensor::{Distribution, Tensor};

use super::{Per, common_options, wanted};

/// Power iterations when the normalization is attached, as in PyTorch.
const WARM_UP: usize = 15;

/// Attaches [`SpectralNorm`] to the weights of a module.
#[derive(Clone, Debug)]
pub struct SpectralNormConfig {
    group: ParamGroup,
    per: Per,
    iterations: usize,
    epsilon: f64,
}

impl SpectralNormConfig {
    /// For every weight, with a row of W for each output.
    pub fn new() -> Self {
        Self { group: ParamGroup::all(), per: Per::default(), iterations: 1, epsilon: 1e-12 }
    }

    common_options!();

    /// Power iterations every time the weight is used in training. Default: 1.
    ///
    /// # Panics
    /// If it is 0.
    pub fn with_iterations(mut self, iterations: usize) -> Self {
        assert!(iterations > 0, "the number of power iterations is 0; it must be at least 1");
        self.iterations = iterations;
        self
    }

    /// Norms up to ε count as 0. Default: 1e-12.
    ///
    /// # Panics
    /// If it is not finite and at least 1e-36.
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        crate::modules::check_epsilon(epsilon);
        self.epsilon = epsilon;
        self
    }
}

impl Default for SpectralNormConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Reparameterizer for SpectralNormConfig {
    type Reparam = SpectralNorm;

    /// # Panics
    /// If the weight does not have the axis asked for.
    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<SpectralNorm>) {
        if !wanted(&self.group, path, &param) {
            return (param, None);
        }
        let matrix = self.per.matrix(param.base().detach());
        let unit = |len: usize| {
            let vector =
                Tensor::<1>::random([len], Distribution::Normal(0.0, 1.0), &matrix.device());
            let norm = vector.clone().square().sum().sqrt();
            (vector / norm).cast(matrix.dtype()).detach()
        };
        let [rows, columns] = matrix.dims();
        let layer = SpectralNorm {
            running_u: RunningState::new(unit(rows)),
            running_v: RunningState::new(unit(columns)),
            training: Param::from_bool(true),
            per: self.per,
            iterations: self.iterations,
            epsilon: self.epsilon,
        };
        layer.iterate(matrix, WARM_UP);
        (param, Some(layer))
    }
}

/// The state of a spectrally normalized parameter, whose stored base is W.
///
/// On a training device (`device.autodiff()`) and unless frozen, every use of the weight moves u
/// and v; else they stay.
#[derive(Module, Debug)]
pub struct SpectralNorm {
    /// The left singular vector as far as it is known, `[rows]`; PyTorch's `_u`.
    pub running_u: RunningState<Tensor<1>>,
    /// The right singular vector as far as it is known, `[columns]`; PyTorch's `_v`.
    pub running_v: RunningState<Tensor<1>>,
    /// Whether u and v move in training; `freeze` turns it off.
    pub training: Param<Flag>,
    /// Which part of the weight is a row of W.
    #[module(skip)]
    pub per: Per,
    /// Power iterations every time the weight is used in training.
    pub iterations: usize,
    /// Norms up to ε count as 0.
    pub epsilon: f64,
}

impl SpectralNorm {
    /// Moves u and v, and returns them as a row and a column.
    fn iterate(&self, matrix: Tensor<2>, iterations: usize) -> (Tensor<2>, Tensor<2>) {
        let [rows, columns] = matrix.dims();
        let vector =
            |state: &RunningState<Tensor<1>>| state.value_sync().to_device(&matrix.device());
        let (mut u, mut v) = (
            vector(&self.running_u).reshape([1, rows]),
            vector(&self.running_v).reshape([columns, 1]),
        );
        for _ in 0..iterations {
            u = self.unit(matrix.clone().matmul(v.clone()).transpose(), u);
            v = self.unit(u.clone().matmul(matrix.clone()).transpose(), v);
        }
        if iterations > 0 {
            self.running_u.update(u.clone().reshape([rows]).detach());
            self.running_v.update(v.clone().reshape([columns]).detach());
        }
        (u, v)
    }

    fn unit(&self, vector: Tensor<2>, before: Tensor<2>) -> Tensor<2> {
        let norm = vector.clone().square().sum().sqrt().reshape([1, 1]);
        let zero = norm.clone().lower_equal_elem(self.epsilon).expand(vector.dims());
        (vector / norm.clamp_min(self.epsilon)).mask_where(zero, before)
    }
}

impl Reparameterization for SpectralNorm {
    const NAME: &'static str = "spectral_norm";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let training = base.device().is_autodiff() && self.training.is_enabled();
        let matrix = self.per.matrix(base.clone());
        let (u, v) =
            self.iterate(matrix.clone().detach(), if training { self.iterations } else { 0 });
        let sigma = u.matmul(matrix).matmul(v);
        let zero = sigma.clone().abs().lower_equal_elem(self.epsilon);
        base / sigma.mask_fill(zero, 1.0).reshape([1; D])
    }
}
