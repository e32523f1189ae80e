//! Tensors of any element type.

use cellnorm::{Element, kernels::Real};

/// The element nearest to a value.
pub fn element<T: Element>(value: f64) -> T {
    T::narrow(T::Acc::from_f64(value))
}

/// The value of an element.
pub fn wide<T: Element>(element: &T) -> f64 {
    element.widen().to_f64()
}

/// Runs the same expression with the element type of this number, 0 to 3.
macro_rules! with_element {
    ($number:expr, $T:ident => $run:expr) => {
        match $number % 4 {
            0 => {
                type $T = f32;
                $run
            }
            1 => {
                type $T = f64;
                $run
            }
            2 => {
                type $T = half::f16;
                $run
            }
            _ => {
                type $T = half::bf16;
                $run
            }
        }
    };
}
pub(crate) use with_element;
