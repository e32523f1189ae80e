//! The layers, with Burn's names and records.

mod adaptive;
mod averages;
mod batch;
mod features;
mod group;
mod instance;
mod layer;
mod local_response;
mod lp;
mod parts;
pub(crate) mod recording;
mod rms;
pub(crate) mod rules;
mod step;
mod tlu;

pub use adaptive::{AdaptiveNorm, AdaptiveNormConfig};
pub use batch::{BatchNorm, BatchNormConfig};
pub use features::Features;
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig};
pub use local_response::{LocalResponseNorm, LocalResponseNormConfig};
pub use lp::{LpNorm, LpNormConfig};
pub use rms::{RmsNorm, RmsNormConfig};
pub use rules::*;
pub use step::AtStep;
pub use tlu::{Tlu, TluConfig};

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Bool, DType, Device, Tensor};
use cellnorm::norms::{Kind, Lines};
use cellnorm::tables::{Sharing, Standard, Tracked};
use cellnorm::{Error, OneValue};

use crate::tables::{Applied, Table};

/// γ and β as a layer holds them.
type Parameter = Option<Param<Tensor<1>>>;

/// γ and β for `len` channels, where they are wanted.
fn parameters(
    len: usize,
    wanted: [bool; 2],
    initializers: [&Initializer; 2],
    device: &Device,
) -> [Parameter; 2] {
    std::array::from_fn(|i| wanted[i].then(|| initializers[i].init([len], device)))
}

fn value(parameter: &Parameter) -> Option<Tensor<1>> {
    parameter.as_ref().map(|parameter| parameter.val())
}

/// # Panics
/// If ε is not finite and at least 1e-36.
pub(crate) fn check_epsilon(epsilon: f64) {
    if let Err(error) = cellnorm::check_epsilon(epsilon) {
        panic!("{error}");
    }
}

/// Normalizes the values alone where the mask is true, with their own statistics or the running
/// ones; and their own statistics.
///
/// # Panics
/// If the shape of x does not suit the kind, or the mask does not fit it.
fn masked<K: Kind, const D: usize>(
    kind: &K,
    x: Tensor<D>,
    mask: Tensor<D, Bool>,
    (gamma, beta): (Option<Tensor<1>>, Option<Tensor<1>>),
    running: Option<(Tensor<1>, Tensor<1>)>,
    epsilon: f64,
) -> (Tensor<D>, Tracked<Table>) {
    let rule = Standard::new(kind, &x.dims(), gamma.is_some() || beta.is_some());
    let rule = &rule.unwrap_or_else(|error| panic!("{error}"));
    let (parameters, batch) = (vec![("gamma", gamma), ("beta", beta)], running.is_none());
    let applied = Applied {
        rule,
        epsilon,
        one_value: OneValue::default(),
        parameters,
        running,
        batch,
        mask: Some(mask),
    };
    let (y, tracked) = applied.run(x).unwrap_or_else(|error| panic!("{error}"));
    (y, tracked.expect("the rule always tracks its sets"))
}

/// Which values of a tensor of this shape share what they are divided by.
///
/// # Panics
/// If the shape does not suit the normalization, or the tensor is empty.
fn sharing_of<L: Lines>(layer: &L, shape: &[usize]) -> Sharing {
    let sharing = if shape.contains(&0) {
        Err(Error::Empty { shape: shape.to_vec() })
    } else {
        layer.sharing(shape)
    };
    sharing.unwrap_or_else(|error| panic!("{error}"))
}

/// A function of x, computed in f32 where x has fewer digits: half precision has no room for
/// powers.
pub(crate) fn at_least_single<const D: usize>(
    x: Tensor<D>,
    of: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    of(x.cast(wide)).cast(dtype)
}

/// `with_semantics` of the layers of single samples: the fields that they take over.
macro_rules! semantics {
    ($($field:ident),* $(; parameters = $from:ident)?) => {
        /// As a framework has it: ε, γ and β, and where the layer has one the channel axis.
        pub fn with_semantics(mut self, semantics: &cellnorm::Semantics) -> Self {
            $(self.$field = semantics.$field;)*
            $(self.parameters = semantics.$from;)?
            self
        }
    };
}
use semantics;

/// `forward_activated` and `forward_masked` of the layers of single samples.
macro_rules! further_forwards {
    () => {
        /// As [`forward`](Self::forward), with an activation behind it in the same pass over
        /// memory.
        ///
        /// # Panics
        /// As [`forward`](Self::forward).
        pub fn forward_activated<const D: usize>(
            &self,
            x: Tensor<D>,
            activation: cellnorm::Activation,
        ) -> Tensor<D> {
            let (gamma, beta) = (value(&self.gamma), value(&self.beta));
            crate::functions::normalize_activated(
                &self.kind(),
                x,
                gamma,
                beta,
                self.epsilon,
                activation,
            )
            .y
        }

        /// As [`forward`](Self::forward), over the values alone where the mask is true; y and dx
        /// are 0 at the others, whatever x holds there. Each axis of the mask is as long as that of
        /// x, or 1.
        ///
        /// # Panics
        /// As [`forward`](Self::forward), or if the mask does not fit x.
        pub fn forward_masked<const D: usize>(
            &self,
            x: Tensor<D>,
            mask: Tensor<D, burn::tensor::Bool>,
        ) -> Tensor<D> {
            super::masked(
                &self.kind(),
                x,
                mask,
                (value(&self.gamma), value(&self.beta)),
                None,
                self.epsilon,
            )
            .0
        }
    };
}
use further_forwards;
