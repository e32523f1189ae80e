//! The tables of [`cellnorm::rule`] as Burn tensors, differentiated by Burn.

use std::ops::{Add, Div, Mul, Sub};

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use cellnorm::rule;
use cellnorm::shape::Labels;

/// A table of numbers as a Burn tensor.
#[derive(Clone, Debug)]
pub struct Table(pub Tensor<1>);

impl Table {
    fn indices(&self, labels: &Labels) -> Tensor<1, Int> {
        let of: Vec<i64> = labels.as_slice().iter().map(|label| i64::from(*label)).collect();
        Tensor::from_data(&of[..], &self.0.device())
    }

    /// The value of each member's set.
    pub(crate) fn take_rows(&self, labels: &Labels) -> Tensor<1> {
        if labels.are_members() {
            return self.0.clone();
        }
        self.0.clone().select(0, self.indices(labels))
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident);*) => {$(
        impl $trait for Table {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self($trait::$method(self.0, other.0))
            }
        }
    )*};
}
operator!(Add, add; Sub, sub; Mul, mul; Div, div);

macro_rules! unary {
    ($($method:ident),*) => {$(
        fn $method(self) -> Self {
            Self(self.0.$method())
        }
    )*};
}

impl rule::Table for Table {
    fn constant(&self, values: Vec<f64>) -> Self {
        Self(Tensor::from_data(&values[..], (&self.0.device(), self.0.dtype())))
    }

    fn plus(self, number: f64) -> Self {
        Self(self.0.add_scalar(number))
    }

    fn times(self, number: f64) -> Self {
        Self(self.0.mul_scalar(number))
    }

    fn sqrt(self) -> Self {
        // the gradient of a root at 0 is infinite, and infinite times 0 is NaN
        Self(self.0.clamp_min(1e-38).sqrt())
    }

    unary!(recip, exp, abs, detach);

    fn clamp(self, low: f64, high: f64) -> Self {
        Self(self.0.clamp(low, high))
    }

    fn take(&self, labels: &Labels) -> Self {
        Self(self.take_rows(labels))
    }

    fn sum(&self, labels: &Labels) -> Self {
        if labels.are_members() {
            return self.clone();
        }
        let zeros = Tensor::zeros([labels.count()], (&self.0.device(), self.0.dtype()));
        Self(zeros.select_assign(0, self.indices(labels), self.0.clone(), IndexingUpdateOp::Add))
    }
}

/// The numbers of a table, f64.
pub(crate) fn numbers(of: Tensor<1>) -> Vec<f64> {
    of.into_data().iter::<f64>().collect()
}
