//! How a spectral normalization is made, and where frameworks differ about it.

use ndarray::{Array1, ArrayD};

use super::power_iteration::renewed;
use super::{Iteration, SpectralNorm};
use crate::error::{Error, check_number};
use crate::norms::{Floor, LpNormConfig};
use crate::parameters::Initializer;
use crate::shape::axis_index;

/// Makes a [`SpectralNorm`].
///
/// | | PyTorch | Keras 3 | tf.keras 2, TensorFlow Addons | Flax |
/// |---|---|---|---|---|
/// | [`axis`](Self::axis) | 0; 1 for transposed convolutions | −1 | −1 | −1 |
/// | [`iteration`](Self::iteration) | `LeftFirst` | `RightFirst` | `RightFirst` | `RightFirst` |
/// | [`floor`](Self::floor) | `Max(1e-12)` | `Max(1e-7)` | `MaxSquare(1e-12)` | `AddSquare(1e-12)` |
/// | [`in_place`](Self::in_place) | false | true | true | false |
/// | [`warm_up`](Self::warm_up) | 15 | 0 | 0 | 0 |
///
/// ```
/// use cellnorm::norms::Floor;
/// use cellnorm::weights::{Iteration, SpectralNormConfig};
/// // as Keras 3: the kernel itself becomes the normalized one, and inference takes it as it is
/// let keras = SpectralNormConfig::default()
///     .axis(-1)
///     .iteration(Iteration::RightFirst)
///     .floor(Floor::Max(1e-7))
///     .in_place(true);
/// let mut layer = keras.init(ndarray::array![[0.0, 4.0], [3.0, 0.0]].into_dyn())?;
/// let normalized = layer.forward()?;
/// assert!((normalized.sigma - 4.0).abs() < 1e-6);
/// assert_eq!(layer.weight, normalized.weight);
/// assert_eq!(layer.infer()?.weight, normalized.weight);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNormConfig {
    axis: isize,
    iteration: Iteration,
    iterations: usize,
    warm_up: usize,
    floor: Floor,
    in_place: bool,
    seed: u64,
}

impl Default for SpectralNormConfig {
    fn default() -> Self {
        Self {
            axis: 0,
            iteration: Iteration::default(),
            iterations: 1,
            warm_up: 15,
            floor: Floor::Max(1e-12),
            in_place: false,
            seed: 0,
        }
    }
}

impl SpectralNormConfig {
    setters! {
        /// The axis of the rows: that of the layer's outputs. Negative counts from the last.
        /// Default: 0; PyTorch takes 1 for transposed convolutions, and where kernels have their
        /// outputs last, as in Keras and Flax, it is −1.
        axis: isize,
        /// Which of u and v an iteration renews first, and what inference does. Default:
        /// [`Iteration::LeftFirst`].
        iteration: Iteration,
        /// Power iterations in every training step. Default: 1.
        iterations: usize,
        /// Power iterations when the layer is made. Default: 15; the fewer, the further σ is too
        /// small in the first steps.
        warm_up: usize,
        /// How the lengths of W v and Wᵀ u are kept from 0. Default: `Floor::Max(1e-12)`.
        ///
        /// One below a floor of the two Max kinds counts as 0: u, or v, stays as it was. Frameworks
        /// let the vector shrink there, and σ with it, so that nearly zero becomes huge; so does
        /// [`Floor::AddSquare`] here, as in Flax, for weights below about √ε. Above, it shows in
        /// the numbers, too: a length n comes out as n / √(n² + ε), which is 1 within 5e-9 from n =
        /// 0.01 on with Flax's ε.
        floor: Floor,
        /// Whether training divides the weight itself by σ. Default: false.
        ///
        /// * false: W stays as it is trained, Ŵ is made of it at each use, and its gradient goes
        ///   through σ: along W itself it is 0.
        /// * true: W ← W / σ in each training step, so what the optimizer changes is Ŵ, and its
        ///   gradient is that of Ŵ, as if σ did not depend on W. Inference takes W as it is, steps
        ///   of the optimizer since the last forward pass included.
        in_place: bool,
        /// The seed of the normal numbers that u and v start from. Default: 0.
        seed: u64,
    }

    /// The normalization of this weight, after the power iterations of the
    /// [warm-up](Self::warm_up). The weight is still as given.
    ///
    /// # Errors
    /// If the weight has no such axis, is empty, or its sum of squares is not finite; if there are
    /// no iterations, or the floor's ε is not finite and at least 1e-36.
    pub fn init(self, weight: ArrayD<f64>) -> Result<SpectralNorm, Error> {
        let unit = LpNormConfig::new(&[0]).floor(self.floor).init()?;
        let (name, given) = ("the number of power iterations", self.iterations as f64);
        check_number(name, given, self.iterations > 0, "at least 1")?;
        if weight.ndim() == 0 {
            return Err(Error::Rank { layer: "spectral normalization", shape: vec![], least: 1 });
        }
        let axis = axis_index(self.axis, weight.ndim())?;
        if weight.is_empty() {
            return Err(Error::Empty { shape: weight.shape().to_vec() });
        }
        let (rows, columns) = (weight.shape()[axis], weight.len() / weight.shape()[axis]);
        let drawn = |len, seed| -> Result<Array1<f64>, Error> {
            let vector = Initializer::Normal { mean: 0.0, std: 1.0, seed }.init(&[len])?;
            let vector = Array1::from_iter(vector);
            renewed(vector.clone(), vector, &unit)
        };
        let (u, v) = (drawn(rows, self.seed)?, drawn(columns, self.seed.wrapping_add(1))?);
        let Self { iteration, iterations, in_place, .. } = self;
        let mut layer = SpectralNorm { weight, u, v, axis, iteration, iterations, in_place, unit };
        (layer.u, layer.v) = layer.iterated(layer.matrix()?.view(), self.warm_up)?;
        Ok(layer)
    }
}
