//! Spectral normalization: a weight divided by its largest singular value.
//!
//! The weight is seen as a matrix W whose rows are the indices of one axis and whose columns are those of all other axes.
//! σ = uᵀ W v, where u and v come nearer to the singular vectors with every power iteration, u ← W v / ‖W v‖,
//! v ← Wᵀ u / ‖Wᵀ u‖. Then Ŵ = W / σ, and as u and v count as constants, ∂σ/∂W = u vᵀ and
//!
//! dW = (dŴ − ⟨dŴ, Ŵ⟩ u vᵀ) / σ.
//!
//! Source: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, *Spectral Normalization for Generative Adversarial Networks*, 2018.
//! Defaults as `torch.nn.utils.parametrizations.spectral_norm` of PyTorch 2.

use ndarray::{Array1, Array2, ArrayD, ArrayView2, ArrayViewD};

use crate::arrays::axis_index;
use crate::error::Error;
use crate::parameters::Initializer;

/// Power iterations when the layer is made, as in PyTorch.
const WARM_UP: usize = 15;

/// Makes a [`SpectralNorm`].
#[derive(Clone, Debug)]
pub struct SpectralNormConfig {
    axis: isize,
    iterations: usize,
    epsilon: f64,
    seed: u64,
}

impl Default for SpectralNormConfig {
    fn default() -> Self {
        Self { axis: 0, iterations: 1, epsilon: 1e-12, seed: 0 }
    }
}

impl SpectralNormConfig {
    /// The axis of the rows: that of the layer's outputs. Negative counts from the last. Default: 0; PyTorch takes 1 for
    /// transposed convolutions.
    pub fn axis(mut self, axis: isize) -> Self {
        self.axis = axis;
        self
    }

    /// Power iterations in every training step. Default: 1.
    pub fn iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }

    /// Norms up to ε count as 0. Default: 1e-12.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The seed of the normal numbers that u and v start from. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The normalization of this weight, after 15 power iterations.
    ///
    /// # Errors
    /// If the weight has no such axis, is empty, or its sum of squares is not finite; if there are no iterations, or ε is not
    /// positive and finite.
    pub fn init(self, weight: ArrayD<f64>) -> Result<SpectralNorm, Error> {
        let expected = "finite and above 0, such as 1e-12";
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::Number { name: "epsilon", given: self.epsilon, expected });
        }
        if self.iterations == 0 {
            return Err(Error::Number { name: "the number of power iterations", given: 0.0, expected: "at least 1" });
        }
        if weight.ndim() == 0 {
            return Err(Error::Rank { layer: "spectral normalization", shape: vec![], least: 1 });
        }
        let axis = axis_index(self.axis, weight.ndim())?;
        if weight.is_empty() {
            return Err(Error::Empty { shape: weight.shape().to_vec() });
        }
        let (rows, columns) = (weight.shape()[axis], weight.len() / weight.shape()[axis]);
        let normal = |len, seed| -> Result<Array1<f64>, Error> {
            let vector = Initializer::Normal { mean: 0.0, std: 1.0, seed }.init(&[len])?;
            Ok(Array1::from_iter(vector))
        };
        let (u, v) = (normal(rows, self.seed)?, normal(columns, self.seed.wrapping_add(1))?);
        let Self { iterations, epsilon, .. } = self;
        let mut layer = SpectralNorm { weight, u, v, axis, iterations, epsilon };
        let matrix = layer.matrix()?;
        (layer.u, layer.v) = layer.iterated(matrix.view(), WARM_UP);
        Ok(layer)
    }
}

/// Spectral normalization of one weight, which stays as it is trained; layers use [`SpectralWeight::weight`]. Made by
/// [`SpectralNormConfig`].
///
/// ```
/// use cellnorm::weights::SpectralNormConfig;
/// use ndarray::array;
/// // singular values 4 and 3
/// let mut layer = SpectralNormConfig::default().init(array![[0.0, 4.0], [3.0, 0.0]].into_dyn())?;
/// let normalized = layer.forward()?;
/// assert!((normalized.sigma - 4.0).abs() < 1e-6);
/// assert!((normalized.weight[[1, 0]] - 0.75).abs() < 1e-6);
/// let dweight = normalized.backward(array![[1.0, 0.0], [0.0, 1.0]].into_dyn().view())?;
/// assert!((dweight[[1, 1]] - 0.25).abs() < 1e-6);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNorm {
    /// The weight as it is trained, W.
    pub weight: ArrayD<f64>,
    /// The left singular vector as far as it is known, a value for each row.
    pub u: Array1<f64>,
    /// The right singular vector as far as it is known, a value for each column, row-major over the other axes.
    pub v: Array1<f64>,
    axis: usize,
    iterations: usize,
    epsilon: f64,
}

/// A normalized weight, with what its backward pass needs.
#[derive(Clone, Debug)]
pub struct SpectralWeight {
    /// Ŵ = W / σ, in the shape of W.
    pub weight: ArrayD<f64>,
    /// uᵀ W v; 1 for a weight of zeros, which stays as it is.
    pub sigma: f64,
    u: Array1<f64>,
    v: Array1<f64>,
    axis: usize,
}

impl SpectralNorm {
    /// Training: moves u and v by the power iterations, and normalizes with them. A weight of zeros has no direction: it leaves
    /// u and v alone.
    ///
    /// # Errors
    /// If weight, u or v was set to another shape, or to numbers whose sum of squares is not finite. Then nothing has changed.
    pub fn forward(&mut self) -> Result<SpectralWeight, Error> {
        let matrix = self.matrix()?;
        (self.u, self.v) = self.iterated(matrix.view(), self.iterations);
        Ok(self.normalized(matrix.view()))
    }

    /// Inference: normalizes with u and v as they are.
    ///
    /// # Errors
    /// As [`SpectralNorm::forward`].
    pub fn infer(&self) -> Result<SpectralWeight, Error> {
        Ok(self.normalized(self.matrix()?.view()))
    }

    fn iterated(&self, matrix: ArrayView2<'_, f64>, iterations: usize) -> (Array1<f64>, Array1<f64>) {
        let (mut u, mut v) = (self.u.clone(), self.v.clone());
        for _ in 0..iterations {
            u = self.unit(matrix.dot(&v), u);
            v = self.unit(matrix.t().dot(&u), v);
        }
        (u, v)
    }

    fn unit(&self, vector: Array1<f64>, before: Array1<f64>) -> Array1<f64> {
        let norm = vector.dot(&vector).sqrt();
        if norm > self.epsilon { vector / norm } else { before }
    }

    fn normalized(&self, matrix: ArrayView2<'_, f64>) -> SpectralWeight {
        let sigma = self.u.dot(&matrix.dot(&self.v));
        let sigma = if sigma.abs() > self.epsilon { sigma } else { 1.0 };
        SpectralWeight { weight: &self.weight / sigma, sigma, u: self.u.clone(), v: self.v.clone(), axis: self.axis }
    }

    /// W as a matrix. The fields may have been set since the layer was made.
    fn matrix(&self) -> Result<Array2<f64>, Error> {
        if self.axis >= self.weight.ndim() {
            return Err(Error::Axis { axis: self.axis as isize, rank: self.weight.ndim() });
        }
        let matrix = matrix(self.weight.view(), self.axis);
        for (name, vector, expected) in [("u", &self.u, matrix.nrows()), ("v", &self.v, matrix.ncols())] {
            if vector.len() != expected {
                return Err(Error::Parameter { name, given: vec![vector.len()], expected: vec![expected] });
            }
        }
        let sums = [
            ("the weight's sum of squares", matrix.iter().map(|w| w * w).sum::<f64>()),
            ("the sum of squares of u", self.u.dot(&self.u)),
            ("the sum of squares of v", self.v.dot(&self.v)),
        ];
        match sums.into_iter().find(|(_, sum)| !sum.is_finite()) {
            Some((name, given)) => Err(Error::Number { name, given, expected: "finite" }),
            None => Ok(matrix),
        }
    }
}

impl SpectralWeight {
    /// The gradient of W from that of Ŵ, with u and v as constants.
    ///
    /// # Errors
    /// If the gradient has another shape than the weight.
    pub fn backward(&self, dweight: ArrayViewD<'_, f64>) -> Result<ArrayD<f64>, Error> {
        if dweight.shape() != self.weight.shape() {
            let (given, expected) = (dweight.shape().to_vec(), self.weight.shape().to_vec());
            return Err(Error::Parameter { name: "the weight's gradient", given, expected });
        }
        let along = (&dweight * &self.weight).sum();
        // u vᵀ in the shape of W, but with the axis of the rows first
        let mut shape = self.weight.shape().to_vec();
        shape.remove(self.axis);
        shape.insert(0, self.u.len());
        let values = self.u.iter().flat_map(|u| self.v.iter().map(move |v| u * v)).collect();
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
