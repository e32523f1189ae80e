//! Running averages as Candle's variables: a layer on arrays takes them before a pass, and leaves
//! them where they moved to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

use crate::numbers::{of_tensor, tensor};

/// A running mean, a running variance, and how often they have moved.
#[derive(Clone, Debug)]
pub(super) struct Averages {
    pub(super) mean: Var,
    pub(super) variance: Var,
    steps: Arc<AtomicU64>,
}

impl Averages {
    /// Variables as they are; of other tensors, copies.
    pub(super) fn new(mean: &Tensor, variance: &Tensor) -> Result<Self> {
        Ok(Self {
            mean: Var::from_tensor(mean)?,
            variance: Var::from_tensor(variance)?,
            steps: Arc::default(),
        })
    }

    /// `running_mean` and `running_var` of a builder, f32 at least: an average in half precision
    /// stands still, because a small step rounds to none.
    pub(super) fn from_builder(shape: &[usize], second: f64, vb: &VarBuilder) -> Result<Self> {
        let dtype = if vb.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let get = |name, initial| vb.get_with_hints_dtype(shape, name, Init::Const(initial), dtype);
        Self::new(&get("running_mean", 0.0)?, &get("running_var", second)?)
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn set_steps(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }

    /// The mean and the variance in f64.
    pub(super) fn numbers(&self, name: &str) -> Result<[Vec<f64>; 2]> {
        Ok([of_tensor(&self.mean, name)?, of_tensor(&self.variance, name)?])
    }

    /// Leaves the averages where a step took them.
    pub(super) fn moved_to(&self, mean: Vec<f64>, variance: Vec<f64>, steps: u64) -> Result<()> {
        if steps == self.steps() {
            return Ok(());
        }
        for (var, values) in [(&self.mean, mean), (&self.variance, variance)] {
            var.set(&tensor(values, var.shape(), var.dtype(), var.device())?)?;
        }
        self.set_steps(steps);
        Ok(())
    }
}
