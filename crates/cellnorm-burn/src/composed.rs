//! The same normalizations from Burn's own operations, for devices without the fused ones.
//!
//! Computed in f32 at least, whatever the types of x and of the parameters; y has the type of x.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::{Bool, DType, Device, Tensor, TensorData, activation};
use cellnorm::Activation;
use cellnorm::shape::{Cells, Centering, Roles, inverse};

/// The type that numbers of this type are computed with: half precision has no room for squares.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A function of x, computed in f32 where x has fewer digits.
pub(crate) fn at_least_single<const D: usize>(
    x: Tensor<D>,
    of: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    of(x.cast(wide(dtype))).cast(dtype)
}

/// (y, mean, variance) of a plain normalization; with `statistics` given, those are used. Mean and
/// variance are f32 at least.
pub(crate) fn normalize<const D: usize>(
    x: Tensor<D>,
    affine: [Option<Tensor<1>>; 2],
    statistics: Option<(Tensor<1>, Tensor<1>)>,
    (roles, centering, epsilon): (&Roles, Centering, f64),
    activation: Activation,
) -> (Tensor<D>, (Tensor<1>, Tensor<1>)) {
    let (shape, own) = (x.dims(), x.dtype());
    let dtype = wide(own);
    let x = x.cast(dtype);
    let order: [usize; D] = roles.shared_last().try_into().expect("an order of all axes");
    let permuted = order.map(|axis| shape[axis] as i32);
    let sets = roles.sets(&shape) as i32;
    let rows: Tensor<2> = x.permute(order.map(|axis| axis as isize)).reshape([sets, -1]);
    let column = |table: Tensor<1>| table.cast(dtype).reshape([sets, 1]);
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
    let [gamma, beta] = affine.map(|of| of.map(|of| of.cast(dtype).reshape(along)));
    y = gamma.map_or(y.clone(), |gamma| y * gamma);
    y = beta.map_or(y.clone(), |beta| y + beta);
    let statistics = [mean, variance].map(|of| of.reshape([sets]).detach());
    (activated(y, activation).cast(own), statistics.into())
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

/// As the fused operation, on \[outer, positions, inner\]; in f32 at least.
pub(crate) fn cell_moments<const D: usize>(
    x: Tensor<D>,
    cells: Cells,
    table: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    let dtype = wide(x.dtype());
    let x: Tensor<3> = x.cast(dtype).reshape([cells.outer, cells.positions, cells.inner]);
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
    at_least_single(x, |x| {
        let (shape, dtype) = (x.dims(), x.dtype());
        let [center, scale, offset] =
            coefficients.map(|table| table.cast(dtype).reshape([cells.outer, 1, cells.inner]));
        let x: Tensor<3> = x.reshape([cells.outer, cells.positions, cells.inner]);
        ((x - center) * scale + offset).reshape(shape)
    })
}

/// The value of its cell for each value of a tensor.
pub(crate) fn spread<const D: usize>(
    of_cells: Vec<bool>,
    cells: Cells,
    shape: &[usize; D],
    device: &Device,
) -> Tensor<D, Bool> {
    let table = TensorData::new(of_cells, [cells.outer, 1, cells.inner]);
    let table: Tensor<3, Bool> = Tensor::from_data(table, device);
    table.expand([cells.outer, cells.positions, cells.inner]).reshape(*shape)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn list<const D: usize>(of: Tensor<D>) -> Vec<f32> {
        of.into_data().convert::<f32>().try_to_vec().unwrap()
    }

    fn rows(of: [[f32; 4]; 2], dtype: DType) -> Tensor<2> {
        Tensor::from_floats(of, &Device::flex().autodiff()).cast(dtype).require_grad()
    }

    /// x / √(mean square − mean² + ε), in f64.
    fn expected(row: [f64; 4], epsilon: f64) -> [f64; 4] {
        let mean = row.iter().sum::<f64>() / 4.0;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 4.0;
        row.map(|x| (x - mean) / (variance + epsilon).sqrt())
    }

    /// Squares of thousands overflow in f16, and ε = 1e-12 vanishes there.
    #[test]
    fn half_precision_has_statistics_in_single() {
        let values = [[3000.0, -3000.0, 1000.0, 100.0], [0.0; 4]];
        let roles = Roles::new([(false, false), (true, true)]);
        for dtype in [DType::F16, DType::BF16] {
            for centering in [Centering::Mean, Centering::Zero] {
                let x = rows(values, dtype);
                let gamma = Tensor::<1>::ones([4], &x.device()).cast(dtype).require_grad();
                let affine = [Some(gamma.clone()), Some(gamma.zeros_like())];
                let rule = (&roles, centering, 1e-12);
                let (y, (mean, variance)) =
                    normalize(x.clone(), affine, None, rule, Activation::Identity);
                assert_eq!(
                    (y.dtype(), mean.dtype(), variance.dtype()),
                    (dtype, DType::F32, DType::F32)
                );
                let gradients = (y.clone() * y.clone().detach()).sum().backward();
                assert!(list(x.grad(&gradients).unwrap()).iter().all(|dx| dx.is_finite()));
                assert_eq!(gamma.grad(&gradients).unwrap().dtype(), dtype);
                let (y, variance) = (list(y), list(variance));
                assert_eq!(y[4..], [0.0; 4]);
                assert!(variance[0] > 4e6 && variance[1] == 0.0, "{variance:?}");
                if centering == Centering::Mean {
                    for (y, right) in y.iter().zip(expected([3e3, -3e3, 1e3, 100.0], 1e-12)) {
                        assert!((f64::from(*y) - right).abs() < 8e-3, "{y} is not {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn cells_of_half_precision_have_tables_in_single() {
        let x = rows([[3000.0, -3000.0, 1000.0, 100.0], [0.0; 4]], DType::F16);
        let cells = Cells { outer: 2, positions: 4, inner: 1 };
        let (mean, variance) = cell_moments(x.clone(), cells, [1, 2]);
        assert_eq!((mean.dtype(), list(mean.clone())), (DType::F32, vec![275.0, 0.0]));
        // 19.01e6 / 4 − 275²
        assert_eq!(list(variance.clone()), [4_676_875.0, 0.0]);
        let scale = (variance + 1e-12).sqrt().recip();
        let y = cell_affine(x, [mean.clone(), scale, mean.zeros_like()], cells);
        assert_eq!(y.dtype(), DType::F16);
        for (y, right) in list(y).iter().zip(expected([3e3, -3e3, 1e3, 100.0], 1e-12)) {
            assert!((f64::from(*y) - right).abs() < 1e-3, "{y} is not {right}");
        }
    }
}
