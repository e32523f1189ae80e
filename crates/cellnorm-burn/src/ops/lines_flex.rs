//! Normalizations of lines on Burn's CPU backend.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use cellnorm::Cells;
use cellnorm::norms::{Roles, lines_of};

use super::arranged::{Arranged, narrow, wide, with_elements};
use super::{LineOps, LineSpec};

/// x with its lines: as it lies where these are next to each other in memory, else with the axes
/// that they lie along innermost.
fn arrange(x: FlexTensor, along: &[bool]) -> (Arranged, Cells) {
    let arranged = Arranged::as_it_lies(x);
    let in_memory: Vec<bool> = arranged.order.iter().map(|axis| along[*axis]).collect();
    if let Some(lines) = lines_of(&arranged.tensor.shape().to_vec(), &in_memory) {
        return (arranged, lines);
    }
    let x = arranged.restore();
    let roles = Roles::new(along.iter().map(|along| (*along, false)));
    let (outer, len) = (roles.sets(&x.shape().to_vec()), x.layout().num_elements());
    (Arranged::in_order(x, roles.shared_last()), Cells { outer, positions: len / outer, inner: 1 })
}

impl LineOps for Flex {
    fn lines(x: FlexTensor, spec: LineSpec) -> FlexTensor {
        let dtype = x.dtype();
        let (x, lines) = arrange(wide(x), &spec.along);
        let y = with_elements!(x.tensor, T => x.fresh::<T>(|x, y| spec.forward(x, y, &lines)));
        narrow(y, dtype)
    }

    fn lines_backward(x: FlexTensor, dy: FlexTensor, spec: LineSpec) -> FlexTensor {
        let dtype = x.dtype();
        let (x, lines) = arrange(wide(x), &spec.along);
        let dy = Arranged::in_order(narrow(dy, x.tensor.dtype()), x.order.clone());
        let dx = with_elements!(x.tensor, T => {
            dy.over::<T>(|dy_dx| spec.backward(x.elements::<T>(), dy_dx, &lines))
        });
        narrow(dx, dtype)
    }
}
