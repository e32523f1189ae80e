//! Spectral normalization: a weight divided by its largest singular value.
//!
//! The weight is seen as a matrix W whose rows are the indices of one axis and whose columns are
//! those of all other axes. σ = uᵀ W v, where u and v come nearer to the singular vectors with
//! every power [`Iteration`]. Then Ŵ = W / σ, and as u and v count as constants, ∂σ/∂W = u vᵀ and
//!
//! dW = (dŴ − ⟨dŴ, Ŵ⟩ u vᵀ) / σ.
//!
//! In place, W ← W / σ in every training step instead, and dW = dŴ.
//!
//! Source: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, *Spectral Normalization for Generative
//! Adversarial Networks*, 2018. Defaults as `torch.nn.utils.parametrizations.spectral_norm` of
//! PyTorch 2.

use ndarray::{Array1, Array2, ArrayD, ArrayView2, ArrayViewD};

use super::power_iteration::{Iteration, renewed};
use crate::error::{Error, check_not_empty, check_number, check_shape};
use crate::norms::{Floor, LpNorm, LpNormConfig};
use crate::{parameters::Initializer, shape::axis_index};

/// Makes a [`SpectralNorm`]; [`preset`](Self::preset) as a framework has it:
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
        /// the numbers, too: a length n comes out as n / √(n² + ε), which is 1 within 5e-9 from n
        /// = 0.01 on with Flax's ε.
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
        check_not_empty(weight.shape())?;
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

/// Spectral normalization of one weight; layers use [`SpectralWeight::weight`]. Made by
/// [`SpectralNormConfig`].
///
/// ```
/// use cellnorm::weights::SpectralNormConfig;
/// use ndarray::array;
/// // singular values 4 and 3
/// let mut layer =
///     SpectralNormConfig::default().init(array![[0.0, 4.0], [3.0, 0.0]].into_dyn())?;
/// let normalized = layer.forward()?;
/// assert!((normalized.sigma - 4.0).abs() < 1e-6);
/// assert!((normalized.weight[[1, 0]] - 0.75).abs() < 1e-6);
/// let dweight = normalized.backward(array![[1.0, 0.0], [0.0, 1.0]].into_dyn().view())?;
/// assert!((dweight[[1, 1]] - 0.25).abs() < 1e-6);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNorm {
    /// The weight as it is trained, W; in place, the normalized one as it is trained.
    pub weight: ArrayD<f64>,
    /// The left singular vector as far as it is known, a value for each row.
    pub u: Array1<f64>,
    /// The right one as far as it is known, a value for each column, row-major over the other axes.
    pub v: Array1<f64>,
    axis: usize,
    iteration: Iteration,
    iterations: usize,
    in_place: bool,
    /// Divides a vector by its length.
    unit: LpNorm,
}

/// A normalized weight, with the values that its backward pass needs.
#[derive(Clone, Debug)]
pub struct SpectralWeight {
    /// Ŵ = W / σ, in the shape of W.
    pub weight: ArrayD<f64>,
    /// The divisor of W: uᵀ W v; 1 for zeros, and for a weight that inference leaves unchanged.
    pub sigma: f64,
    /// u and v, where the gradient goes through σ.
    vectors: Option<(Array1<f64>, Array1<f64>)>,
    axis: usize,
}

impl SpectralNorm {
    /// Training: moves u and v by the power iterations, and normalizes with them. A weight of zeros
    /// has no direction: it leaves u and v alone.
    ///
    /// # Errors
    /// If weight, u or v was set to another shape, or to numbers whose sum of squares is not
    /// finite. Then nothing has changed.
    pub fn forward(&mut self) -> Result<SpectralWeight, Error> {
        let matrix = self.matrix()?;
        let (u, v) = self.iterated(matrix.view(), self.iterations)?;
        let mut normalized = self.normalized(matrix.view(), u.clone(), v.clone())?;
        (self.u, self.v) = (u, v);
        if self.in_place {
            self.weight.assign(&normalized.weight);
            normalized.vectors = None;
        }
        Ok(normalized)
    }

    /// Inference, which moves nothing: normalizes with u and v as they are, or as [`Iteration`]
    /// says; in place, the weight is taken as it is.
    ///
    /// # Errors
    /// As [`SpectralNorm::forward`].
    pub fn infer(&self) -> Result<SpectralWeight, Error> {
        let matrix = self.matrix()?;
        if self.in_place {
            let (weight, axis) = (self.weight.clone(), self.axis);
            return Ok(SpectralWeight { weight, sigma: 1.0, vectors: None, axis });
        }
        let (u, v) = match self.iteration {
            Iteration::LeftFirst => (self.u.clone(), self.v.clone()),
            Iteration::RightFirst => self.iterated(matrix.view(), self.iterations)?,
        };
        self.normalized(matrix.view(), u, v)
    }

    /// u and v after some power iterations.
    fn iterated(
        &self,
        matrix: ArrayView2<'_, f64>,
        rounds: usize,
    ) -> Result<(Array1<f64>, Array1<f64>), Error> {
        self.iteration.run(rounds, matrix, (self.u.clone(), self.v.clone()), &self.unit)
    }

    fn normalized(
        &self,
        matrix: ArrayView2<'_, f64>,
        u: Array1<f64>,
        v: Array1<f64>,
    ) -> Result<SpectralWeight, Error> {
        let sigma = u.dot(&matrix.dot(&v));
        // below the floor it counts as 0, as the lengths do
        let sigma = if self.unit.divided(&[sigma])?.is_some() { sigma } else { 1.0 };
        let (weight, vectors) = (&self.weight / sigma, Some((u, v)));
        Ok(SpectralWeight { weight, sigma, vectors, axis: self.axis })
    }

    /// W as a matrix. The fields may have been set since the layer was made.
    fn matrix(&self) -> Result<Array2<f64>, Error> {
        if self.axis >= self.weight.ndim() {
            return Err(Error::Axis { axis: self.axis as isize, rank: self.weight.ndim() });
        }
        let matrix = matrix(self.weight.view(), self.axis);
        for (name, vector, expected) in
            [("u", &self.u, matrix.nrows()), ("v", &self.v, matrix.ncols())]
        {
            check_shape(name, &[vector.len()], &[expected])?;
        }
        let sums = [
            ("the weight's sum of squares", matrix.iter().map(|w| w * w).sum::<f64>()),
            ("the sum of squares of u", self.u.dot(&self.u)),
            ("the sum of squares of v", self.v.dot(&self.v)),
        ];
        for (name, sum) in sums {
            check_number(name, sum, sum.is_finite(), "finite")?;
        }
        Ok(matrix)
    }
}

impl SpectralWeight {
    /// The gradient of W from that of Ŵ, with u and v as constants; in place, that of Ŵ.
    ///
    /// # Errors
    /// If the gradient has another shape than the weight.
    pub fn backward(&self, dweight: ArrayViewD<'_, f64>) -> Result<ArrayD<f64>, Error> {
        check_shape("the weight's gradient", dweight.shape(), self.weight.shape())?;
        let Some((u, v)) = &self.vectors else {
            return Ok(dweight.to_owned());
        };
        let along = (&dweight * &self.weight).sum();
        // u vᵀ in the shape of W, but with the axis of the rows first
        let mut shape = self.weight.shape().to_vec();
        shape.remove(self.axis);
        shape.insert(0, u.len());
        let values = u.iter().flat_map(|u| v.iter().map(move |v| u * v)).collect();
        let outer = ArrayD::from_shape_vec(shape, values).expect("as many values");
        let mut order: Vec<usize> = (1..self.weight.ndim()).collect();
        order.insert(self.axis, 0);
        Ok((&dweight - outer.permuted_axes(order) * along) / self.sigma)
    }
}

/// A tensor as a matrix whose rows are the indices of one axis.
fn matrix(tensor: ArrayViewD<'_, f64>, axis: usize) -> Array2<f64> {
    let rows = tensor.shape()[axis];
    let columns = tensor.len().checked_div(rows).unwrap_or(0);
    let mut order: Vec<usize> = (0..tensor.ndim()).filter(|other| *other != axis).collect();
    order.insert(0, axis);
    let values = tensor.permuted_axes(order).iter().copied().collect();
    Array2::from_shape_vec((rows, columns), values).expect("as many values")
}
