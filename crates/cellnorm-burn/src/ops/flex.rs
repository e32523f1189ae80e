//! The operations on Burn's CPU backend: thin glue between its tensors and the passes.
//!
//! Tensors without gaps in memory are used as they lie, transposed ones too; y and dx take the layout of x. f16 and bf16 are
//! converted to f32 for the operation.

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Bytes, DType, Flex, TensorMetadata};
use burn::tensor::FloatDType;
use cellnorm::norms::Roles;
use cellnorm::passes::{self, Affine, Buffers, Gradient};
use cellnorm::{Cells, Element, Parameters, Plan, Statistics};

use super::pool::{self, Pool};
use super::{NormOps, Spec};

/// Elements that both Burn and the passes know.
pub(super) trait Number: Element + burn::tensor::Element + bytemuck::Pod {
    /// Where its large buffers wait to be used again.
    fn pool() -> &'static Pool<Self>;
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$t> = Pool::new();
                &POOL
            }
        }
    )*};
}
numbers!(f32, f64);

/// Runs `$body` with `$t` as the type of the elements; `$x` and other tensors that are named are converted where the type is
/// narrower than f32, and the result is converted back by the caller.
macro_rules! with_elements {
    ($x:expr, $t:ident => $body:expr) => {
        match $x.dtype() {
            DType::F64 => {
                type $t = f64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}

/// f32 and f64 as they are, narrower types as f32.
fn wide(x: FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F32 | DType::F64 => x,
        _ => Flex::float_cast(x, FloatDType::F32),
    }
}

/// Back to the type that a result should have.
fn narrow(x: FlexTensor, dtype: DType) -> FlexTensor {
    if x.dtype() == dtype { x } else { Flex::float_cast(x, dtype.into()) }
}

/// A small table in f64.
fn table(x: FlexTensor) -> Vec<f64> {
    let x = narrow(x, DType::F64).to_contiguous();
    let start = x.layout().start_offset();
    x.storage::<f64>()[start..start + x.layout().num_elements()].to_vec()
}

/// A tensor of f64 in the type `dtype`.
fn from_table(values: Vec<f64>, shape: &[usize], dtype: DType) -> FlexTensor {
    let layout = Layout::contiguous(shape.to_vec().into());
    narrow(FlexTensor::new(Bytes::from_elems(values), layout, DType::F64), dtype)
}

/// A tensor whose memory holds its axes in `order`, outermost first, without gaps.
struct Arranged {
    tensor: FlexTensor,
    order: Vec<usize>,
}

impl Arranged {
    /// As it lies where it has no gaps, else a row-major copy.
    fn as_it_lies(x: FlexTensor) -> Self {
        let strides = x.layout().strides();
        let mut order: Vec<usize> = (0..strides.len()).collect();
        order.sort_by_key(|axis| std::cmp::Reverse(strides[*axis]));
        Self::in_order(x, order)
    }

    /// In this order, copying where it does not lie so.
    fn in_order(x: FlexTensor, order: Vec<usize>) -> Self {
        let permuted = x.layout().permute(&order);
        Self { tensor: x.with_layout(permuted).to_contiguous(), order }
    }

    /// The strides of the axes in their own order.
    fn strides(&self) -> Vec<isize> {
        let mut strides = vec![0; self.order.len()];
        for (axis, stride) in self.order.iter().zip(self.tensor.layout().strides()) {
            strides[*axis] = *stride;
        }
        strides
    }

    /// x with its plan, in an order that has one.
    fn with_plan(x: FlexTensor, roles: &Roles) -> (Self, Plan) {
        let shape = x.shape().to_vec();
        let arranged = Self::as_it_lies(x);
        if let Some(plan) = Plan::new(&roles.axes(&shape, &arranged.strides())) {
            return (arranged, plan);
        }
        let arranged = Self::in_order(arranged.restore(), roles.shared_last());
        let plan = Plan::new(&roles.axes(&shape, &arranged.strides()));
        (arranged, plan.expect("with the shared axes innermost every tensor has a plan"))
    }

    /// The elements in the order of memory.
    fn elements<T: Number>(&self) -> &[T] {
        let start = self.tensor.layout().start_offset();
        &self.tensor.storage::<T>()[start..start + self.tensor.layout().num_elements()]
    }

    /// Runs a pass over these elements where nobody else holds them, else into a fresh buffer; the result lies as this.
    fn map<T: Number, R>(mut self, pass: impl FnOnce(Buffers<'_, T>) -> R) -> (FlexTensor, R) {
        let (start, len) = (self.tensor.layout().start_offset(), self.tensor.layout().num_elements());
        if let Some(elements) = self.tensor.try_storage_mut::<T>() {
            let result = pass(Buffers::Over(&mut elements[start..start + len]));
            return (self.restore(), result);
        }
        let mut out = T::pool().take(len);
        let result = pass(Buffers::Into(self.elements(), &mut out));
        let layout = Layout::contiguous(self.tensor.shape());
        self.tensor = FlexTensor::new(pool::bytes(out), layout, <T as burn::tensor::Element>::dtype());
        (self.restore(), result)
    }

    /// The tensor with its axes in their own order.
    fn restore(self) -> FlexTensor {
        let mut inverse = vec![0; self.order.len()];
        for (i, axis) in self.order.iter().enumerate() {
            inverse[*axis] = i;
        }
        let layout = self.tensor.layout().permute(&inverse);
        self.tensor.with_layout(layout)
    }
}

/// γ and β as the passes take them.
fn parameters(gamma: FlexTensor, beta: FlexTensor, spec: &Spec) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
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
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
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
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        let statistics = Statistics { mean: table(mean), variance: table(variance) };
        let (y, ()) = with_elements!(x.tensor, T => {
            x.map::<T, _>(|buffers| plan.forward_fixed(buffers, &statistics, spec.epsilon, parameters))
        });
        narrow(y, dtype)
    }

    fn normalize_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        dy: FlexTensor,
        spec: Spec,
        fixed: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (dtype, parameter_dtype, parameter_shape) = (x.dtype(), gamma.dtype(), gamma.shape());
        let (gamma, absent) = (spec.scale.then(|| table(gamma)), spec.center.then(Vec::new));
        let parameters = Parameters { gamma: gamma.as_deref(), beta: absent.as_deref() };
        let (x, plan) = Arranged::with_plan(wide(x), &spec.roles);
        let dy = Arranged::in_order(narrow(dy, x.tensor.dtype()), x.order.clone());
        let statistics = Statistics { mean: table(mean), variance: table(variance) };
        let (dx, gradients) = with_elements!(x.tensor, T => {
            let elements = x.elements::<T>();
            dy.map::<T, _>(|buffers| {
                plan.backward(elements, buffers, &statistics, spec.about, spec.epsilon, parameters, fixed)
            })
        });
        let shape = if spec.scale || spec.center { vec![plan.channels()] } else { parameter_shape.to_vec() };
        let of_parameter = |values: Vec<f64>, used: bool| {
            let values = if used { values } else { vec![0.0; shape.iter().product()] };
            from_table(values, &shape, parameter_dtype)
        };
        (narrow(dx, dtype), of_parameter(gradients.gamma, spec.scale), of_parameter(gradients.beta, spec.center))
    }

    fn cell_moments(x: FlexTensor, cells: Cells) -> FlexTensor {
        let dtype = x.dtype();
        let x = row_major(wide(x));
        let moments = with_elements!(x.tensor, T => passes::moments(x.elements::<T>(), &cells));
        let (mean, variance) = (moments.iter().map(|m| m.mean), moments.iter().map(|m| m.variance()));
        from_table(mean.chain(variance).collect(), &[2, cells.count()], dtype)
    }

    fn cell_moments_backward(x: FlexTensor, moments: FlexTensor, dmoments: FlexTensor, cells: Cells) -> FlexTensor {
        let (dtype, n) = (x.dtype(), cells.positions as f64);
        let x = row_major(wide(x));
        let (moments, dmoments) = (table(moments), table(dmoments));
        let (dmean, dvariance) = dmoments.split_at(cells.count());
        let share = |(dmean, dvariance): (&f64, &f64)| Gradient { a: 0.0, b: 2.0 * dvariance / n, k: dmean / n };
        let gradients: Vec<Gradient> = dmean.iter().zip(dvariance).map(share).collect();
        let centers = &moments[..cells.count()];
        let zeros = Flex::float_zeros(x.tensor.shape(), &Default::default(), x.tensor.dtype().into());
        let (dx, ()) = with_elements!(x.tensor, T => row_major(zeros).map::<T, _>(|buffers| {
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
        let x = row_major(wide(x));
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
        let x = row_major(wide(x));
        let dy = row_major(narrow(dy, x.tensor.dtype()));
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

fn row_major(x: FlexTensor) -> Arranged {
    let order = (0..x.layout().num_dims()).collect();
    Arranged::in_order(x, order)
}

#[cfg(test)]
mod tests {
    use cellnorm::norms::Batch;

    use super::*;

    fn tensor(shape: [usize; 3]) -> FlexTensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 7 % 13) as f32).collect();
        FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
    }

    fn start(x: &FlexTensor) -> *const u8 {
        x.bytes().as_ptr()
    }

    fn backward(dy: FlexTensor) -> FlexTensor {
        let spec = Spec::new(&Batch { channels: 3, channel_axis: 1 }, &[2, 3, 4], 1e-5, true, true).expect("it fits");
        let table = |value: f64| from_table(vec![value; 3], &[3], DType::F64);
        Flex::normalize_backward(tensor([2, 3, 4]), table(1.0), table(6.0), table(14.0), dy, spec, false).0
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
        let (arranged, _) = Arranged::with_plan(x, &Roles::new([(true, false), (false, true), (true, false)]));
        assert_eq!(start(&arranged.tensor), at, "nothing was copied");
        assert_eq!(arranged.restore().layout().strides(), [12, 1, 3]);
    }
}
