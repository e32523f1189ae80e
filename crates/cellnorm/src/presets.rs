//! Presets of the layers that no [`Semantics`](crate::Semantics) describe: the values of each
//! framework, as data.

use crate::error::Error;
use crate::momentum::{Momentum, RunningVariance};
use crate::norms::{
    FilterResponseNormConfig, Floor, LocalResponseNormConfig, LpNormConfig, SwitchableNormConfig,
    Window,
};
use crate::semantics::distance;
use crate::weights::{Iteration, SpectralNormConfig};

/// The value of this name; ONNX's operators are the same at every opset.
fn find<T: Copy>(table: &[(&'static str, T)], name: &str) -> Result<T, Error> {
    let opset = name.strip_prefix("onnx-").and_then(|opset| opset.parse::<u32>().ok());
    let wanted = if opset.is_some_and(|opset| opset > 0) { "onnx-1" } else { name };
    let found = table.iter().find(|(own, _)| *own == wanted).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let mut known: Vec<_> = table.iter().map(|(name, _)| *name).collect();
        known.sort_by_key(|known| distance(known, name));
        Error::UnknownPreset { name: name.into(), known }
    })
}

/// Axis of the rows, order of u and v, floor, in place, power iterations at the start.
type Spectral = (isize, Iteration, Floor, bool, usize);

const SPECTRAL: [(&str, Spectral); 5] = {
    use Iteration::{LeftFirst, RightFirst};
    [
        ("pytorch-2", (0, LeftFirst, Floor::Max(1e-12), false, 15)),
        ("keras-3", (-1, RightFirst, Floor::Max(1e-7), true, 0)),
        ("tf-keras-2", (-1, RightFirst, Floor::MaxSquare(1e-12), true, 0)),
        ("tfa-0.23", (-1, RightFirst, Floor::MaxSquare(1e-12), true, 0)),
        ("flax-0.12", (-1, RightFirst, Floor::AddSquare(1e-12), false, 0)),
    ]
};

impl SpectralNormConfig {
    /// As a framework has it: pytorch-2, keras-3, tf-keras-2, tfa-0.23 or flax-0.12. Later calls
    /// override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::weights::SpectralNormConfig;
    /// // Keras divides the kernel itself
    /// let keras = SpectralNormConfig::preset("keras-3")?;
    /// let mut layer = keras.init(ndarray::array![[0.0, 4.0], [3.0, 0.0]].into_dyn())?;
    /// assert_eq!(layer.forward()?.weight, layer.weight);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self, Error> {
        let (axis, iteration, floor, in_place, warm_up) = find(&SPECTRAL, name)?;
        let config = Self::default().axis(axis).iteration(iteration).floor(floor);
        Ok(config.in_place(in_place).warm_up(warm_up))
    }
}

const FLOORS: [(&str, Floor); 5] = [
    ("pytorch-2", Floor::Max(1e-12)),
    ("keras-3", Floor::MaxSquare(1e-24)),
    ("tf-keras-2", Floor::MaxSquare(1e-12)),
    ("mxnet-1.9-operator", Floor::AddSquare(1e-10)),
    ("onnx-1", Floor::None),
];

impl LpNormConfig {
    /// Vectors along `axes` as a framework divides them by their Euclidean length: pytorch-2
    /// (`normalize`), keras-3 and tf-keras-2 (`UnitNormalization`), mxnet-1.9-operator
    /// (`L2Normalization`) or onnx- with any opset (`LpNormalization`). Later calls override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::norms::LpNormConfig;
    /// // n = 1e-7 is above the floor of Keras 3, 1e-12, and below that of tf.keras, 1e-6
    /// let x = ndarray::array![[1e-7_f64, 0.0]];
    /// for (name, expected) in [("keras-3", 1.0), ("tf-keras-2", 0.1)] {
    ///     let y = LpNormConfig::preset(name, &[-1])?.init()?.forward(x.view())?;
    ///     assert!((y[[0, 0]] - expected).abs() < 1e-12);
    /// }
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str, axes: &[isize]) -> Result<Self, Error> {
        Ok(Self::new(axes).floor(find(&FLOORS, name)?))
    }
}

/// α of a window of size 1, whether it is multiplied by the size, β, the bias k, the longer side of
/// an even window, the axis of the channels.
type Response = (f64, bool, f64, f64, Window, isize);

const RESPONSES: [(&str, Response); 4] = [
    ("pytorch-2", (1e-4, false, 0.75, 1.0, Window::Left, 1)),
    ("onnx-1", (1e-4, false, 0.75, 1.0, Window::Right, 1)),
    ("mxnet-1.9-operator", (1e-4, false, 0.75, 2.0, Window::Left, 1)),
    ("tensorflow-2", (1.0, true, 0.5, 1.0, Window::Left, -1)),
];

impl LocalResponseNormConfig {
    /// Windows of `size` channels with a framework's other defaults: pytorch-2, onnx- with any
    /// opset, mxnet-1.9-operator, or tensorflow-2 (`tf.nn.local_response_normalization`, where the
    /// size is twice `depth_radius` + 1, and another `alpha` is to be multiplied by it). Later
    /// calls override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::norms::LocalResponseNormConfig;
    /// // one channel of 1: MXNet's k is 2
    /// let x = ndarray::array![[1.0_f64]];
    /// let mxnet = LocalResponseNormConfig::preset("mxnet-1.9-operator", 1)?.init()?;
    /// let y = mxnet.forward(x.view())?;
    /// assert!((y[[0, 0]] - f64::powf(2.0001, -0.75)).abs() < 1e-12);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str, size: usize) -> Result<Self, Error> {
        let (alpha, times_size, beta, bias, window, axis) = find(&RESPONSES, name)?;
        let alpha = if times_size { alpha * size as f64 } else { alpha };
        let config = Self::new(size).alpha(alpha).beta(beta).bias(bias);
        Ok(config.window(window).channel_axis(axis))
    }
}

/// The axis of the channels and the least deviation of a data set's normalization.
const DATA: [(&str, (isize, f64)); 4] = [
    ("pytorch-2", (-3, 0.0)),
    ("keras-3", (-1, 1e-7)),
    ("tf-keras-2", (-1, 1e-7)),
    ("mxnet-1.9-gluon", (-3, 0.0)),
];

/// The axis of the channels and the least deviation, as a framework normalizes data.
pub(crate) fn normalize(name: &str) -> Result<(isize, f64), Error> {
    find(&DATA, name)
}

impl SwitchableNormConfig {
    /// `channels` channels as the authors' code has them: switchnorm-2d (`SwitchNorm2d`, momentum
    /// 0.9) or switchnorm-3d (`SwitchNorm3d`, momentum 0.997), with
    /// [`authors_code`](Self::authors_code) and a running variance that follows the batch's as it
    /// is. `using_moving_average=False` is [`Momentum::Pooled`]. Later calls override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::norms::SwitchableNormConfig;
    /// let mut layer = SwitchableNormConfig::preset("switchnorm-2d", 1)?.init()?;
    /// layer.forward(ndarray::array![[[1.0, 3.0]], [[5.0, 7.0]]].view())?;
    /// // instances of variance 2 and means 2 and 6: 2 + 4 for the batch, a tenth of it
    /// assert!((layer.running.unwrap().variance[0] - 0.6).abs() < 1e-12);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    ///
    /// A checkpoint of that code, here with the sums of 2 batches, has more axes and another name:
    ///
    /// ```
    /// use cellnorm::norms::SwitchableNormConfig;
    /// use cellnorm::state::{DType, State, Tensor, Tensors};
    /// use cellnorm::{Normalization, Semantics};
    /// use ndarray::{ArrayD, IxDyn};
    /// let tensor = |shape: &[usize], value| {
    ///     Tensor::new(ArrayD::from_elem(IxDyn(shape), value), DType::F32)
    /// };
    /// let tensors: Tensors = [
    ///     ("sn.weight", tensor(&[1, 4, 1, 1], 1.0)),
    ///     ("sn.bias", tensor(&[1, 4, 1, 1], 0.0)),
    ///     ("sn.running_mean", tensor(&[1, 4, 1], 6.0)),
    ///     ("sn.running_var", tensor(&[1, 4, 1], 26.0)),
    ///     ("sn.mean_weight", tensor(&[3], 1.0)),
    ///     ("sn.var_weight", tensor(&[3], 1.0)),
    /// ]
    /// .map(|(name, tensor)| (name.to_owned(), tensor))
    /// .into();
    /// let torch = Semantics::preset("pytorch-2", Normalization::Batch)?;
    /// let mut state = State::find(&tensors, "sn.", &torch)?.reshaped(&[4])?.averaged(2)?;
    /// for (name, stored) in [("mean_weight", "mean_weight"), ("variance_weight", "var_weight")] {
    ///     state.others.insert(name.into(), tensors[&format!("sn.{stored}")].values.clone());
    /// }
    /// let mut layer = SwitchableNormConfig::preset("switchnorm-2d", 4)?.init()?;
    /// layer.load(&state)?;
    /// assert_eq!(layer.running.unwrap().variance[0], 4.0); // 26 / 2 − 3²
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str, channels: usize) -> Result<Self, Error> {
        let keep = find(&[("switchnorm-2d", 0.9), ("switchnorm-3d", 0.997)], name)?;
        let config = Self::new(channels).authors_code(true).momentum(Momentum::Keep(keep));
        Ok(config.running_variance(RunningVariance::Biased))
    }
}

/// ε and the axis of the channels.
const FILTER_RESPONSES: [(&str, (f64, isize)); 1] = [("tfa-0.23", (1e-6, -1))];

impl FilterResponseNormConfig {
    /// `channels` channels as a framework has them: tfa-0.23. Later calls override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::norms::FilterResponseNormConfig;
    /// let layer = FilterResponseNormConfig::preset("tfa-0.23", 4)?.init()?;
    /// assert_eq!((layer.epsilon, layer.rule().channel_axis), (1e-6, -1));
    /// let missing = FilterResponseNormConfig::preset("keras-3", 4).unwrap_err().to_string();
    /// assert!(missing.ends_with("the closest first: tfa-0.23"));
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str, channels: usize) -> Result<Self, Error> {
        let (epsilon, axis) = find(&FILTER_RESPONSES, name)?;
        Ok(Self::new(channels).epsilon(epsilon).channel_axis(axis))
    }
}
