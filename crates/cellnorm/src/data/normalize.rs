//! A data set's normalization as a layer: y = (x − mean_c) / deviation_c for each channel c, and
//! back.

use ndarray::{Array, ArrayView, CowArray, Dimension};

use super::known::Known;
use crate::error::{Error, check_not_empty, check_number};
use crate::kernels::{Affine, Element};
use crate::rule::{Arranged, typed};
use crate::shape::{Labels, Roles, axis_index};

/// Makes a [`Normalize`] from data, or with other options than its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalizeConfig {
    channel_axis: isize,
    least_deviation: f64,
}

impl Default for NormalizeConfig {
    /// Channels on axis 1, and a constant channel is an error.
    fn default() -> Self {
        Self { channel_axis: 1, least_deviation: 0.0 }
    }
}

impl NormalizeConfig {
    setters! {
        /// The axis of the channels; negative counts from the last. Default: 1. −3 serves an image
        /// \[C, H, W\] and a batch of them alike.
        channel_axis: isize,
        /// The least number that is divided by; smaller deviations count as this. Default: 0, and a
        /// deviation of 0 is an error.
        least_deviation: f64,
    }

    /// As a framework has it: keras-3 or tf-keras-2 (`Normalization`: channels last, and at least
    /// 1e-7), pytorch-2 (`torchvision.transforms.Normalize`: axis −3) or mxnet-1.9-gluon
    /// (`transforms.Normalize`: axis −3). Later calls override.
    ///
    /// # Errors
    /// If there is no such name.
    ///
    /// ```
    /// use cellnorm::data::NormalizeConfig;
    /// let layer = NormalizeConfig::preset("keras-3")?.init(&[1.0], &[0.0])?;
    /// assert_eq!(layer.forward(ndarray::array![[1.0, 1.5]].t())?[[0, 0]], 0.0);
    /// assert!(NormalizeConfig::preset("pytorch-2")?.init(&[1.0], &[0.0]).is_err());
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self, Error> {
        let (channel_axis, least_deviation) = crate::presets::normalize(name)?;
        Ok(Self { channel_axis, least_deviation })
    }

    /// The normalization by this mean and this standard deviation of each channel.
    ///
    /// # Errors
    /// If there are not as many means as deviations, none, or one is not finite; or if a deviation
    /// is negative, or 0 without a [`least_deviation`](Self::least_deviation).
    pub fn init(self, mean: &[f64], deviation: &[f64]) -> Result<Normalize, Error> {
        let Self { channel_axis, least_deviation } = self;
        let sound = (0.0..f64::INFINITY).contains(&least_deviation);
        check_number("the least deviation", least_deviation, sound, "finite and at least 0")?;
        if mean.is_empty() {
            return Err(Error::Parameter { name: "the mean", given: vec![0], expected: vec![1] });
        }
        if mean.len() != deviation.len() {
            let (given, expected) = (vec![deviation.len()], vec![mean.len()]);
            return Err(Error::Parameter { name: "the deviation", given, expected });
        }
        for (mean, own) in mean.iter().zip(deviation) {
            check_number("a mean", *mean, mean.is_finite(), "finite")?;
            let sound = own.is_finite() && *own >= 0.0 && own.max(least_deviation) > 0.0;
            let expected = "finite and above 0; drop a constant channel, or set least_deviation";
            check_number("a deviation", *own, sound, expected)?;
        }
        let deviation = deviation.iter().map(|own| own.max(least_deviation)).collect();
        Ok(Normalize { mean: mean.to_vec(), deviation, channel_axis })
    }

    /// The normalization by the mean and the standard deviation, over n, of each channel of x:
    /// Keras' `adapt`. Data that do not fit into memory are summed up by a
    /// [`Forest`](super::Forest), or by `cellnorm stats`.
    ///
    /// # Errors
    /// Same errors as [`init`](Self::init); also if x has no values, NaN or infinity, or no such
    /// axis.
    ///
    /// ```
    /// use cellnorm::data::NormalizeConfig;
    /// let x = ndarray::array![[1.0, 10.0], [3.0, 30.0]];
    /// let layer = NormalizeConfig::default().adapt(x.view())?;
    /// assert_eq!((layer.mean(), layer.deviation()), (&[2.0, 20.0][..], &[1.0, 10.0][..]));
    /// assert_eq!(layer.forward(x.view())?, ndarray::array![[-1.0, -1.0], [1.0, 1.0]]);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn adapt<T: Element, D: Dimension>(
        self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Normalize, Error> {
        check_not_empty(x.shape())?;
        let channel = axis_index(self.channel_axis, x.ndim())?;
        let roles = Roles::new((0..x.ndim()).map(|axis| (axis != channel, axis == channel)));
        let x = Arranged::new(CowArray::from(x.into_dyn()), &roles)?;
        let statistics = x.plan.statistics(x.slice());
        let finite = statistics.mean.iter().chain(&statistics.variance).all(|v| v.is_finite());
        if !finite {
            let sound = |v: &f64| v.is_finite();
            let set = statistics.variance.iter().position(|v| !sound(v)).unwrap_or(0);
            return Err(Error::NotFinite { name: "x", set, sets: statistics.mean.len() });
        }
        let deviation: Vec<f64> = statistics.variance.iter().map(|v| v.sqrt()).collect();
        self.init(&statistics.mean, &deviation)
    }
}

/// Normalization of data by given numbers: y = (x − mean_c) / deviation_c, forward, backward and
/// inverted. Nothing is learned, and it is the same in training and in inference.
///
/// ```
/// use cellnorm::data::Normalize;
/// // two samples of two channels
/// let layer = Normalize::new(&[1.0, 10.0], &[2.0, 5.0])?;
/// let x = ndarray::array![[3.0, 0.0], [1.0, 20.0]];
/// let y = layer.forward(x.view())?;
/// assert_eq!(y, ndarray::array![[1.0, -2.0], [0.0, 2.0]]);
/// assert_eq!(layer.invert(y.view())?, x);
/// assert_eq!(layer.backward(x.view())?, ndarray::array![[1.5, 0.0], [0.5, 4.0]]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    channel_axis: isize,
}

impl Normalize {
    /// With this mean and this standard deviation of each channel, on axis 1.
    ///
    /// # Errors
    /// Same errors as [`NormalizeConfig::init`]; a deviation of 0 is one.
    pub fn new(mean: &[f64], deviation: &[f64]) -> Result<Self, Error> {
        NormalizeConfig::default().init(mean, deviation)
    }

    /// With the numbers of a name, channels on axis −3: images \[C, H, W\] and batches of them.
    ///
    /// ```
    /// use cellnorm::data::{Normalize, known::MNIST};
    /// assert_eq!(Normalize::known(&MNIST).mean(), MNIST.mean);
    /// ```
    pub fn known(known: &Known) -> Self {
        let (mean, deviation) = (known.mean.to_vec(), known.deviation.to_vec());
        Self { mean, deviation, channel_axis: -3 }
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The number that each channel is divided by.
    pub fn deviation(&self) -> &[f64] {
        &self.deviation
    }

    /// y = (x − mean) / deviation, over x itself where the array is handed over. NaN and infinity
    /// pass on to y.
    ///
    /// # Errors
    /// If x has another number of channels, or no such axis, or 1 / deviation is beyond f32, in
    /// which all types but f64 are computed.
    pub fn forward<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let map = |(mean, deviation)| Affine { center: mean, scale: 1.0 / deviation, offset: 0.0 };
        self.run(x.into(), map)
    }

    /// dx = dy / deviation, over dy itself where the array is handed over.
    ///
    /// # Errors
    /// Same errors as [`forward`](Self::forward).
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let map = |(_, deviation)| Affine { center: 0.0, scale: 1.0 / deviation, offset: 0.0 };
        self.run(dy.into(), map)
    }

    /// x = y · deviation + mean, over y itself where the array is handed over: Keras'
    /// `invert=True`.
    ///
    /// # Errors
    /// Same errors as [`forward`](Self::forward), with the deviation for 1 / deviation.
    pub fn invert<'a, T: Element, D: Dimension>(
        &self,
        y: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let map = |(mean, deviation)| Affine { center: 0.0, scale: deviation, offset: mean };
        self.run(y.into(), map)
    }

    fn run<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        map: impl Fn((f64, f64)) -> Affine,
    ) -> Result<Array<T, D>, Error> {
        let (shape, channels) = (x.shape().to_vec(), self.mean.len());
        let axis = axis_index(self.channel_axis, shape.len())?;
        if shape[axis] != channels {
            return Err(Error::Channels { axis, shape, channels });
        }
        if x.is_empty() {
            return Ok(x.into_owned());
        }
        let numbered: Vec<bool> = (0..shape.len()).map(|own| own == axis).collect();
        let x = Arranged::in_cells(x.into_dyn(), &numbered, None)?;
        let numbers = self.mean.iter().copied().zip(self.deviation.iter().copied());
        let maps: Vec<Affine> = numbers.map(map).collect();
        for Affine { scale, .. } in &maps {
            let fits = size_of::<T>() == 8 || (*scale as f32).is_finite();
            let expected = "in the range of f32, or of f64 where x is f64; look at the deviation";
            check_number("a factor", *scale, fits && scale.is_finite(), expected)?;
        }
        let y = x.map_owned(|grid, buffers| {
            let channels = grid.coordinates[axis].as_ref().map_or(&[][..], Labels::as_slice);
            let affines: Vec<Affine> = channels.iter().map(|c| maps[*c as usize]).collect();
            grid.region.affine(buffers, &affines);
        });
        Ok(typed(y))
    }
}
