//! The same normalizations from Burn's own operations, for devices without the fused ones.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::{Bool, Tensor, activation};
use cellnorm::Activation;
use cellnorm::shape::{Cells, Centering, Roles, inverse};

/// (y, mean, variance) of a plain normalization; with `statistics` given, those are used.
pub(crate) fn normalize<const D: usize>(
    x: Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    statistics: Option<(Tensor<1>, Tensor<1>)>,
    roles: &Roles,
    (centering, epsilon): (Centering, f64),
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let shape = x.dims();
    let order: [usize; D] = roles.shared_last().try_into().expect("an order of all axes");
    let permuted = order.map(|axis| shape[axis] as i32);
    let sets = roles.sets(&shape) as i32;
    let rows: Tensor<2> = x.permute(order.map(|axis| axis as isize)).reshape([sets, -1]);
    let column = |table: Tensor<1>| table.reshape([sets, 1]);
    let (mean, variance) = match (statistics, centering) {
        (Some((mean, variance)), _) => (column(mean), column(variance)),
        (None, Centering::Mean) => {
            let mean = rows.clone().mean_dim(1);
            let variance = (rows.clone() - mean.clone()).square().mean_dim(1);
            (mean, variance)
        }
        (None, Centering::Zero) => {
            let mean_square = rows.clone().square().mean_dim(1);
            (mean_square.zeros_like(), mean_square)
        }
    };
    let normalized = (rows - mean.clone()) / (variance.clone() + epsilon).sqrt();
    let inverse: [usize; D] = inverse(&order).try_into().expect("as many axes");
    let mut y: Tensor<D> = normalized.reshape(permuted).permute(inverse);
    let along = roles.parameters_along(&shape);
    let along: [usize; D] = along.try_into().expect("a length for each axis");
    if let Some(gamma) = gamma {
        // a γ that is stored less an offset is f32 beside half precision
        let (dtype, own) = (y.dtype(), gamma.dtype());
        let wide = if own.size() > dtype.size() { own } else { dtype };
        y = (y.cast(wide) * gamma.cast(wide).reshape(along)).cast(dtype);
    }
    if let Some(beta) = beta {
        y = y + beta.reshape(along);
    }
    (y, mean.reshape([sets]).detach(), variance.reshape([sets]).detach())
}

/// The activation, in Burn's own operations.
pub(crate) fn activated<const D: usize>(z: Tensor<D>, of: Activation) -> Tensor<D> {
    match of {
        Activation::Identity => z,
        Activation::Relu => activation::relu(z),
        Activation::LeakyRelu(slope) => activation::leaky_relu(z, slope),
        Activation::Silu => activation::silu(z),
        // Burn's own has the gradient of another function, the approximation by tanh
        Activation::Gelu => ((z.clone() * FRAC_1_SQRT_2).erf() + 1.0) * z * 0.5,
    }
}

/// As the fused operation, on \[outer, positions, inner\].
pub(crate) fn cell_moments<const D: usize>(
    x: Tensor<D>,
    cells: Cells,
    table: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    let x: Tensor<3> = x.reshape([cells.outer, cells.positions, cells.inner]);
    let mean = x.clone().mean_dim(1);
    let variance = (x - mean.clone()).square().mean_dim(1);
    (mean.reshape(table), variance.reshape(table))
}

/// As the fused operation, on \[outer, positions, inner\].
pub(crate) fn cell_affine<const D: usize>(
    x: Tensor<D>,
    coefficients: [Tensor<2>; 3],
    cells: Cells,
) -> Tensor<D> {
    let shape = x.dims();
    let [center, scale, offset] =
        coefficients.map(|table| table.reshape([cells.outer, 1, cells.inner]));
    let x: Tensor<3> = x.reshape([cells.outer, cells.positions, cells.inner]);
    ((x - center) * scale + offset).reshape(shape)
}

/// The mean, the biased variance and the number of the valid values of each cell; x is 0 at the
/// others.
pub(crate) fn masked_moments<const D: usize>(
    x: Tensor<D>,
    mask: Tensor<D, Bool>,
    cells: Cells,
) -> (Tensor<1>, Tensor<1>, Vec<f64>) {
    let shape = [cells.outer, cells.positions, cells.inner];
    let (x, mask): (Tensor<3>, Tensor<3, Bool>) = (x.reshape(shape), mask.reshape(shape));
    let counts = mask.clone().int().sum_dim(1);
    let least_one = counts.clone().clamp_min(1).float().cast(x.dtype());
    let mean = x.clone().sum_dim(1) / least_one.clone();
    let apart = (x - mean.clone()).mask_fill(mask.bool_not(), 0.0);
    let variance = apart.square().sum_dim(1) / least_one;
    let count = cells.count();
    let counts: Vec<i64> = counts.into_data().iter::<i64>().collect();
    (
        mean.reshape([count]),
        variance.reshape([count]),
        counts.into_iter().map(|count| count as f64).collect(),
    )
}
