//! How long one layer takes within a training step, forward and backward.
//!
//! Forward is timed around the call. Backward runs inside the tensor library, so the layer is put
//! between two marks: operations that return their input unchanged and whose backward notes the
//! time. Gradients flow from the last operation to the first and the CPU backend computes each one
//! before the next, so the time from the mark after the layer to the mark before it is that of the
//! layer's backward.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

/// The time at which the gradient passed a place in the network.
#[derive(Clone, Debug, Default)]
struct Mark(Arc<OnceLock<Instant>>);

#[backend_extension(Flex, Autodiff)]
trait MarkOps: Backend {
    /// Returns x; the backward notes the time in the mark.
    fn mark(x: FloatTensor<Self>, mark: Mark) -> FloatTensor<Self>;
}

impl MarkOps for Flex {
    fn mark(x: FloatTensor<Self>, _mark: Mark) -> FloatTensor<Self> {
        x
    }
}

impl<B: MarkOps, C: CheckpointStrategy> MarkOps for Autodiff<B, C> {
    fn mark(x: FloatTensor<Self>, mark: Mark) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct NoteTime;

        impl<B: Backend> Backward<B, 1> for NoteTime {
            type State = Mark;

            fn backward(self, ops: Ops<Mark, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                ops.state.0.get_or_init(Instant::now);
                unary::<B, _>(ops.parents, ops.node, grads, |dy| dy);
            }
        }

        let node = x.node();
        let x = x.into_primitive();
        match Backward::<B, 1>::prepare::<C>(NoteTime, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(mark, x),
            OpsKind::UnTracked(prep) => prep.finish(x),
        }
    }
}

fn mark<const D: usize>(x: Tensor<D>, mark: &Mark) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as MarkOps>::mark(x.into_dispatch(), mark.clone()))
}

/// Times of one layer in one training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// Time of the forward pass.
    pub forward: Duration,
    /// Time of the backward pass.
    pub backward: Duration,
}

/// Waits for the backward pass to complete the times of a layer.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::{LayerNormConfig, stopwatch::Stopwatch};
/// let device = Device::flex().autodiff();
/// let layer = LayerNormConfig::new(64).init(&device);
/// let x = Tensor::<2>::random([32, 64], Distribution::Default, &device).require_grad();
/// let (y, (), stopwatch) = Stopwatch::run(x, |x| (layer.forward(x), ()));
/// y.sum().backward();
/// assert!(stopwatch.read().unwrap().backward.as_nanos() > 0);
/// ```
#[derive(Debug)]
pub struct Stopwatch {
    forward: Duration,
    before: Mark,
    behind: Mark,
}

impl Stopwatch {
    /// Runs `layer` on `x` under the stopwatch. What it returns beside `y` is passed on.
    pub fn run<const D: usize, T>(
        x: Tensor<D>,
        layer: impl FnOnce(Tensor<D>) -> (Tensor<D>, T),
    ) -> (Tensor<D>, T, Self) {
        let (before, behind) = (Mark::default(), Mark::default());
        let x = mark(x, &before);
        let start = Instant::now();
        let (y, extra) = layer(x);
        let forward = start.elapsed();
        let y = mark(y, &behind);
        let stopwatch = Self { forward, before, behind };
        (y, extra, stopwatch)
    }

    /// The times, once the gradient has passed the layer.
    pub fn read(&self) -> Option<Lap> {
        let (from, to) = (self.behind.0.get()?, self.before.0.get()?);
        Some(Lap { forward: self.forward, backward: to.saturating_duration_since(*from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use std::thread::sleep;

    const PAUSE: Duration = Duration::from_millis(100);

    fn x() -> Tensor<4> {
        Tensor::<1>::from_floats([1.0, -2.0, 3.0], &Device::flex().autodiff())
            .reshape([1, 3, 1, 1])
            .require_grad()
    }

    #[test]
    fn values_and_gradients_pass_unchanged() {
        let x = x();
        let (y, (), _) = Stopwatch::run(x.clone(), |x| (x, ()));
        y.clone().into_data().assert_eq(&x.to_data(), true);
        let grads = (y.clone() * y).sum().backward();
        let dx = x.grad(&grads).expect("a gradient").into_data();
        dx.assert_eq(&TensorData::new(vec![2f32, -4.0, 6.0], [1, 3, 1, 1]), true);
    }

    #[test]
    fn only_the_layer_is_timed() {
        let (y, (), stopwatch) = Stopwatch::run(x(), |x| {
            sleep(PAUSE);
            (x.exp(), ())
        });
        assert_eq!(stopwatch.read(), None, "no gradient has passed yet");
        sleep(PAUSE);
        y.sum().backward();
        let lap = stopwatch.read().expect("the gradient has passed");
        assert!(lap.forward >= PAUSE);
        assert!(lap.backward < PAUSE, "{lap:?}");
    }

    #[test]
    fn the_backward_of_the_layer_lies_between_the_marks() {
        let slow = Mark::default();
        let (y, (), stopwatch) = Stopwatch::run(x(), |x| (mark(x.exp(), &slow).sin(), ()));
        y.sum().backward();
        let inside = *slow.0.get().expect("passed");
        assert!(*stopwatch.behind.0.get().expect("passed") <= inside);
        assert!(inside <= *stopwatch.before.0.get().expect("passed"));
    }
}
