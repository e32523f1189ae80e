//! The operation on the CPU: the library's passes over Candle's memory.
//!
//! Candle's operations take three tensors at most and return one. So the statistics stay in the
//! operation, which the graph keeps until the backward pass; x stands in for a parameter that a
//! layer does not have; and the parameters of a layer with more than two come as one tensor, one
//! after another.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use cellnorm::tables::Mask;
use ndarray::{ArrayD, IxDyn};

use super::{Layer, Slots};
use crate::numbers::{self, Number, elements, row_major, view, with_elements, wrong};

/// How many parameters fit beside x.
const BESIDE_X: usize = 2;

/// A layer as it was after the forward pass, and what backward needs.
type After<L> = (L, <L as Layer>::Saved);

struct Operation<L: Layer> {
    /// Taken by the forward pass.
    layer: Mutex<Option<L>>,
    mask: Option<Mask>,
    /// The slots of the parameters that are there, and their shapes.
    slots: Vec<(usize, Shape)>,
    after: Arc<OnceLock<After<L>>>,
}

/// As [`apply`](super::apply).
pub(super) fn apply<L: Layer>(
    layer: L,
    x: &Tensor,
    parameters: &[Option<Tensor>],
    mask: Option<&Mask>,
    then: impl FnOnce(&L) -> Result<()>,
) -> Result<Tensor> {
    let present =
        || parameters.iter().enumerate().filter_map(|(slot, of)| Some((slot, of.as_ref()?)));
    let slots: Vec<(usize, Shape)> =
        present().map(|(slot, of)| (slot, of.shape().clone())).collect();
    let joined;
    let mut beside = [x; BESIDE_X];
    if slots.len() <= BESIDE_X {
        beside.iter_mut().zip(present()).for_each(|(beside, (_, of))| *beside = of);
    } else {
        let dtype = present().next().map_or(x, |(_, first)| first).dtype();
        let flat = present().map(|(_, of)| of.flatten_all()?.to_dtype(dtype));
        joined = Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?;
        beside[0] = &joined;
    }
    let after = Arc::new(OnceLock::new());
    let operation = Operation {
        layer: Mutex::new(Some(layer)),
        mask: mask.cloned(),
        slots,
        after: after.clone(),
    };
    let y = x.apply_op3_arc(beside[0], beside[1], Arc::new(Box::new(operation)))?;
    if let Some((layer, _)) = after.get() {
        then(layer)?;
    }
    Ok(y)
}

impl<L: Layer> Operation<L> {
    /// The slots whose parameters a tensor beside x holds.
    fn held(&self, beside: usize) -> &[(usize, Shape)] {
        match self.slots.len() {
            0..=BESIDE_X => self.slots.get(beside..=beside).unwrap_or_default(),
            _ if beside == 0 => &self.slots,
            _ => &[],
        }
    }

    fn forward<T: Number>(&self, mut layer: L, x: &[T], layout: &Layout) -> Result<CpuStorage> {
        let (y, saved) = layer.forward(view(x, layout)?, self.mask.as_ref()).map_err(wrong)?;
        // nothing was there: the layer was taken once
        let _ = self.after.set((layer, saved));
        Ok(T::to_cpu_storage_owned(row_major(y)))
    }

    fn backward<T: Number>(
        &self,
        x: (&[T], &Layout),
        dy: (&[T], &Layout),
    ) -> Result<(CpuStorage, Slots)> {
        let Some((layer, saved)) = self.after.get() else {
            candle_core::bail!("{}: backward before forward", L::NAME)
        };
        let (dx, slots) =
            layer.backward(saved, view(x.0, x.1)?, view(dy.0, dy.1)?).map_err(wrong)?;
        Ok((T::to_cpu_storage_owned(row_major(dx)), slots))
    }

    /// The gradient of the tensor beside x with this index, where it wants one.
    fn gradient(&self, beside: usize, tensor: &Tensor, slots: &Slots) -> Result<Option<Tensor>> {
        if !tensor.track_op() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(tensor.elem_count());
        for of_slot in self.held(beside).iter().filter_map(|(slot, _)| slots[*slot].as_ref()) {
            values.extend(of_slot.iter());
        }
        // a layer that is told not to train its parameters gives no gradients
        if values.is_empty() {
            return Ok(None);
        }
        Ok(Some(numbers::tensor(values, tensor.shape(), tensor.dtype(), tensor.device())?))
    }
}

impl<L: Layer> CustomOp3 for Operation<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let taken = self.layer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut layer) = taken else {
            candle_core::bail!("{}: an operation runs once", L::NAME)
        };
        for (beside, (storage, layout)) in
            [(first, first_layout), (second, second_layout)].into_iter().enumerate()
        {
            let held = self.held(beside);
            if held.is_empty() {
                break;
            }
            let mut rest = numbers::table(storage, layout, L::NAME)?;
            for (slot, shape) in held {
                let next = rest.split_off(shape.elem_count());
                let values =
                    ArrayD::from_shape_vec(IxDyn(shape.dims()), std::mem::replace(&mut rest, next));
                layer.set(*slot, values.map_err(wrong)?);
            }
        }
        let y = with_elements!(x, L::NAME, x => self.forward(layer, x, x_layout))?;
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, slots) = {
            let ((x, x_layout), (dy, dy_layout)) =
                (x.storage_and_layout(), dy.storage_and_layout());
            let (Storage::Cpu(x), Storage::Cpu(dy)) = (&*x, &*dy) else {
                candle_core::bail!("{}: the gradient is not on the CPU, and x was", L::NAME)
            };
            with_elements!(x, L::NAME, x => self.backward((x, x_layout), (elements(dy)?, dy_layout)))?
        };
        let dx = x.track_op().then(|| numbers::of_storage(dx, x.shape()));
        Ok((dx, self.gradient(0, first, &slots)?, self.gradient(1, second, &slots)?))
    }
}
