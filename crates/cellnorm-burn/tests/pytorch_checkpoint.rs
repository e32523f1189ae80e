//! A PyTorch checkpoint loads into our layers through burn-store's adapter, which knows them by the
//! names of Burn's own.
//!
//! The checkpoint and PyTorch's output come from `fixtures/make_checkpoint.py`.

use std::path::Path;

use burn::module::{Module, RunningState};
use burn::tensor::{Device, Tensor};
use burn_store::{ModuleSnapshot, PytorchStore};
use cellnorm_burn::cellnorm::Momentum;
use cellnorm_burn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, RmsNorm,
    RmsNormConfig,
};

#[derive(Module, Debug)]
struct Net {
    batch: BatchNorm,
    group: GroupNorm,
    layer: LayerNorm,
    rms: RmsNorm,
}

#[derive(Module, Debug)]
struct OnlyBatch {
    batch: BatchNorm,
}

#[test]
fn a_pytorch_checkpoint_gives_pytorchs_numbers() {
    let device = Device::flex();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut net = Net {
        batch: BatchNormConfig::new(6).init(&device),
        group: GroupNormConfig::new(3, 6).init(&device),
        layer: LayerNormConfig::new(5).init(&device),
        rms: RmsNormConfig::new(5).init(&device),
    };
    let mut store = PytorchStore::from_file(fixtures.join("checkpoint.pt"));
    let applied = net.load_from(&mut store).expect("the checkpoint loads");
    assert_eq!(applied.missing, [], "every parameter and statistic is in the checkpoint");

    let json = std::fs::read_to_string(fixtures.join("checkpoint.json")).expect("readable");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let list = |name: &str| -> Vec<f32> {
        json[name]
            .as_array()
            .expect("a list")
            .iter()
            .map(|v| v.as_f64().expect("a number") as f32)
            .collect()
    };
    let x = Tensor::<1>::from_floats(list("x").as_slice(), &device).reshape([2, 6, 5, 5]);
    let y = net.rms.forward(net.layer.forward(net.group.forward(net.batch.forward(x))));
    let y = y.into_data().try_to_vec::<f32>().expect("f32");
    let error =
        y.iter().zip(list("y")).map(|(ours, torch)| (ours - torch).abs()).fold(0.0, f32::max);
    assert!(error < 1e-5, "differs from PyTorch by {error}");
}

#[test]
fn a_cumulative_layer_counts_on_from_a_pytorch_checkpoint() {
    let device = Device::flex().autodiff();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut net = OnlyBatch {
        batch: BatchNormConfig::new(6).with_momentum(Momentum::Cumulative).init(&device),
    };
    // PyTorch's count is an integer, which the reader would refuse
    let store = PytorchStore::from_file(fixtures.join("checkpoint.pt")).allow_partial(true);
    let mut store = store.with_predicate(|name, _| !name.ends_with("num_batches_tracked"));
    net.load_from(&mut store).expect("all but the count loads");
    net.batch.num_batches_tracked = Some(RunningState::new(Tensor::full([1], 3.0, &device)));

    let mean = |net: &OnlyBatch| -> Vec<f32> {
        net.batch.running_mean.value_sync().into_data().try_to_vec().unwrap()
    };
    let before = mean(&net);
    net.batch.forward(Tensor::<2>::ones([4, 6], &device));
    for (before, after) in before.iter().zip(mean(&net)) {
        assert!(
            (after - (0.75 * before + 0.25)).abs() < 1e-6,
            "the fourth batch has a quarter of the weight"
        );
    }
}
