//! The normalizations of single samples as operations.
//!
//! They are called on single rows, too, where arranging an array takes longer than normalizing it:
//! what lies in row-major order, and is all right, goes to the plan as it is.

use candle_core::Tensor;
use cellnorm::norms::{Kind, Norm};
use cellnorm::passes::Buffers;
use cellnorm::tables::{Mask, Standard};
use cellnorm::{Element, Error, OneValue, Parameters, Plan, Saved, Statistics};
use ndarray::{ArrayD, ArrayViewD};

use super::{Layer, Slots};
use crate::composed::{self, Applied, Terms};
use crate::numbers::{finite, row_major, wrong};

/// What a normalization of single samples leaves for backward.
pub(crate) enum Kept {
    /// Of a tensor in row-major order: how it lies, and the statistics.
    InPlace(Plan, Statistics),
    /// Of any other, which was arranged, and under a mask.
    Arranged(Saved),
}

fn parameters<K>(norm: &Norm<K>) -> Parameters<'_> {
    let [gamma, beta] =
        [&norm.gamma, &norm.beta].map(|of| of.as_ref().and_then(|of| of.as_slice()));
    Parameters { gamma, beta, ..Parameters::default() }
}

/// y and what backward needs, where x is in row-major order and nothing is wrong with it or the
/// layer.
fn in_place<K: Kind, T: Element>(
    norm: &Norm<K>,
    x: &ArrayViewD<'_, T>,
) -> Result<Option<(ArrayD<T>, Kept)>, Error> {
    let Some(elements) = x.as_slice().filter(|elements| !elements.is_empty()) else {
        return Ok(None);
    };
    let roles = norm.kind().roles(x.shape(), norm.gamma.is_some() || norm.beta.is_some())?;
    let Some(plan) =
        Plan::new(&roles.axes(x.shape(), x.strides())).filter(|plan| plan.values_per_set() > 1.0)
    else {
        return Ok(None);
    };
    let shape = norm.kind().parameter_shape();
    let sound = |of: &ArrayD<f64>| of.shape() == shape && of.as_slice().is_some_and(finite);
    if ![&norm.gamma, &norm.beta].into_iter().flatten().all(sound) {
        return Ok(None);
    }
    let mut y = vec![];
    let statistics =
        plan.forward(Buffers::Into(elements, &mut y), K::ABOUT, norm.epsilon, parameters(norm));
    // NaN and infinity in x show in the statistics of their set
    if !finite(&statistics.mean) || !finite(&statistics.variance) {
        return Ok(None);
    }
    Ok(Some((shaped(y, x), Kept::InPlace(plan, statistics))))
}

fn shaped<T: Element>(elements: Vec<T>, x: &ArrayViewD<'_, T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(x.raw_dim(), elements).expect("as many as x has")
}

/// Its slots are γ and β.
impl<K: Kind + Send + Sync + 'static> Layer for Norm<K> {
    const NAME: &'static str = K::NAME;
    type Saved = Kept;

    fn set(&mut self, slot: usize, values: ArrayD<f64>) {
        *[&mut self.gamma, &mut self.beta][slot] = Some(values);
    }

    fn forward<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
        mask: Option<&Mask>,
    ) -> Result<(ArrayD<T>, Kept), Error> {
        let (y, saved) = match mask {
            Some(mask) => self.forward_masked(x, mask)?,
            None => match in_place(self, &x)? {
                Some(done) => return Ok(done),
                None => Norm::forward(self, x)?,
            },
        };
        Ok((y, Kept::Arranged(saved)))
    }

    fn backward<T: Element>(
        &self,
        kept: &Kept,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<(ArrayD<T>, Slots), Error> {
        let (plan, statistics) = match kept {
            Kept::InPlace(plan, statistics) => (plan, statistics),
            Kept::Arranged(saved) => {
                let gradients = Norm::backward(self, saved, x, dy)?;
                return Ok((gradients.dx, vec![gradients.dgamma, gradients.dbeta]));
            }
        };
        let elements = x.as_slice().expect("it was in row-major order");
        // dβ is wanted even without β: it shows NaN in dy
        let zeros = vec![0.0; plan.channels()];
        let parameters = parameters(self);
        let parameters = Parameters { beta: Some(parameters.beta.unwrap_or(&zeros)), ..parameters };
        let run = |buffers| {
            plan.backward(elements, buffers, statistics, K::ABOUT, self.epsilon, parameters, false)
        };
        let mut dx = vec![];
        let gradients = match dy.as_slice() {
            Some(dy) => run(Buffers::Into(dy, &mut dx)),
            None => {
                dx = row_major(dy.to_owned());
                run(Buffers::Over(&mut dx))
            }
        };
        // with a finite dy, what is left is x
        for (name, table) in [("dy", &gradients.beta), ("x", &gradients.gamma)] {
            if let Some(set) = table.iter().position(|of| !of.is_finite()) {
                return Err(Error::NotFinite { name, set, sets: table.len() });
            }
        }
        let of = |of: &Option<ArrayD<f64>>, values| {
            of.as_ref().map(|of| {
                ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many as channels")
            })
        };
        Ok((shaped(dx, &x), vec![of(&self.gamma, gradients.gamma), of(&self.beta, gradients.beta)]))
    }

    fn composed(
        &mut self,
        x: &Tensor,
        parameters: &[Option<Tensor>],
        mask: Option<&Mask>,
    ) -> candle_core::Result<Tensor> {
        let affine = parameters.iter().any(Option::is_some);
        let Some(mask) = mask else {
            let refused = match self.one_value {
                OneValue::Error | OneValue::AlwaysError => Some(Self::NAME),
                OneValue::Beta | OneValue::UseRunning => None,
            };
            let roles = self.kind().roles(x.dims(), affine).map_err(wrong)?;
            return composed::standardize(x, parameters, &roles, K::ABOUT, self.epsilon, refused);
        };
        let rule = Standard::new(self.kind(), x.dims(), affine).map_err(wrong)?;
        let terms = Terms {
            epsilon: self.epsilon,
            one_value: self.one_value,
            batch: true,
            mask: Some(mask),
        };
        let named: Vec<_> = ["gamma", "beta"].into_iter().zip(parameters.iter().cloned()).collect();
        Ok(Applied { rule: &rule, terms, parameters: &named, running: None }.run(x)?.0)
    }
}
