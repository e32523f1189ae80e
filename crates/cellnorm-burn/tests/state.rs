//! State that moves in training: what a layer shows is what it saves, what it loads is what it has,
//! without `valid()` in between, for every module of ours that has such state.

use burn::module::{Module, RunningState};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Distribution, Tensor};
use cellnorm_burn::cellnorm::{Momentum, Normalization, Semantics};
use cellnorm_burn::norms::AdaptiveStatistics;
use cellnorm_burn::weights::SpectralNormConfig;
use cellnorm_burn::{
    AdaptiveNormConfig, AxesBatchNormConfig, BatchInstanceNormConfig, BatchNorm, BatchNormConfig,
    BatchRenormConfig, GhostBatchNormConfig, StepBatchNormConfig, SwitchableNormConfig,
    clone_with_statistics,
};

fn list<const D: usize>(of: Tensor<D>) -> Vec<f32> {
    of.into_data().convert::<f32>().try_to_vec().unwrap()
}

/// Flex, and a device without the fused operations.
#[expect(deprecated, reason = "the only other backend that builds without a GPU")]
fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()].map(Device::autodiff)
}

/// The life of a layer that `make` makes and `run` calls.
fn keeps_its_state<M: Module>(
    name: &str,
    make: impl Fn(&Device) -> M,
    run: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) {
    for device in devices() {
        let what = &format!("{name}, {device:?}");
        let x = |mean| Tensor::<3>::random([6, 3, 4], Distribution::Normal(mean, 2.0), &device);
        let train = |layer: &M, mean| (0..3).for_each(|_| drop(run(layer, x(mean))));
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["one", "other"].map(|name| folder.path().join(name));
        let layer = make(&device);
        layer.clone().save_file(&other).unwrap();
        let fresh = make(&device).load_file(&other);
        let input = x(1.0);
        let infer = |layer: &M| list(run(&layer.valid(), input.clone().inner()));
        assert_eq!(infer(&fresh), infer(&layer), "{what}: saved as it was made");

        train(&layer, 5.0);
        layer.clone().save_file(&path).unwrap();
        let (clone, frozen) = (layer.clone(), clone_with_statistics(&layer).freeze());
        let expected = infer(&layer);
        let y = list(run(&frozen, input.clone()));
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
        assert!(y.iter().zip(&expected).all(close), "{what}: frozen, {y:?} is not {expected:?}");
        assert_eq!(infer(&clone), expected, "{what}: a clone");
        assert_eq!(infer(&make(&device).load_file(&path)), expected, "{what}: into a new layer");

        let trained = make(&device);
        train(&trained, -50.0);
        let loaded = trained.load_file(&path);
        assert_eq!(infer(&loaded), expected, "{what}: into a layer that has trained");
        loaded.clone().save_file(&other).unwrap();
        assert_eq!(infer(&make(&device).load_file(&other)), expected, "{what}: saved again");

        let student = clone_with_statistics(&layer);
        assert_eq!(infer(&student), expected, "{what}: a clone with its own statistics");
        train(&student, 9.0);
        assert_eq!(infer(&layer), expected, "{what}: the teacher of a student that trains");
    }
}

fn linear(device: &Device) -> Linear {
    let linear = LinearConfig::new(4, 5).with_bias(false).init(device);
    linear.apply_reparameterization(SpectralNormConfig::new())
}

#[test]
fn records_clones_and_inference_have_the_last_step() {
    let batch = BatchNormConfig::new(3);
    keeps_its_state("batch", |device| batch.init(device), |layer, x| layer.forward(x));
    let cumulative = BatchNormConfig::new(3).with_momentum(Momentum::Cumulative);
    keeps_its_state("cumulative", |device| cumulative.init(device), |layer, x| layer.forward(x));
    macro_rules! rules {
        ($($config:expr;)*) => {$(
            keeps_its_state(
                stringify!($config),
                |device| $config.init(device),
                |layer, x| layer.forward(x),
            );
        )*};
    }
    rules! {
        AxesBatchNormConfig::new(&[1, 2], &[3, 4]);
        BatchRenormConfig::new(3);
        BatchRenormConfig::new(3)
            .with_semantics(&Semantics::preset("keras-3", Normalization::Batch).unwrap())
            .with_channel_axis(1);
        GhostBatchNormConfig::new(3, 2);
        StepBatchNormConfig::new(4, 3);
        BatchInstanceNormConfig::new(3);
        SwitchableNormConfig::new(3);
        SwitchableNormConfig::new(3).with_momentum(Momentum::Cumulative);
    }
    let step = StepBatchNormConfig::new(4, 3);
    keeps_its_state(
        "one step",
        |device| step.init(device),
        |layer, x| layer.at_step(1).forward(x.narrow(1, 1, 1)),
    );
    let adaptive = AdaptiveNormConfig::new(3, AdaptiveStatistics::Batch);
    keeps_its_state(
        "adaptive",
        |device| adaptive.init(device),
        |layer, x| {
            let ones = Tensor::ones([6, 3], &x.device());
            layer.forward(x, ones.clone(), ones)
        },
    );
    keeps_its_state("spectral", linear, |layer, x| layer.forward(x));
}

fn batches(layer: &BatchNorm, means: &[f32], device: &Device) {
    for mean in means {
        layer.forward(Tensor::<2>::from_floats([[mean - 1.0], [mean + 1.0]], device));
    }
}

/// Means of 0, 10, 20 and 30, half of the way each: 21.25; of the last three: 20.
#[test]
fn the_last_batch_is_in_the_running_mean() {
    for device in devices() {
        let half = BatchNormConfig::new(1).with_momentum(Momentum::Step(0.5)).init(&device);
        batches(&half, &[10.0, 20.0, 30.0], &device);
        assert_eq!(list(half.running_mean.value()), [21.25]);
        let config = BatchNormConfig::new(1).with_momentum(Momentum::Cumulative);
        let all = config.init(&device);
        batches(&all, &[10.0, 20.0, 30.0], &device);
        assert_eq!(list(all.running_mean.value()), [20.0]);
        assert_eq!(list(all.num_batches_tracked.as_ref().unwrap().value()), [3.0]);
    }
}

/// With vectors of another weight, σ would be too small and y several times too large.
#[test]
fn a_spectral_norm_that_is_loaded_has_the_vectors_of_its_own_weight() {
    let device = Device::flex().autodiff();
    let make = || {
        let linear = LinearConfig::new(40, 30).with_bias(false).init(&device);
        linear.apply_reparameterization(SpectralNormConfig::new())
    };
    let (folder, layer) = (tempfile::tempdir().unwrap(), make());
    let path = folder.path().join("spectral");
    layer.clone().save_file(&path).unwrap();
    let x = Tensor::<2>::ones([1, 40], &Device::flex());
    let norm = |layer: &Linear| {
        let y = layer.valid().forward(x.clone());
        y.square().sum().sqrt().into_scalar::<f32>()
    };
    assert_eq!(norm(&make().load_file(&path)), norm(&layer));
    // σ is found to a few percent, and ‖x‖ = √40
    assert!(norm(&layer) < 1.2 * 40_f32.sqrt());
}

/// Whoever moves the averages first: the mean of all batches is the same.
#[test]
fn clones_in_several_threads_take_one_step_after_another() {
    for device in devices() {
        let layer = BatchNormConfig::new(1).with_momentum(Momentum::Cumulative).init(&device);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (layer, device) = (clone_of(&layer, &device), device.clone());
                scope.spawn(move || batches(&layer, &[thread as f32; 25], &device));
            }
        });
        assert_eq!(list(layer.num_batches_tracked.as_ref().unwrap().value()), [100.0]);
        assert!((list(layer.running_mean.value())[0] - 1.5).abs() < 1e-5);
    }
}

/// With leaves of its own, whose lock in Burn's graph other threads would hold.
fn clone_of(layer: &BatchNorm, device: &Device) -> BatchNorm {
    let parameters = BatchNormConfig::new(1).init(device);
    let BatchNorm { gamma, beta, .. } = parameters;
    BatchNorm { gamma, beta, ..layer.clone() }
}

/// As after an overflow of a scaled loss.
#[test]
fn statistics_that_are_not_finite_move_nothing() {
    for device in devices() {
        for momentum in [Momentum::Step(0.1), Momentum::Cumulative] {
            let layer = BatchNormConfig::new(2).with_momentum(momentum).init(&device);
            for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                let x = Tensor::<2>::from_floats([[1.0, 2.0], [bad, 4.0]], &device);
                let y = layer.forward(x);
                y.clone().sum().backward();
                let y = list(y);
                assert!(y[0].is_nan() && y[2].is_nan(), "the loss scaler sees it: {y:?}");
                assert!((y[1] + 1.0).abs() < 1e-4 && (y[3] - 1.0).abs() < 1e-4);
                assert_eq!(list(layer.running_mean.value()), [0.0, 0.0]);
                assert_eq!(list(layer.running_var.value()), [1.0, 1.0]);
            }
            layer.forward(Tensor::<2>::from_floats([[1.0, 2.0], [2.0, 6.0]], &device));
            let weight = momentum.weight(1) as f32;
            let close = |ours: Vec<f32>, theirs: [f32; 2]| {
                assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?}");
            };
            close(list(layer.running_mean.value()), [1.5 * weight, 4.0 * weight]);
            let kept = 1.0 - weight;
            close(list(layer.running_var.value()), [kept + 0.5 * weight, kept + 8.0 * weight]);
        }
    }
}

/// The variance of finite values that f32 cannot hold.
#[test]
fn statistics_too_large_for_the_averages_move_nothing() {
    for device in devices() {
        let layer = BatchNormConfig::new(1).init(&device);
        for x in [[[-1e25], [1e25]], [[-1.6e19], [1.6e19]], [[-3e38], [3e38]]] {
            layer.forward(Tensor::<2>::from_floats(x, &device));
            let state = [&layer.running_mean, &layer.running_var].map(|of| list(of.value()));
            assert_eq!(state, [[0.0], [1.0]], "{x:?} {device:?}");
        }
    }
}

/// Rules on cells, and masked layers, whose statistics go another way.
#[test]
fn a_rule_passes_on_what_is_not_finite_and_moves_nothing() {
    for device in devices() {
        let x = Tensor::<3>::full([4, 3, 2], f32::INFINITY, &device);
        macro_rules! rules {
            ($($config:expr;)*) => {$(
                let layer = $config.init(&device);
                let state = |of: &Option<RunningState<Tensor<1>>>| list(of.as_ref().unwrap().value());
                let before = [state(&layer.running_mean), state(&layer.running_var)];
                layer.forward(x.clone().require_grad()).sum().backward();
                let after = [state(&layer.running_mean), state(&layer.running_var)];
                assert_eq!(before, after, "{} {device:?}", stringify!($config));
            )*};
        }
        rules! {
            AxesBatchNormConfig::new(&[1, 2], &[3, 2]);
            BatchRenormConfig::new(3);
            GhostBatchNormConfig::new(3, 2);
            StepBatchNormConfig::new(2, 3);
            BatchInstanceNormConfig::new(3);
            SwitchableNormConfig::new(3);
        }
        let layer = BatchNormConfig::new(3).init(&device);
        let mask = x.clone().greater_elem(0.0);
        layer.forward_masked(x.clone().require_grad(), mask).sum().backward();
        assert_eq!(list(layer.running_mean.value()), [0.0; 3]);
    }
}

/// A bf16 mean of 1 would stand still beside batches of 1.0195.
#[test]
fn running_statistics_are_f32_at_least() {
    let device = Device::flex().autodiff();
    let half = || RunningState::new(Tensor::<1>::ones([1], &device).cast(DType::BF16));
    let layer = BatchNormConfig::new(1).init(&device);
    let layer = BatchNorm { running_mean: half(), running_var: half(), ..layer };
    let x = Tensor::<2>::from_floats([[0.9195], [1.1195]], &device);
    for _ in 0..300 {
        layer.forward(x.clone());
    }
    assert!((list(layer.running_mean.value())[0] - 1.0195).abs() < 1e-4);
}

/// On a device without autodiff, too, where inference would turn them off.
#[test]
fn a_clone_with_its_own_statistics_has_the_training_flags_of_the_module() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let layer = BatchNormConfig::new(3).init(&device);
        let flag = |layer: &BatchNorm| (layer.training.is_enabled(), clone_flags(layer));
        for layer in [layer.clone(), layer.clone().freeze(), layer.valid(), layer.freeze().valid()]
        {
            assert_eq!(flag(&clone_with_statistics(&layer)), flag(&layer), "{device:?}");
        }
    }
}

/// Whether the layer trains after `train()`.
fn clone_flags(layer: &BatchNorm) -> bool {
    layer.valid().train().training.is_enabled()
}
