//! Candle's memory as the library takes it: arrays over slices, small tables in f64; and errors as
//! Candle has them.

use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, DType, Device, Error, Layout, Result, Shape, Storage, Tensor, WithDType,
};
use cellnorm::{Element, Mask, kernels::Real};
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

/// Runs `$body`, a Candle result, with views of x and dy, which have to be on the CPU.
macro_rules! with_gradient {
    ($x:expr, $dy:expr, $name:expr, ($x_view:ident, $dy_view:ident) => $body:expr) => {{
        let ((x, x_layout), (dy, dy_layout)) = ($x.storage_and_layout(), $dy.storage_and_layout());
        let (candle_core::Storage::Cpu(x), candle_core::Storage::Cpu(dy)) = (&*x, &*dy) else {
            candle_core::bail!("{}: the gradient is not on the CPU, and x was", $name)
        };
        $crate::numbers::with_elements!(x, $name, x => {
            let $x_view = $crate::numbers::view(x, x_layout)?;
            let $dy_view = $crate::numbers::view(dy.as_slice()?, dy_layout)?;
            $body
        })
    }};
}
pub(crate) use with_gradient;

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

/// The elements that a layout names, as it orders them, where they lie.
pub(crate) fn view<'a, T>(elements: &'a [T], layout: &Layout) -> Result<ArrayViewD<'a, T>> {
    if layout.shape().elem_count() == 0 {
        // without elements, the offset and the strides may be anything
        return ArrayViewD::from_shape(layout.dims(), &[]).map_err(wrong);
    }
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

/// An array as a storage in row-major order.
pub(crate) fn to_storage<T: Number>(array: ArrayD<T>) -> CpuStorage {
    T::to_cpu_storage_owned(row_major(array))
}

/// The elements that a layout names, in f64.
pub(crate) fn widened(storage: &CpuStorage, layout: &Layout, name: &str) -> Result<Vec<f64>> {
    fn widen<T: Number>(elements: &[T], layout: &Layout) -> Result<Vec<f64>> {
        let wide = |value: &T| value.widen().to_f64();
        Ok(match layout.contiguous_offsets() {
            Some((start, end)) => {
                elements.get(start..end).unwrap_or_default().iter().map(wide).collect()
            }
            None => view(elements, layout)?.iter().map(wide).collect(),
        })
    }
    with_elements!(storage, name, elements => widen(elements, layout))
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

/// That the numbers of each set are finite.
pub(crate) fn check_finite(
    name: &'static str,
    values: &[f64],
) -> std::result::Result<(), cellnorm::Error> {
    let not_finite = values.iter().position(|value| !value.is_finite());
    let sets = values.len();
    not_finite.map_or(Ok(()), |set| Err(cellnorm::Error::NotFinite { name, set, sets }))
}

/// The numbers of a tensor on any device, flat, in f64.
pub(crate) fn values(tensor: &Tensor, name: &str) -> Result<Vec<f64>> {
    let tensor = tensor.to_device(&Device::Cpu)?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => widened(storage, layout, name),
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
pub(crate) fn untracked(storage: CpuStorage, shape: &Shape) -> Tensor {
    Tensor::from_storage(Storage::Cpu(storage), shape.clone(), BackpropOp::none(), false)
}

/// The mask that is valid where a tensor of any type is not 0: with as many axes as x, each as long
/// as that of x or 1. For sequences of their own length, `Mask::lengths` needs no tensor.
///
/// # Errors
/// If the tensor cannot be read.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use cellnorm_candle::{InstanceNorm, mask};
/// // the last step is padding
/// let x = Tensor::new(&[[[1f32, 3., f32::NAN], [4., 6., f32::NAN]]], &Device::Cpu)?;
/// let valid = mask(&Tensor::new(&[[[1u8, 1, 0]]], &Device::Cpu)?)?;
/// let y = InstanceNorm::new_no_affine(2, 1e-9).forward_masked(&x, &valid)?;
/// assert_eq!(y.round()?.to_vec3::<f32>()?, [[[-1., 1., 0.], [-1., 1., 0.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn mask(valid: &Tensor) -> Result<Mask> {
    let values: Vec<u8> = valid.ne(0.0)?.flatten_all()?.to_vec1()?;
    let array =
        ArrayD::from_shape_vec(valid.dims(), values.into_iter().map(|value| value != 0).collect());
    Ok(Mask::new(array.map_err(wrong)?.view()))
}
