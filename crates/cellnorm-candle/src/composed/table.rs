//! The tables of rules as Candle tensors of one axis.

use std::ops::{Add, Div, Mul, Sub};
use std::rc::Rc;

use candle_core::{DType, Device, Error, Result, Tensor};
use cellnorm::tables::{self, Labels};

use crate::numbers::wrong;

/// A table of numbers, or what went wrong on the way to it: a formula has no place for errors.
#[derive(Clone, Debug)]
pub(crate) struct Table(std::result::Result<Tensor, Rc<Error>>);

impl Table {
    pub(crate) fn of(tensor: Tensor) -> Self {
        Self(Ok(tensor))
    }

    /// A table of these numbers.
    pub(crate) fn numbers(values: Vec<f64>, dtype: DType, device: &Device) -> Self {
        let len = values.len();
        let tensor = match dtype {
            DType::F64 => Tensor::from_vec(values, len, device),
            // not every device has f64
            _ => Tensor::from_vec(
                values.into_iter().map(|value| value as f32).collect::<Vec<f32>>(),
                len,
                device,
            ),
        };
        Self(tensor.map_err(Rc::new))
    }

    pub(crate) fn tensor(self) -> Result<Tensor> {
        self.0.map_err(wrong)
    }

    fn map(&self, of: impl FnOnce(&Tensor) -> Result<Tensor>) -> Self {
        Self(self.0.as_ref().map_err(Rc::clone).and_then(|tensor| of(tensor).map_err(Rc::new)))
    }

    fn with(&self, other: &Self, of: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Self {
        match &other.0 {
            Ok(other) => self.map(|tensor| of(tensor, other)),
            Err(error) => Self(Err(error.clone())),
        }
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident);*) => {$(
        impl $trait for Table {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.with(&other, Tensor::$method)
            }
        }
    )*};
}
operator!(Add, add; Sub, sub; Mul, mul; Div, div);

fn indices(labels: &Labels, device: &Device) -> Result<Tensor> {
    Tensor::from_slice(labels.of(), labels.of().len(), device)
}

impl tables::Table for Table {
    fn constant(&self, values: Vec<f64>) -> Self {
        match &self.0 {
            Ok(tensor) => Self::numbers(values, tensor.dtype(), tensor.device()),
            Err(error) => Self(Err(error.clone())),
        }
    }

    fn plus(self, number: f64) -> Self {
        self.map(|tensor| tensor.affine(1.0, number))
    }

    fn times(self, number: f64) -> Self {
        self.map(|tensor| tensor.affine(number, 0.0))
    }

    fn sqrt(self) -> Self {
        // the gradient of a root at 0 is infinite, and infinite times 0 is NaN
        self.map(|tensor| tensor.maximum(1e-36)?.sqrt())
    }

    fn recip(self) -> Self {
        self.map(Tensor::recip)
    }

    fn exp(self) -> Self {
        self.map(Tensor::exp)
    }

    fn abs(self) -> Self {
        self.map(Tensor::abs)
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        self.map(|tensor| tensor.clamp(low, high))
    }

    fn take(&self, labels: &Labels) -> Self {
        if labels.are_members() {
            return self.clone();
        }
        self.map(|tensor| tensor.index_select(&indices(labels, tensor.device())?, 0))
    }

    fn sum(&self, labels: &Labels) -> Self {
        if labels.are_members() {
            return self.clone();
        }
        self.map(|tensor| {
            let zeros = Tensor::zeros(labels.count(), tensor.dtype(), tensor.device())?;
            zeros.index_add(&indices(labels, tensor.device())?, tensor, 0)
        })
    }

    fn detach(self) -> Self {
        self.map(|tensor| Ok(tensor.detach()))
    }
}
