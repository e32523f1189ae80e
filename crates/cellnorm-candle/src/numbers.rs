//! Candle's memory as the library takes it: arrays over slices, small tables in f64; and errors as
//! Candle has them.

use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, DType, Device, Error, Layout, Result, Shape, Storage, Tensor, WithDType,
};
use cellnorm::{Element, Real};
use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};

/// Elements that both Candle and the library know.
pub(crate) trait Number: Element + WithDType {}

impl<T: Element + WithDType> Number for T {}

/// Runs `$body`, a Candle result, with `$x` as the elements of a storage.
macro_rules! with_elements {
    ($storage:expr, $name:expr, $x:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32($x) => $body,
            candle_core::CpuStorage::F64($x) => $body,
            candle_core::CpuStorage::F16($x) => $body,
            candle_core::CpuStorage::BF16($x) => $body,
            other => Err($crate::numbers::unsupported(other, $name)),
        }
    };
}
pub(crate) use with_elements;

/// An error of the library's, or any other, as Candle's.
pub(crate) fn wrong(error: impl std::fmt::Display) -> Error {
    Error::msg(error)
}

pub(crate) fn unsupported(storage: &CpuStorage, name: &str) -> Error {
    let dtype = storage.dtype();
    wrong(format!(
        "{name} takes tensors of f32, f64, f16 or bf16, not of {dtype:?}; convert with to_dtype"
    ))
}

/// The elements, all of them, where they are of this type.
pub(crate) fn elements<T: Number>(storage: &CpuStorage) -> Result<&[T]> {
    storage.as_slice::<T>()
}

/// The elements that a layout names, as it orders them, where they lie.
pub(crate) fn view<'a, T>(elements: &'a [T], layout: &Layout) -> Result<ArrayViewD<'a, T>> {
    let elements = elements.get(layout.start_offset()..).unwrap_or_default();
    let shape = IxDyn(layout.dims()).strides(IxDyn(layout.stride()));
    ArrayViewD::from_shape(shape, elements).map_err(wrong)
}

/// The elements in row-major order, without a copy where they lie so.
pub(crate) fn row_major<T: Clone>(array: ArrayD<T>) -> Vec<T> {
    let array =
        if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
    array.into_raw_vec_and_offset().0
}

/// A small table in f64.
pub(crate) fn table(storage: &CpuStorage, layout: &Layout, name: &str) -> Result<Vec<f64>> {
    with_elements!(storage, name, elements => widened(elements, layout))
}

fn widened<T: Number>(elements: &[T], layout: &Layout) -> Result<Vec<f64>> {
    let wide = |value: &T| value.widen().to_f64();
    Ok(match layout.contiguous_offsets() {
        Some((start, end)) => elements[start..end].iter().map(wide).collect(),
        None => view(elements, layout)?.iter().map(wide).collect(),
    })
}

/// Whether all are finite, asked several at a time.
pub(crate) fn finite<T: Real>(values: &[T]) -> bool {
    let (lanes, rest) = values.as_chunks::<8>();
    // 0, or NaN where a value is not finite
    let zero = T::from_f64(0.0);
    let zeros = |sum: [T; 8], values: &[T; 8]| std::array::from_fn(|i| sum[i] + zero * values[i]);
    let sum = lanes.iter().fold([zero; 8], zeros);
    sum.iter().chain(rest).all(|value| *value * zero == zero)
}

/// The numbers of a tensor on any device, flat, in f64.
pub(crate) fn of_tensor(tensor: &Tensor, name: &str) -> Result<Vec<f64>> {
    let tensor = tensor.to_device(&Device::Cpu)?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => table(storage, layout, name),
        _ => Err(wrong("a tensor that was copied to the CPU is not there")),
    }
}

/// A tensor of these numbers, rounded once.
pub(crate) fn tensor(
    values: Vec<f64>,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if dtype == DType::F64 {
        return Tensor::from_vec(values, shape.clone(), device);
    }
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}

/// A row-major tensor on the CPU that no gradient flows through.
pub(crate) fn of_storage(storage: CpuStorage, shape: &Shape) -> Tensor {
    Tensor::from_storage(Storage::Cpu(storage), shape.clone(), BackpropOp::none(), false)
}
