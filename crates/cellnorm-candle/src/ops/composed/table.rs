//! The tables of rules as Candle tensors of one axis.

use std::ops::{Add, Div, Mul, Sub};
use std::rc::Rc;

use candle_core::{DType, Device, Error, Result, Tensor};
use cellnorm::rule;
use cellnorm::shape::Labels;

use crate::numbers::wrong;

/// A table of numbers, or the error on the way to it: a formula has no place for errors.
#[derive(Clone, Debug)]
pub(crate) struct Table(std::result::Result<Tensor, Rc<Error>>);

impl Table {
    pub(crate) fn new(tensor: Tensor) -> Self {
        Self(Ok(tensor))
    }

    /// A table of these numbers.
    pub(crate) fn from_values(values: Vec<f64>, dtype: DType, device: &Device) -> Self {
        let shape = values.len().into();
        Self(crate::numbers::tensor(values, &shape, dtype, device).map_err(Rc::new))
    }

    pub(crate) fn tensor(self) -> Result<Tensor> {
        self.0.map_err(wrong)
    }

    fn map(&self, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Self {
        Self(self.0.as_ref().map_err(Rc::clone).and_then(|tensor| f(tensor).map_err(Rc::new)))
    }

    fn zip(&self, other: &Self, f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Self {
        match &other.0 {
            Ok(other) => self.map(|tensor| f(tensor, other)),
            Err(error) => Self(Err(error.clone())),
        }
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident);*) => {$(
        impl $trait for Table {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.zip(&other, Tensor::$method)
            }
        }
    )*};
}
operator!(Add, add; Sub, sub; Mul, mul; Div, div);

macro_rules! unary {
    ($($method:ident),*) => {$(
        fn $method(self) -> Self {
            self.map(Tensor::$method)
        }
    )*};
}

fn indices(labels: &Labels, device: &Device) -> Result<Tensor> {
    Tensor::new(labels.as_slice(), device)
}

impl rule::Table for Table {
    fn constant(&self, values: Vec<f64>) -> Self {
        match &self.0 {
            Ok(tensor) => Self::from_values(values, tensor.dtype(), tensor.device()),
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

    unary!(recip, exp, abs);

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
