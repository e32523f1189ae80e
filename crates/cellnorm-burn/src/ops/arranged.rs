//! Flex tensors as the passes take them: a type, a gapless order of memory, small tables in f64.

use std::ops::Range;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Bytes, DType, Flex, TensorMetadata};
use burn::tensor::{bf16, f16};
use cellnorm::Element;
use cellnorm::kernels::Buffers;
use cellnorm::shape::{Plan, Roles, inverse};

use super::pool::{self, Pool};

/// Elements that both Burn and the passes know.
pub(super) trait Number: Element + burn::tensor::Element + bytemuck::Pod {
    /// Where its large buffers wait to be used again.
    fn pool() -> &'static Pool<Self>;
}

macro_rules! numbers {
    ($($t:ty),*) => {
        $(impl Number for $t {
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$t> = Pool::new();
                &POOL
            }
        })*

        /// Frees the buffers of all types that are more than may wait.
        pub(super) fn make_room() {
            $(<$t as Number>::pool().make_room();)*
        }
    };
}
numbers!(f32, f64, f16, bf16);

/// Runs `$body` with `$t` as the type of `$x`'s elements, or as f32 where the passes do not take it
/// (see [`wide`]).
macro_rules! with_elements {
    ($x:expr, $t:ident => $body:expr) => {
        $crate::ops::arranged::with_elements!(@ $x, $t => $body;
            F64 f64, F16 burn::tensor::f16, BF16 burn::tensor::bf16)
    };
    (@ $x:expr, $t:ident => $body:expr; $($dtype:ident $own:ty),*) => {
        match $x.dtype() {
            $(burn::backend::DType::$dtype => {
                type $t = $own;
                $body
            })*
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(super) use with_elements;

/// As it is where the passes take its type, else as f32.
pub(super) fn wide(x: FlexTensor) -> FlexTensor {
    let taken = with_elements!(x, T => <T as burn::tensor::Element>::dtype());
    narrow(x, taken)
}

/// Back to the type that a result should have.
pub(super) fn narrow(x: FlexTensor, dtype: DType) -> FlexTensor {
    if x.dtype() == dtype { x } else { Flex::float_cast(x, dtype.into()) }
}

/// A small table in f64.
pub(super) fn table(x: FlexTensor) -> Vec<f64> {
    Arranged::row_major(narrow(x, DType::F64)).elements().to_vec()
}

/// A tensor of f64 in the type `dtype`.
pub(super) fn from_table(values: Vec<f64>, shape: &[usize], dtype: DType) -> FlexTensor {
    let layout = Layout::contiguous(shape.to_vec().into());
    narrow(FlexTensor::new(Bytes::from_elems(values), layout, DType::F64), dtype)
}

/// A tensor whose memory holds its axes in `order`, outermost first, without gaps.
pub(super) struct Arranged {
    pub(super) tensor: FlexTensor,
    pub(super) order: Vec<usize>,
}

impl Arranged {
    /// As it lies where it has no gaps, else a row-major copy.
    pub(super) fn as_it_lies(x: FlexTensor) -> Self {
        let strides = x.layout().strides();
        let mut order: Vec<usize> = (0..strides.len()).collect();
        order.sort_by_key(|axis| std::cmp::Reverse(strides[*axis]));
        Self::in_order(x, order)
    }

    /// In row-major order, copying where it does not lie so.
    pub(super) fn row_major(x: FlexTensor) -> Self {
        let order = (0..x.layout().num_dims()).collect();
        Self::in_order(x, order)
    }

    /// In this order, copying where it does not lie so.
    pub(super) fn in_order(x: FlexTensor, order: Vec<usize>) -> Self {
        let permuted = x.layout().permute(&order);
        Self { tensor: x.with_layout(permuted).to_contiguous(), order }
    }

    /// The strides of the axes in their own order.
    fn strides(&self) -> Vec<isize> {
        let strides = self.tensor.layout().strides();
        inverse(&self.order).into_iter().map(|place| strides[place]).collect()
    }

    /// Where the elements lie in the storage.
    fn range(&self) -> Range<usize> {
        let start = self.tensor.layout().start_offset();
        start..start + self.tensor.layout().num_elements()
    }

    /// x with its plan, in an order that has one.
    pub(super) fn with_plan(x: FlexTensor, roles: &Roles) -> (Self, Plan) {
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
    pub(super) fn elements<T: Number>(&self) -> &[T] {
        &self.tensor.storage::<T>()[self.range()]
    }

    /// Runs a pass over these elements where nobody else holds them, else into a fresh buffer; the
    /// result lies as this.
    pub(super) fn map<T: Number, R>(
        mut self,
        pass: impl FnOnce(Buffers<'_, T>) -> R,
    ) -> (FlexTensor, R) {
        let range = self.range();
        if let Some(elements) = self.tensor.try_storage_mut::<T>() {
            let result = pass(Buffers::Over(&mut elements[range]));
            return (self.restore(), result);
        }
        let mut out = T::pool().take(range.len());
        let result = pass(Buffers::Into(self.elements(), &mut out));
        (self.holding(out), result)
    }

    /// Runs a pass from these elements into a buffer of initialized ones; the result lies as this.
    pub(super) fn fresh<T: Number>(&self, pass: impl FnOnce(&[T], &mut [T])) -> FlexTensor {
        let x = self.elements();
        let mut out = T::pool().take_filled(x.len());
        pass(x, &mut out);
        self.holding(out)
    }

    /// Runs a pass over these elements, or over a copy of them where somebody else holds them, too.
    pub(super) fn over<T: Number>(mut self, pass: impl FnOnce(&mut [T])) -> FlexTensor {
        let range = self.range();
        if let Some(elements) = self.tensor.try_storage_mut::<T>() {
            pass(&mut elements[range]);
            return self.restore();
        }
        let mut out = T::pool().take(range.len());
        out.extend_from_slice(self.elements());
        pass(&mut out);
        self.holding(out)
    }

    /// A tensor of these elements that lies as this.
    fn holding<T: Number>(&self, elements: Vec<T>) -> FlexTensor {
        let layout = Layout::contiguous(self.tensor.shape());
        let tensor =
            FlexTensor::new(pool::bytes(elements), layout, <T as burn::tensor::Element>::dtype());
        Self { tensor, order: self.order.clone() }.restore()
    }

    /// The tensor with its axes in their own order.
    pub(super) fn restore(self) -> FlexTensor {
        let layout = self.tensor.layout().permute(&inverse(&self.order));
        self.tensor.with_layout(layout)
    }
}
