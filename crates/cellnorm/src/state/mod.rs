//! A normalization's parameters and statistics, from and to a framework's named tensors.
//!
//! ```
//! use cellnorm::state::{DType, Known, State, Tensor, Tensors};
//! use cellnorm::{Normalization, Semantics};
//! use ndarray::array;
//!
//! let torch = Semantics::preset("pytorch-2", Normalization::Batch)?;
//! let numbers = [("weight", 1.5), ("bias", 0.5), ("running_mean", 2.0), ("running_var", 8.0)];
//! let of = |(name, value)| (format!("layer1.bn.{name}"), Tensor::new(array![value].into_dyn(), DType::F32));
//! let checkpoint: Tensors = numbers.map(of).into();
//! let state = State::find(&checkpoint, "layer1.bn.", &torch)?;
//!
//! // Keras keeps the biased variance; each batch had 4 values a channel, and ε stays PyTorch's
//! let keras = Semantics::preset("keras-3", Normalization::Batch)?.keeping(&torch);
//! let converted = state.to(&keras, &torch, &Known { values: Some(4.0), ..Known::default() })?;
//! assert_eq!(converted.variance, Some(array![6.0].into_dyn()));
//!
//! let mut variables = Tensors::new();
//! converted.put(&mut variables, "conv/bn/{}:0", &keras, DType::F32)?;
//! assert_eq!(variables["conv/bn/gamma:0"].values, array![1.5].into_dyn());
//! # Ok::<(), cellnorm::Error>(())
//! ```

#[cfg(feature = "files")]
mod bytes;
#[cfg(feature = "files")]
mod checkpoint;
mod convert;
#[cfg(feature = "files")]
mod files;
mod layers;
#[cfg(feature = "files")]
mod npz;
#[cfg(feature = "pytorch")]
mod pytorch;
#[cfg(feature = "files")]
mod search;

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, check_number, check_numbers, check_shape};
use crate::momentum::Momentum;
use crate::semantics::{Semantics, Unlearned};
#[cfg(feature = "files")]
pub use checkpoint::Checkpoint;
pub use convert::Known;
#[cfg(feature = "files")]
pub use files::{read, write};
#[cfg(feature = "files")]
pub use search::{Found, Names};

/// The type that a tensor's values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Bytes.
    U8,
    /// Integers of 32 bits.
    I32,
    /// Integers of 64 bits; those beyond 2^53 are refused, since f64 does not hold them.
    I64,
}

/// Values as f64, and the type that they are stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The values.
    pub values: ArrayD<f64>,
    /// Their type in the checkpoint.
    pub dtype: DType,
}

impl Tensor {
    /// Values to be stored in this type.
    pub fn new(values: ArrayD<f64>, dtype: DType) -> Self {
        Self { values, dtype }
    }
}

/// The tensors of a checkpoint by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The tensors that one normalization stores; `None` where the layer has no such tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// γ.
    pub gamma: Option<ArrayD<f64>>,
    /// β.
    pub beta: Option<ArrayD<f64>>,
    /// The running mean.
    pub mean: Option<ArrayD<f64>>,
    /// The running variance.
    pub variance: Option<ArrayD<f64>>,
    /// The number of training steps.
    pub steps: Option<u64>,
    /// The parameters besides γ and β, by name: ρ of batch-instance normalization is `rho`.
    pub others: BTreeMap<String, ArrayD<f64>>,
}

/// How a layer's names become those of the checkpoint: a prefix, or a pattern with `{}` for them.
///
/// Frameworks that keep parameters and statistics apart have two: `Place::apart("params/bn/",
/// "batch_stats/bn/")` for Flax, `Place::apart("arg:bn_", "aux:bn_")` for MXNet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    parameters: String,
    statistics: String,
}

impl Place {
    /// With the parameters at one place and the statistics at another.
    pub fn apart(parameters: &str, statistics: &str) -> Self {
        Self { parameters: parameters.into(), statistics: statistics.into() }
    }
}

impl From<&str> for Place {
    fn from(place: &str) -> Self {
        Self::apart(place, place)
    }
}

/// The names of γ, β, mean, variance and steps in the checkpoint.
fn names(place: &Place, semantics: &Semantics) -> [Option<String>; 5] {
    let Place { parameters, statistics } = place;
    let mut places = [parameters, parameters, statistics, statistics, statistics].into_iter();
    semantics.names().map(|name| {
        let place = places.next().expect("a place for each");
        name.map(|name| placed(place, name))
    })
}

/// The name in the checkpoint.
fn placed(place: &str, name: &str) -> String {
    match place.contains("{}") {
        true => place.replace("{}", name),
        false => format!("{place}{name}"),
    }
}

impl State {
    /// Finds a layer's tensors. A γ or β that the semantics do not learn is taken where it is
    /// stored, except where the framework itself ignores it ([`Unlearned::Ignored`]); a layer that
    /// is made with these semantics has one, frozen. Where γ or β is not there, its
    /// [former](crate::semantics::ParameterNames::former) name is looked for. Steps may be missing;
    /// [`warning`](Self::warning) says where that matters.
    ///
    /// # Errors
    /// If a tensor is missing, holds NaN or infinity, a variance is negative, shapes differ between
    /// γ and β or between mean and variance, or the steps are not one whole number.
    pub fn find(
        tensors: &Tensors,
        place: impl Into<Place>,
        semantics: &Semantics,
    ) -> Result<Self, Error> {
        let place = place.into();
        let [mut gamma, mut beta, mean, variance, steps] = names(&place, semantics);
        for (name, former) in
            [&mut gamma, &mut beta].into_iter().zip(semantics.names.former.iter().flatten())
        {
            let former = placed(&place.parameters, former);
            if name.as_ref().is_some_and(|name| !tensors.contains_key(name))
                && tensors.contains_key(&former)
            {
                *name = Some(former);
            }
        }
        let affine = |name: Option<String>, learned: bool, role: Unlearned| match name {
            Some(name) if learned || role != Unlearned::Ignored => take(tensors, &name, learned),
            _ => Ok(None),
        };
        let running = |name: Option<String>| match name {
            Some(name) => take(tensors, &name, true),
            None => Ok(None),
        };
        let state = Self {
            gamma: affine(gamma, semantics.scale, semantics.unlearned_gamma)?,
            beta: affine(beta, semantics.center, semantics.unlearned_beta)?,
            mean: running(mean)?,
            variance: running(variance.clone())?,
            steps: steps.map_or(Ok(None), |name| take_steps(tensors, &name))?,
            others: BTreeMap::new(),
        };
        for (name, a, b) in [
            ("beta", &state.gamma, &state.beta),
            ("the running variance", &state.mean, &state.variance),
        ] {
            if let (Some(a), Some(b)) = (a, b) {
                check_shape(name, b.shape(), a.shape())?;
            }
        }
        if let Some(given) = state.variance.iter().flatten().find(|v| **v < 0.0) {
            let problem = format!("holds the variance {given}; a variance is not negative");
            return Err(Error::tensor(&variance.unwrap_or_default(), problem));
        }
        Ok(state)
    }

    /// Puts the layer's tensors where `place` says, of this type; steps are I64.
    ///
    /// γ and β that are absent are put as 1 and 0 where the semantics store them. State of another
    /// framework is to be [converted](Self::to) before.
    ///
    /// # Errors
    /// If the semantics need a tensor that is absent, γ or β must be made and no shape is known, or
    /// there are other parameters, for which no semantics have a name.
    pub fn put(
        &self,
        tensors: &mut Tensors,
        place: impl Into<Place>,
        semantics: &Semantics,
        dtype: DType,
    ) -> Result<(), Error> {
        if let Some(name) = self.others.keys().next() {
            let problem = format!(
                "has no name in {}; put it among the tensors yourself, and clear `others`",
                semantics.name
            );
            return Err(Error::tensor(name, problem));
        }
        let [gamma, beta, mean, variance, steps] = names(&place.into(), semantics);
        let affine = |values: &Option<ArrayD<f64>>, learned: bool, role, fixed: f64| {
            let stored = role != Unlearned::Absent;
            let made = || self.shape().map(|shape| ArrayD::from_elem(IxDyn(&shape), fixed));
            let made = values.clone().or_else(|| made().filter(|_| stored && !learned));
            (made, learned || stored)
        };
        let running = semantics.running_statistics;
        let (gamma_values, gamma_needed) =
            affine(&self.gamma, semantics.scale, semantics.unlearned_gamma, 1.0);
        let (beta_values, beta_needed) =
            affine(&self.beta, semantics.center, semantics.unlearned_beta, 0.0);
        let rows = [
            (gamma, gamma_values, gamma_needed),
            (beta, beta_values, beta_needed),
            (mean, self.mean.clone(), running),
            (variance, self.variance.clone(), running),
        ];
        let mut found = Tensors::new();
        for (name, values, needed) in rows {
            match (name, values) {
                (Some(name), Some(values)) => drop(found.insert(name, Tensor::new(values, dtype))),
                (Some(name), None) if needed => {
                    let problem =
                        format!("is part of {}, but the state does not have it", semantics.name);
                    return Err(Error::tensor(&name, problem));
                }
                _ => {}
            }
        }
        if let (Some(name), Some(steps)) = (steps, self.steps) {
            found
                .insert(name, Tensor::new(ArrayD::from_elem(IxDyn(&[]), steps as f64), DType::I64));
        }
        tensors.append(&mut found);
        Ok(())
    }

    /// The averages, where the mean and the variance hold sums over so many batches, of the means
    /// and of variance + mean²: switchable normalization's checkpoints with
    /// `using_moving_average=False`.
    ///
    /// # Errors
    /// If there are no such sums, there was no batch, or they are not those of real numbers.
    ///
    /// ```
    /// use cellnorm::state::State;
    /// use ndarray::arr1;
    /// // two batches, of mean 1 and variance 2, and of mean 3 and variance 4
    /// let (mean, variance) = (Some(arr1(&[4.0]).into_dyn()), Some(arr1(&[16.0]).into_dyn()));
    /// let averages = State { mean, variance, ..State::default() }.averaged(2)?;
    /// assert_eq!(averages.variance.unwrap()[0], 4.0); // 3, and 1 between the means
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn averaged(self, batches: u64) -> Result<Self, Error> {
        let n = batches as f64;
        check_number("the number of batches", n, batches > 0, "at least 1")?;
        let (Some(mean), Some(square)) = (self.mean, self.variance) else {
            let problem = "is missing, with the sums of the batches' means or squares";
            return Err(Error::tensor("running_mean or running_var", problem));
        };
        check_shape("running_var", square.shape(), mean.shape())?;
        for (name, sums) in [("running_mean", &mean), ("running_var", &square)] {
            check_numbers(name, sums, f64::is_finite, "finite")?;
        }
        let (mean, square) = (mean / n, square / n);
        // sums in f32 of equal values come out below 0 by their rounding
        let rounded = |(square, mean): (&f64, &f64)| {
            let variance = square - mean * mean;
            if variance < 0.0 && variance > -1e-6 * square { 0.0 } else { variance }
        };
        let variance: Vec<f64> = square.iter().zip(&mean).map(rounded).collect();
        let is_bad = |variance: &&f64| variance.is_nan() || **variance < 0.0;
        if let Some(given) = variance.iter().find(is_bad) {
            let problem = format!(
                "holds sums of a variance {given}, which is below 0; count all batches, and \
                 average once"
            );
            return Err(Error::tensor("running_var", problem));
        }
        let variance = ArrayD::from_shape_vec(mean.raw_dim(), variance).expect("as many as means");
        Ok(Self { mean: Some(mean), variance: Some(variance), steps: Some(batches), ..self })
    }

    /// The same values, as they lie, in another shape: of γ, β and the running statistics.
    ///
    /// Keras before 3.14 (and before 3.16 for axes of mixed signs, `axis=[1, -2]`) gives γ and β
    /// the shape of the axes in the order that they were named, `axis=[3, 1]`, but applies their
    /// values in the order of the tensor's axes: this takes them to the shape that
    /// [`over`](crate::LayerNormConfig::over) has. It also drops axes of length 1, which code that
    /// broadcasts by hand stores.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    ///
    /// ```
    /// use cellnorm::state::State;
    /// let gamma = ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].into_dyn();
    /// let state = State { gamma: Some(gamma), ..State::default() }.reshaped(&[2, 3])?;
    /// assert_eq!(state.gamma.unwrap()[[0, 2]], 3.0);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn reshaped(self, shape: &[usize]) -> Result<Self, Error> {
        let reshape = |name, values: Option<ArrayD<f64>>| {
            let reshaped = values.map(|values| {
                let given = values.shape().to_vec();
                let values = values.iter().copied().collect();
                ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|_| Error::Parameter {
                    name,
                    given,
                    expected: shape.to_vec(),
                })
            });
            reshaped.transpose()
        };
        Ok(Self {
            gamma: reshape("gamma", self.gamma)?,
            beta: reshape("beta", self.beta)?,
            mean: reshape("running_mean", self.mean)?,
            variance: reshape("running_var", self.variance)?,
            ..self
        })
    }

    /// A warning about a layer of this momentum that [loads](crate::rule::Norm::load) the state:
    /// under [`Momentum::Cumulative`] (PyTorch's `momentum=None`), a state without steps makes the
    /// next batch count as the first, as in PyTorch, and the loaded running averages are lost.
    ///
    /// ```
    /// use cellnorm::{Momentum, state::State};
    /// use ndarray::arr1;
    /// let (mean, variance) = (Some(arr1(&[2.0]).into_dyn()), Some(arr1(&[8.0]).into_dyn()));
    /// let state = State { mean, variance, ..State::default() };
    /// let note = state.warning(Momentum::Cumulative).unwrap();
    /// assert!(note.contains("the next batch replaces the running averages"));
    /// assert_eq!(state.warning(Momentum::Step(0.1)), None);
    /// assert_eq!(State { steps: Some(300), ..state }.warning(Momentum::Cumulative), None);
    /// ```
    pub fn warning(&self, momentum: Momentum) -> Option<String> {
        let lost = momentum.counts_batches() && self.mean.is_some() && self.steps.is_none();
        lost.then(|| {
            "the number of steps (num_batches_tracked) is absent and momentum counts them: a \
             new layer counts from 0, so the next batch replaces the running averages; set `steps` \
             to the number of batches they have seen"
                .into()
        })
    }

    /// A parameter by its name.
    fn parameter(&self, name: &str) -> Option<&ArrayD<f64>> {
        match name {
            "gamma" => self.gamma.as_ref(),
            "beta" => self.beta.as_ref(),
            _ => self.others.get(name),
        }
    }

    /// The shape that γ and β would have, from what there is.
    fn shape(&self) -> Option<Vec<usize>> {
        let all = [&self.gamma, &self.beta, &self.mean, &self.variance];
        all.into_iter().flatten().next().map(|values| values.shape().to_vec())
    }
}

/// The values of a tensor, which must be finite.
fn take(tensors: &Tensors, name: &str, needed: bool) -> Result<Option<ArrayD<f64>>, Error> {
    let Some(tensor) = tensors.get(name) else {
        let error = || missing(name, tensors.keys().map(String::as_str));
        return if needed { Err(error()) } else { Ok(None) };
    };
    match tensor.values.iter().find(|v| !v.is_finite()) {
        Some(value) => Err(Error::tensor(name, format!("holds {value}; it must be finite"))),
        None => Ok(Some(tensor.values.clone())),
    }
}

/// The error for a missing tensor, with the names that end alike.
fn missing<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Error {
    let last = |name: &str| name.rsplit(['.', '/', '_']).next().map(str::to_owned);
    let like = names.filter(|known| last(known) == last(name)).take(5).map(str::to_owned).collect();
    Error::MissingTensor { name: name.into(), like }
}

/// The number of steps, where there is one.
fn take_steps(tensors: &Tensors, name: &str) -> Result<Option<u64>, Error> {
    let Some(tensor) = tensors.get(name) else { return Ok(None) };
    let whole = |steps: f64| steps.fract() == 0.0 && (0.0..=(1_u64 << 53) as f64).contains(&steps);
    match tensor.values.first() {
        Some(steps) if tensor.values.len() == 1 && whole(*steps) => Ok(Some(*steps as u64)),
        first => {
            let given = first.map_or("nothing".into(), f64::to_string);
            let problem = format!("holds {given}; it must be one whole number of steps up to 2^53");
            Err(Error::tensor(name, problem))
        }
    }
}
