//! Recalibration leaves the network as it was after an error, and other layers always.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn::cellnorm::Error;
use cellnorm_burn::{BatchNorm, BatchNormConfig, BatchRenorm, BatchRenormConfig, recalibrate};

use super::recalibrate::{Network, batches, list, running};

#[test]
fn errors_leave_everything() {
    let device = Device::flex().autodiff();
    let network = Network::new(&device);
    let before = running(&network);
    let refuse = |network: &Network, batches: Vec<Tensor<2>>, message: &str| {
        let error = recalibrate(network, batches, Network::forward).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(running(network), before, "after: {error}");
    };
    refuse(&network, vec![], "recalibrate was given no batch");
    let mut not_finite = batches(&device);
    not_finite.push(Tensor::full([3, 3], f32::NAN, &device));
    refuse(
        &network,
        not_finite,
        "\"norm\" would have statistics that are not finite, first in channel 0",
    );
    refuse(&network.clone().freeze(), batches(&device), "not frozen");
    let plain = batches(&device).into_iter().map(Tensor::without_autodiff).collect();
    refuse(&network.valid(), plain, "on a training device");

    let late = |network: &Network, x: Tensor<2>| {
        assert!(x.dims()[0] != 20, "the last one");
        network.forward(x)
    };
    assert!(
        catch_unwind(AssertUnwindSafe(|| recalibrate(&network, batches(&device), late))).is_err()
    );
    assert_eq!(running(&network), before);
    network.forward(batches(&device).remove(0));
    assert_ne!(running(&network)[0], before[0], "nobody records any more");
}

/// A frozen layer, one that is not used, and one of another kind.
#[derive(Module, Debug)]
struct Mixed {
    norms: Vec<BatchNorm>,
    renorm: BatchRenorm,
}

#[test]
fn other_layers_stay() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let mut norms: Vec<BatchNorm> = (0..3).map(|_| BatchNormConfig::new(2).init(&device)).collect();
    norms[0] = norms[0].clone().freeze();
    let mixed = Mixed { norms, renorm: BatchRenormConfig::new(2).init(&device) };
    let means = |mixed: &Mixed| -> Vec<Vec<f64>> {
        let renorm = mixed.renorm.running_mean.as_ref().unwrap().value_sync();
        let norms = mixed.norms.iter().map(|norm| norm.running_mean.value_sync());
        norms.chain([renorm]).map(list).collect()
    };
    let before = means(&mixed);
    let x = Tensor::<2>::random([30, 2], Distribution::Normal(4.0, 1.0), &device);
    let forward =
        |mixed: &Mixed, x| mixed.renorm.forward(mixed.norms[2].forward(mixed.norms[0].forward(x)));
    let report = recalibrate(&mixed, x.split(11, 0), forward)?;
    assert_eq!(report.iter().map(|layer| layer.path.as_str()).collect::<Vec<_>>(), ["norms.2"]);
    let after = means(&mixed);
    assert_eq!([&after[0], &after[1], &after[3]], [&before[0], &before[1], &before[3]]);
    assert!((after[2][0] - 4.0).abs() < 1.0, "{after:?}");
    Ok(())
}
