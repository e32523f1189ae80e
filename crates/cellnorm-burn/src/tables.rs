//! The rules of [`cellnorm::tables`] on Burn tensors: the same formula, differentiated by its tape
//! or by Burn.
//!
//! On Flex a rule is [one operation](crate::ops::RuleOps), which computes on tables as arrays do.
//! On devices without the fused operations it is composed: moments of Burn's own operations, tables
//! of Burn tensors, and [`cell_affine`](crate::functions::cell_affine).

use std::ops::{Add, Div, Mul, Sub};

use burn::backend::Dispatch;
use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor, TensorData};
use cellnorm::tables::{
    self, Coefficients, Figure, Formula, Given, Labels, Mask, Region, Rule, Statistics, Terms,
    Tracked,
};
use cellnorm::{Cells, Error, OneValue, check_epsilon};
use ndarray::{ArrayD, IxDyn};

use crate::composed;
use crate::ops::{RuleOps, RuleSpec, is_fused};

/// A table of numbers as a Burn tensor.
#[derive(Clone, Debug)]
pub struct Table(pub Tensor<1>);

impl Table {
    fn indices(&self, labels: &Labels) -> Tensor<1, Int> {
        let of: Vec<i64> = labels.of().iter().map(|label| i64::from(*label)).collect();
        let len = of.len();
        Tensor::from_data(TensorData::new(of, [len]), &self.0.device())
    }

    /// A parameter as a table, in the type of the tables.
    fn of_parameter(parameter: Tensor<1>, dtype: DType) -> Self {
        Self(parameter.cast(dtype))
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident);*) => {$(
        impl $trait for Table {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self($trait::$method(self.0, other.0))
            }
        }
    )*};
}
operator!(Add, add; Sub, sub; Mul, mul; Div, div);

impl tables::Table for Table {
    fn constant(&self, values: Vec<f64>) -> Self {
        let len = values.len();
        Self(Tensor::from_data(TensorData::new(values, [len]), (&self.0.device(), self.0.dtype())))
    }

    fn plus(self, number: f64) -> Self {
        Self(self.0.add_scalar(number))
    }

    fn times(self, number: f64) -> Self {
        Self(self.0.mul_scalar(number))
    }

    fn sqrt(self) -> Self {
        // the gradient of a root at 0 is infinite, and infinite times 0 is NaN
        Self(self.0.clamp_min(1e-38).sqrt())
    }

    fn recip(self) -> Self {
        Self(self.0.recip())
    }

    fn exp(self) -> Self {
        Self(self.0.exp())
    }

    fn abs(self) -> Self {
        Self(self.0.abs())
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        Self(self.0.clamp(low, high))
    }

    fn take(&self, labels: &Labels) -> Self {
        if labels.are_members() {
            return self.clone();
        }
        Self(self.0.clone().select(0, self.indices(labels)))
    }

    fn sum(&self, labels: &Labels) -> Self {
        if labels.are_members() {
            return self.clone();
        }
        let zeros = Tensor::zeros([labels.count()], (&self.0.device(), self.0.dtype()));
        Self(zeros.select_assign(0, self.indices(labels), self.0.clone(), IndexingUpdateOp::Add))
    }

    fn detach(self) -> Self {
        Self(self.0.detach())
    }
}

/// What a rule is given besides x.
pub(crate) struct Applied<'a, R, const D: usize> {
    pub(crate) rule: &'a R,
    pub(crate) epsilon: f64,
    /// What one value a statistic does where there is no mask.
    pub(crate) one_value: OneValue,
    /// The parameters in the order of the rule's slots, flat.
    pub(crate) parameters: Vec<(&'static str, Option<Tensor<1>>)>,
    pub(crate) running: Option<(Tensor<1>, Tensor<1>)>,
    /// Whether statistics are those of x.
    pub(crate) batch: bool,
    /// True where a value is valid.
    pub(crate) mask: Option<Tensor<D, Bool>>,
}

impl<R: Rule + 'static, const D: usize> Applied<'_, R, D> {
    /// y, and the batch's statistics that running averages move toward.
    pub(crate) fn run(self, x: Tensor<D>) -> Result<(Tensor<D>, Option<Tracked<Table>>), Error> {
        check_epsilon(self.epsilon)?;
        let (shape, device) = (x.dims(), x.device());
        let numbered = self.rule.numbered(&shape)?;
        if shape.contains(&0) {
            return Err(Error::Empty { shape: shape.to_vec() });
        }
        if is_fused(device.as_dispatch()) {
            let (region, coordinates) = region(&shape, &numbered, self.mask.clone())?;
            return self.fused(x, region, coordinates);
        }
        let (cells, coordinates) = tables::cells_of(&shape, &numbered);
        let mask = self.mask.map(|mask| mask.expand(shape));
        let x = match &mask {
            // what is masked may hold anything
            Some(mask) => x.mask_fill(mask.clone().bool_not(), 0.0),
            None => x,
        };
        let (mean, variance, counts) = match &mask {
            Some(mask) => composed::masked_moments(x.clone(), mask.clone(), cells),
            None => {
                let (mean, variance) = moments(x.clone(), cells);
                (mean, variance, vec![cells.positions as f64; cells.count()])
            }
        };
        let dtype = mean.dtype();
        let center = mean.clone().detach();
        let sets = tables::sets_of(&self.rule.sharings(&shape)?, &coordinates, cells.count());
        let figure = Figure {
            shape: &shape,
            coordinates: &coordinates,
            sets: &sets,
            counts: &counts,
            mean: Table(mean),
            variance: Table(variance),
            center: Table(center.clone()),
        };
        let stays = mask.is_none() && figure.uses_running(self.rule, self.one_value, self.batch)?;
        let batch = self.batch && !stays;
        let parameters: Vec<_> = self
            .parameters
            .into_iter()
            .map(|(name, value)| (name, value.map(|value| Table::of_parameter(value, dtype))))
            .collect();
        let running = self.running.map(|(mean, variance)| {
            let [mean, variance] =
                [mean, variance].map(|of| Table(of.to_device(&device).detach().cast(dtype)));
            Statistics { mean, variance }
        });
        let given = Given { epsilon: self.epsilon, batch, running, parameters: &parameters };
        let Coefficients { scale, offset } = self.rule.table(&figure, &given);
        let tracked = self.rule.tracked(&figure, &given).filter(|_| !stays);
        let y = affine(x, [center, scale.0, offset.0], cells);
        let y = match mask {
            Some(mask) => y.mask_fill(mask.bool_not(), 0.0),
            None => y,
        };
        Ok((y, tracked))
    }

    /// The rule as one operation.
    fn fused(
        self,
        x: Tensor<D>,
        region: Region,
        coordinates: Vec<Option<Labels>>,
    ) -> Result<(Tensor<D>, Option<Tracked<Table>>), Error> {
        let one_value = self.mask.is_none().then_some(self.one_value);
        let terms = Terms { epsilon: self.epsilon, one_value, batch: self.batch };
        let counts = region.counts();
        let running = self.running.map(|(mean, variance)| Statistics {
            mean: numbers(mean),
            variance: numbers(variance),
        });
        let formula =
            Formula::new(self.rule.clone(), terms, &x.dims(), coordinates, counts, |_| running)?;
        let slots = self
            .parameters
            .iter()
            .map(|(name, of)| (*name, of.as_ref().map(|of| of.dims()[0])))
            .collect();
        let parameters = self.parameters.into_iter().filter_map(|(_, of)| of).collect();
        let (y, tracked) = run(x, parameters, RuleSpec::new(formula, region, slots));
        Ok((y, tracked))
    }
}

/// A rule as one operation: y, and the statistics that running averages move toward.
pub(crate) fn run<const D: usize>(
    x: Tensor<D>,
    mut parameters: Vec<Tensor<1>>,
    spec: RuleSpec,
) -> (Tensor<D>, Option<Tracked<Table>>) {
    let parameters = match parameters.len() {
        // a tensor that nobody looks at
        0 => Tensor::zeros([1], (&x.device(), x.dtype())),
        1 => parameters.remove(0),
        _ => Tensor::cat(parameters, 0),
    };
    let (y, _, tracked) =
        <Dispatch as RuleOps>::rule(x.into_dispatch(), parameters.into_dispatch(), spec);
    let tracked = Tensor::<1>::from_dispatch(tracked);
    let sets = tracked.dims()[0] / 3;
    let part = |i: usize| tracked.clone().narrow(0, i * sets, sets);
    let tracked = (sets > 0).then(|| Tracked {
        mean: Table(part(0)),
        variance: Table(part(1)),
        values: numbers(part(2)),
    });
    (Tensor::from_dispatch(y), tracked)
}

/// The cells of a row-major tensor, those values alone where the mask is true, and the cells'
/// coordinates.
///
/// # Errors
/// If the mask does not fit.
pub(crate) fn region<const D: usize>(
    shape: &[usize; D],
    numbered: &[bool],
    mask: Option<Tensor<D, Bool>>,
) -> Result<(Region, Vec<Option<Labels>>), Error> {
    let Some(mask) = mask else {
        let (cells, coordinates) = tables::cells_of(shape, numbered);
        return Ok((Region::All(cells), coordinates));
    };
    let of_mask = mask.dims();
    let valid = ArrayD::from_shape_vec(IxDyn(&of_mask), mask.into_data().iter::<bool>().collect());
    let mask = Mask::Values(valid.expect("as many as the mask has"));
    Ok(Region::picked(numbered, &mask.over(shape)?))
}

/// The numbers of a table, f64.
pub(crate) fn numbers(of: Tensor<1>) -> Vec<f64> {
    of.into_data().iter::<f64>().collect()
}

/// The mean and the biased variance of each cell, as tables.
fn moments<const D: usize>(x: Tensor<D>, cells: Cells) -> (Tensor<1>, Tensor<1>) {
    let count = cells.count();
    let (mean, variance) = crate::functions::moments_of_cells(x, cells, [1, count]);
    (mean.reshape([count]), variance.reshape([count]))
}

/// (x − center) · scale + offset.
fn affine<const D: usize>(x: Tensor<D>, tables: [Tensor<1>; 3], cells: Cells) -> Tensor<D> {
    crate::functions::affine_of_cells(x, tables.map(|table| table.unsqueeze()), cells)
}
