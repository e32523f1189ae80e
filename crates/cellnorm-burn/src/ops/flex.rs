//! The operations on Burn's CPU backend: thin glue between its tensors and the passes.
//!
//! Tensors without gaps in memory are used as they lie, transposed ones too; y and dx take the
//! layout and the type of x, f16 and bf16 included, which the passes widen and narrow on their way.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{DType, Flex, TensorMetadata};
use cellnorm::passes::{self, Affine, Gradient};
use cellnorm::{Cells, Parameters, Statistics};

use super::arranged::{Arranged, from_table, narrow, table, wide, with_elements};
use super::{NormOps, Spec};

/// γ and β as the passes take them.
fn parameters(
    gamma: FlexTensor,
    beta: FlexTensor,
    spec: &Spec,
) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
    (spec.scale.then(|| table(gamma)), spec.center.then(|| table(beta)))
}

impl NormOps for Flex {
    fn normalize(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let dtype = x.dtype();
        let (gamma, beta) = parameters(gamma, beta, &spec);
        let (x, plan) = Arranged::with_plan(wide(x), &spec.roles);
        let parameters = Parameters {
            gamma: gamma.as_deref(),
            beta: beta.as_deref(),
            activation: spec.activation,
        };
        let (y, statistics) = with_elements!(x.tensor, T => {
            x.map::<T, _>(|buffers| plan.forward(buffers, spec.about, spec.epsilon, parameters))
        });
        let shape = [plan.sets()];
        let of_sets = |values| from_table(values, &shape, DType::F64);
        (narrow(y, dtype), of_sets(statistics.mean), of_sets(statistics.variance))
    }

    fn normalize_fixed(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        spec: Spec,
    ) -> FlexTensor {
        let dtype = x.dtype();
        let (gamma, beta) = parameters(gamma, beta, &spec);
        let (x, plan) = Arranged::with_plan(wide(x), &spec.roles);
        let parameters = Parameters {
            gamma: gamma.as_deref(),
            beta: beta.as_deref(),
            activation: spec.activation,
        };
        let statistics = Statistics { mean: table(mean), variance: table(variance) };
        let (y, ()) = with_elements!(x.tensor, T => {
            x.map::<T, _>(|buffers| plan.forward_fixed(buffers, &statistics, spec.epsilon, parameters))
        });
        narrow(y, dtype)
    }

    fn normalize_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        dy: FlexTensor,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (dtype, parameter_dtype, parameter_shape) = (x.dtype(), gamma.dtype(), gamma.shape());
        let (gamma, beta) = parameters(gamma, beta, &spec);
        let (x, plan) = Arranged::with_plan(wide(x), &spec.roles);
        let parameters = Parameters {
            gamma: gamma.as_deref(),
            beta: beta.as_deref(),
            activation: spec.activation,
        };
        let dy = Arranged::in_order(narrow(dy, x.tensor.dtype()), x.order.clone());
        let statistics = Statistics { mean: table(mean), variance: table(variance) };
        let (dx, gradients) = with_elements!(x.tensor, T => {
            let elements = x.elements::<T>();
            dy.map::<T, _>(|buffers| {
                plan.backward(elements, buffers, &statistics, spec.about, spec.epsilon, parameters, spec.fixed)
            })
        });
        let shape = if spec.scale || spec.center {
            vec![plan.channels()]
        } else {
            parameter_shape.to_vec()
        };
        let of_parameter = |values: Vec<f64>, used: bool| {
            let values = if used { values } else { vec![0.0; shape.iter().product()] };
            from_table(values, &shape, parameter_dtype)
        };
        (
            narrow(dx, dtype),
            of_parameter(gradients.gamma, spec.scale),
            of_parameter(gradients.beta, spec.center),
        )
    }

    fn cell_moments(x: FlexTensor, cells: Cells) -> FlexTensor {
        let x = Arranged::row_major(wide(x));
        let moments = with_elements!(x.tensor, T => passes::moments(x.elements::<T>(), &cells));
        let (mean, variance) =
            (moments.iter().map(|m| m.mean), moments.iter().map(|m| m.variance()));
        from_table(mean.chain(variance).collect(), &[2, cells.count()], DType::F64)
    }

    fn cell_moments_backward(
        x: FlexTensor,
        moments: FlexTensor,
        dmoments: FlexTensor,
        cells: Cells,
    ) -> FlexTensor {
        let (dtype, n) = (x.dtype(), cells.positions as f64);
        let x = Arranged::row_major(wide(x));
        let (moments, dmoments) = (table(moments), table(dmoments));
        let (dmean, dvariance) = dmoments.split_at(cells.count());
        let share = |(dmean, dvariance): (&f64, &f64)| Gradient {
            a: 0.0,
            b: 2.0 * dvariance / n,
            k: dmean / n,
        };
        let gradients: Vec<Gradient> = dmean.iter().zip(dvariance).map(share).collect();
        let centers = &moments[..cells.count()];
        let zeros =
            Flex::float_zeros(x.tensor.shape(), &Default::default(), x.tensor.dtype().into());
        let (dx, ()) = with_elements!(x.tensor, T => Arranged::row_major(zeros).map::<T, _>(|buffers| {
            passes::gradient(x.elements::<T>(), buffers, &cells, centers, &gradients)
        }));
        narrow(dx, dtype)
    }

    fn cell_affine(
        x: FlexTensor,
        center: FlexTensor,
        scale: FlexTensor,
        offset: FlexTensor,
        cells: Cells,
    ) -> FlexTensor {
        let dtype = x.dtype();
        let (center, scale, offset) = (table(center), table(scale), table(offset));
        let affine = |i: usize| Affine { center: center[i], scale: scale[i], offset: offset[i] };
        let affines: Vec<Affine> = (0..cells.count()).map(affine).collect();
        let x = Arranged::row_major(wide(x));
        let (y, ()) = with_elements!(x.tensor, T => {
            x.map::<T, _>(|buffers| passes::affine(buffers, &cells, &affines))
        });
        narrow(y, dtype)
    }

    fn cell_affine_backward(
        x: FlexTensor,
        center: FlexTensor,
        scale: FlexTensor,
        dy: FlexTensor,
        cells: Cells,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (dtype, table_dtype, table_shape) = (x.dtype(), scale.dtype(), scale.shape().to_vec());
        let (center, scale) = (table(center), table(scale));
        let x = Arranged::row_major(wide(x));
        let dy = Arranged::row_major(narrow(dy, x.tensor.dtype()));
        let (dx, sums) = with_elements!(x.tensor, T => {
            let sums = passes::sums(x.elements::<T>(), dy.elements::<T>(), &cells, &center);
            let affine = |scale: &f64| Affine { center: 0.0, scale: *scale, offset: 0.0 };
            let affines: Vec<Affine> = scale.iter().map(affine).collect();
            (dy.map::<T, _>(|buffers| passes::affine(buffers, &cells, &affines)).0, sums)
        });
        let of_cells = |values: Vec<f64>| from_table(values, &table_shape, table_dtype);
        let dcenter = sums.iter().zip(&scale).map(|(sums, scale)| -scale * sums.dy).collect();
        let dscale = sums.iter().map(|sums| sums.dy_x).collect();
        let doffset = sums.iter().map(|sums| sums.dy).collect();
        (narrow(dx, dtype), of_cells(dcenter), of_cells(dscale), of_cells(doffset))
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Bytes;
    use burn::backend::flex::Layout;
    use cellnorm::norms::{Batch, Roles};

    use super::*;

    fn tensor(shape: [usize; 3]) -> FlexTensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 7 % 13) as f32).collect();
        FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
    }

    fn start(x: &FlexTensor) -> *const u8 {
        x.bytes().as_ptr()
    }

    fn backward(dy: FlexTensor) -> FlexTensor {
        let spec = Spec::new(&Batch { channels: 3, channel_axis: 1 }, &[2, 3, 4], 1e-5, true, true)
            .expect("it fits");
        let table = |value: f64| from_table(vec![value; 3], &[3], DType::F64);
        Flex::normalize_backward(
            tensor([2, 3, 4]),
            table(1.0),
            table(0.0),
            table(6.0),
            table(14.0),
            dy,
            spec,
        )
        .0
    }

    #[test]
    fn dx_is_written_over_dy_when_nobody_else_holds_it() {
        let dy = tensor([2, 3, 4]);
        let at = start(&dy);
        assert_eq!(start(&backward(dy)), at);

        let dy = tensor([2, 3, 4]);
        let held = dy.clone();
        let dx = backward(dy);
        assert_ne!(start(&dx), start(&held));
        assert_eq!(held.storage::<f32>(), tensor([2, 3, 4]).storage::<f32>());
    }

    #[test]
    fn a_transposed_tensor_keeps_its_layout() {
        let x = tensor([2, 4, 3]);
        let transposed = x.layout().permute(&[0, 2, 1]);
        let x = x.with_layout(transposed);
        let at = start(&x);
        let (arranged, _) =
            Arranged::with_plan(x, &Roles::new([(true, false), (false, true), (true, false)]));
        assert_eq!(start(&arranged.tensor), at, "nothing was copied");
        assert_eq!(arranged.restore().layout().strides(), [12, 1, 3]);
    }
}
