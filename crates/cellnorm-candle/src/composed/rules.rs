//! A rule on tensors: the moments of cells, the rule's formula on tables of Candle's tensors, and
//! an affine map of each cell.

use candle_core::{Result, Tensor};
use cellnorm::tables::{self, Coefficients, Figure, Given, Mask, Rule, Tracked, cells_of, sets_of};
use cellnorm::{Cells, Error, OneValue, Statistics, check_epsilon};

use super::table::Table;
use crate::numbers::{of_tensor, wrong};
use crate::ops::computing;

/// What a layer says besides its rule.
pub(crate) struct Terms<'a> {
    pub(crate) epsilon: f64,
    /// What one value a statistic does where there is no mask.
    pub(crate) one_value: OneValue,
    /// Whether statistics are those of x.
    pub(crate) batch: bool,
    /// Which values are valid.
    pub(crate) mask: Option<&'a Mask>,
}

/// What a rule is given besides x.
pub(crate) struct Applied<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) terms: Terms<'a>,
    /// The parameters in the order of the rule's slots.
    pub(crate) parameters: &'a [(&'static str, Option<Tensor>)],
    pub(crate) running: Option<Statistics>,
}

impl<R: Rule> Applied<'_, R> {
    /// y, and the batch's statistics that running averages move toward.
    pub(crate) fn run(self, x: &Tensor) -> Result<(Tensor, Option<Tracked<Vec<f64>>>)> {
        let Self { rule, terms: Terms { epsilon, one_value, batch, mask }, parameters, running } =
            self;
        check_epsilon(epsilon).map_err(wrong)?;
        let (shape, dtype) = (x.dims(), computing(x.dtype()));
        let numbered = rule.numbered(shape).map_err(wrong)?;
        if x.elem_count() == 0 {
            return Err(wrong(Error::Empty { shape: shape.to_vec() }));
        }
        let (cells, coordinates) = cells_of(shape, &numbered);
        let valid = mask.map(|mask| Valid::new(mask, x, &cells)).transpose()?;
        let in_cells = x.to_dtype(dtype)?.reshape((cells.outer, cells.positions, cells.inner))?;
        let (values, mean, variance, counts) = moments(in_cells, &cells, valid.as_ref())?;

        let sets = sets_of(&rule.sharings(shape).map_err(wrong)?, &coordinates, cells.count());
        let (mean, variance) = (mean.flatten_all()?, variance.flatten_all()?);
        let center = mean.detach();
        let figure = Figure {
            shape,
            coordinates: &coordinates,
            sets: &sets,
            counts: &counts,
            mean: Table::of(mean),
            variance: Table::of(variance),
            center: Table::of(center.clone()),
        };
        let stays =
            valid.is_none() && figure.uses_running(rule, one_value, batch).map_err(wrong)?;
        let flat =
            |(name, of): &(&'static str, Option<Tensor>)| -> Result<(&'static str, Option<Table>)> {
                let flat = |of: &Tensor| of.flatten_all()?.to_dtype(dtype);
                Ok((*name, of.as_ref().map(flat).transpose()?.map(Table::of)))
            };
        let named: Vec<_> = parameters.iter().map(flat).collect::<Result<_>>()?;
        let running = running.map(|of| {
            let [mean, variance] =
                [of.mean, of.variance].map(|of| tables::Table::constant(&figure.mean, of));
            tables::Statistics { mean, variance }
        });
        let given = Given { epsilon, batch: batch && !stays, running, parameters: &named };
        let Coefficients { scale, offset } = rule.table(&figure, &given);
        let tracked = rule
            .tracked(&figure, &given)
            .filter(|_| !stays)
            .map(|of| numbers(of, R::NAME))
            .transpose()?;

        let of_cells = |table: Tensor| table.reshape((cells.outer, 1, cells.inner));
        let y =
            values.broadcast_sub(&of_cells(center)?)?.broadcast_mul(&of_cells(scale.tensor()?)?)?;
        let y = y.broadcast_add(&of_cells(offset.tensor()?)?)?;
        let y = valid.as_ref().map_or(Ok(y.clone()), |valid| valid.keep(&y))?;
        Ok((y.reshape(shape)?.to_dtype(x.dtype())?, tracked))
    }
}

fn numbers(of: Tracked<Table>, name: &str) -> Result<Tracked<Vec<f64>>> {
    let table = |of: Table| of_tensor(&of.tensor()?, name);
    Ok(Tracked { mean: table(of.mean)?, variance: table(of.variance)?, values: of.values })
}

/// A mask as \[outer, positions, inner\], and the number of valid values of each cell.
struct Valid {
    mask: Tensor,
    counts: Vec<f64>,
}

impl Valid {
    fn new(mask: &Mask, x: &Tensor, cells: &Cells) -> Result<Self> {
        let valid: Vec<u8> =
            mask.over(x.dims()).map_err(wrong)?.iter().map(|valid| u8::from(*valid)).collect();
        let mut counts = vec![0.0; cells.count()];
        for (at, valid) in valid.iter().enumerate() {
            let (row, inner) = (at / cells.inner, at % cells.inner);
            counts[row / cells.positions * cells.inner + inner] += f64::from(*valid);
        }
        let shape = (cells.outer, cells.positions, cells.inner);
        Ok(Self { mask: Tensor::from_vec(valid, shape, x.device())?, counts })
    }

    /// The valid values, 0 at the others.
    fn keep(&self, x: &Tensor) -> Result<Tensor> {
        self.mask.where_cond(x, &x.zeros_like()?)
    }
}

/// The values that count (0 at the others, which may hold anything), and the mean, the biased
/// variance and the number of them in each cell.
fn moments(
    x: Tensor,
    cells: &Cells,
    valid: Option<&Valid>,
) -> Result<(Tensor, Tensor, Tensor, Vec<f64>)> {
    let Some(valid) = valid else {
        let mean = x.mean_keepdim(1)?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        return Ok((x, mean, variance, vec![cells.positions as f64; cells.count()]));
    };
    let x = valid.keep(&x)?;
    let shares = valid.counts.iter().map(|count| 1.0 / count.max(1.0)).collect();
    let shares = Table::numbers(shares, x.dtype(), x.device()).tensor()?.reshape((
        cells.outer,
        1,
        cells.inner,
    ))?;
    let mean = x.sum_keepdim(1)?.mul(&shares)?;
    let apart = valid.keep(&x.broadcast_sub(&mean)?)?;
    let variance = apart.sqr()?.sum_keepdim(1)?.mul(&shares)?;
    Ok((x, mean, variance, valid.counts.clone()))
}
