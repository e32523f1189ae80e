//! A training step with this batch normalization holds less memory at once than one with Burn's:
//! allocated bytes, counted.
//!
//! The only test of its program, so that no other allocates beside it.

#[path = "../benches/counting/mod.rs"]
mod counting;

use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use counting::peak_bytes;

#[test]
fn a_step_holds_less_than_burns() {
    const SHAPE: [usize; 4] = [8, 16, 56, 56];
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::random(SHAPE, Distribution::Normal(0.5, 2.0), &device).require_grad();
    let weights = Tensor::<4>::random(SHAPE, Distribution::Default, &device);
    let step = |layer: &dyn Fn(Tensor<4>) -> Tensor<4>| {
        let y = layer(x.clone());
        let gradients = (y * weights.clone()).sum().backward();
        std::hint::black_box(x.grad(&gradients));
    };
    let own = cellnorm_burn::BatchNormConfig::new(16).init(&device);
    let peer = nn::BatchNormConfig::new(16).init(&device);
    // what is made once, such as threads, is there before
    step(&|x| peer.forward(own.forward(x)));
    let (theirs, ours) =
        (peak_bytes(|| step(&|x| peer.forward(x))), peak_bytes(|| step(&|x| own.forward(x))));
    assert!(ours < theirs, "{ours} bytes, Burn's {theirs}");
    // y, y times its weight, dy and dx, of which some share their memory
    let of_x = 4 * SHAPE.iter().product::<usize>();
    assert!(ours < 4 * of_x, "{ours} bytes are more than four times x");
}
