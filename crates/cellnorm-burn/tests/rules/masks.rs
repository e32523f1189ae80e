//! Excluded values, and statistics of one valid value, are treated as on arrays.

use burn::tensor::{Device, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::cellnorm::shape::Excluded;
use cellnorm_burn::cellnorm::{self, Mask, Normalization, Semantics};
use cellnorm_burn::norms::AdaptiveStatistics;
use ndarray::{ArrayD, IxDyn};

use crate::common::{bools, close, devices, list, tensor, values};

const SHAPE: [usize; 3] = [4, 6, 3];

/// y, dx, and the gradients of γ and β of a layer in Burn and of the one on arrays, with the same
/// γ and β, under one mask.
macro_rules! agrees {
    ($name:expr, $device:expr, $mask:expr, $layer:expr, $arrays:expr) => {{
        let (layer, mut arrays, device, mask) = ($layer, $arrays, $device, $mask);
        let what = &format!("{} {mask:?} {device:?}", $name);
        let (x, dy) = (values(&SHAPE, 8), values(&SHAPE, 9));
        let parameter = |of: &Option<burn::module::Param<Tensor<1>>>, seed| {
            let of = of.as_ref()?;
            let values = values(&of.dims(), seed);
            let param = burn::module::Param::from_tensor(tensor::<1>(&values, device));
            Some((param, values))
        };
        let (gamma, beta) = (parameter(&layer.gamma, 1), parameter(&layer.beta, 2));
        let (of_gamma, of_beta) = (gamma.clone(), beta.clone());
        let mut layer = layer;
        (layer.gamma, layer.beta) = (gamma.map(|of| of.0), beta.map(|of| of.0));
        for (own, given) in [(&mut arrays.gamma, of_gamma), (&mut arrays.beta, of_beta)] {
            if let (Some(own), Some((_, values))) = (own, given) {
                own.iter_mut().zip(&values).for_each(|(own, value)| *own = *value);
            }
        }
        let input = tensor::<3>(&x, device).require_grad();
        let y = layer.forward_masked(input.clone(), bools(mask, SHAPE, device));
        let gradients = (y.clone() * tensor(&dy, device)).sum().backward();
        let (expected, saved) = arrays.forward_masked(x.view(), mask).unwrap();
        let of_arrays = arrays.backward(&saved, x.view(), dy.view()).unwrap();
        close(list(y), &expected, what);
        let dx = list(input.grad(&gradients).unwrap());
        close(dx.clone(), &of_arrays.dx, what);
        for (own, expected) in dx.iter().zip(&of_arrays.dx) {
            assert!(*expected != 0.0 || *own == 0.0, "{what}: {own} is not exactly 0");
        }
        for (own, expected) in [(&layer.gamma, &of_arrays.dgamma), (&layer.beta, &of_arrays.dbeta)]
        {
            if let Some(own) = own {
                let own = own.val().grad(&gradients).unwrap();
                close(list(own), expected.as_ref().unwrap(), what);
            }
        }
    }};
}

/// Burn's own layers, with several valid values a statistic, one, or none.
#[test]
fn excluded_values_are_treated_as_on_arrays() {
    let parts = Mask::Values(ArrayD::from_shape_fn(IxDyn(&SHAPE), |at| {
        (at[0] + at[1] + at[2]) % 3 == 0 || (at[0] == 1 && at[1] > 2)
    }));
    let masks = [
        Mask::lengths(&[3, 2, 1, 2], 2),
        Mask::lengths(&[1, 0, 0, 0], 2),
        Mask::lengths(&[1, 0, 3, 0], 2),
        Mask::lengths(&[1, 0, 2, 6], 1),
        parts,
    ];
    for (device, mask) in
        devices().iter().flat_map(|device| masks.iter().map(move |mask| (device, mask)))
    {
        for excluded in [Excluded::Zero, Excluded::Normalized] {
            macro_rules! pair {
                ($name:expr, $config:ident::$new:ident($($argument:expr),*)) => {
                    agrees!(
                        format!("{} {excluded:?}", $name),
                        device,
                        mask,
                        ours::$config::$new($($argument),*)
                            .with_excluded(excluded)
                            .init(device),
                        cellnorm::$config::$new($($argument),*)
                            .excluded(excluded)
                            .init()
                            .unwrap()
                    )
                };
            }
            pair!("batch", BatchNormConfig::new(6));
            pair!("instance", InstanceNormConfig::new(6));
            pair!("group", GroupNormConfig::new(3, 6));
            pair!("layer, a parameter a channel", LayerNormConfig::per_channel(6));
            pair!("layer over axes", LayerNormConfig::over(&[1, 2], &[6, 3]));
            agrees!(
                format!("RMS {excluded:?}"),
                device,
                mask,
                ours::RmsNormConfig::new(3).with_excluded(excluded).init(device),
                cellnorm::RmsNormConfig::new(&[3]).excluded(excluded).init().unwrap()
            );
        }
    }
}

/// With the same γ and β for each sample it is group normalization.
#[test]
fn adaptive_normalization_has_the_excluded_values_of_group_normalization() {
    let (x, mask) = (values(&SHAPE, 3), Mask::lengths(&[3, 2, 1, 2], 2));
    let [gamma, beta] = [5, 6].map(|seed| values(&[6], seed));
    let config = cellnorm::GroupNormConfig::new(3, 6).excluded(Excluded::Normalized);
    let mut arrays = config.init().unwrap();
    (arrays.gamma, arrays.beta) = (Some(gamma.clone()), Some(beta.clone()));
    let expected = arrays.forward_masked(x.view(), &mask).unwrap().0;
    for device in devices() {
        let config = ours::AdaptiveNormConfig::new(6, AdaptiveStatistics::Groups(3));
        let layer = config.with_excluded(Excluded::Normalized).init(&device);
        let [gamma, beta] = [&gamma, &beta].map(|of| {
            let row: Tensor<2> = tensor::<1>(of, &device).unsqueeze();
            row.expand([4, 6])
        });
        let (x, bools) = (tensor::<3>(&x, &device), bools(&mask, SHAPE, &device));
        close(list(layer.forward_masked(x, gamma, beta, bools)), &expected, "y");
    }
}

/// Keras and Flax normalize what a mask excludes, and so do layers with their semantics.
#[test]
fn semantics_say_what_becomes_of_excluded_values() {
    let device = Device::flex();
    let of = |name, of| Semantics::preset(name, of).unwrap();
    let keras = of("keras-3", Normalization::Batch);
    let config = ours::BatchNormConfig::new(3).with_semantics(&keras);
    assert_eq!(config.init(&device).excluded, Excluded::Normalized);
    let axes = ours::AxesBatchNormConfig::new(&[-1], &[3]).with_semantics(&keras);
    assert_eq!(axes.init(&device).excluded, Excluded::Normalized);
    let flax = of("flax-0.12", Normalization::Layer);
    let layer = ours::LayerNormConfig::new(3).with_semantics(&flax).init(&device);
    assert_eq!(layer.excluded, Excluded::Normalized);
    let torch =
        ours::BatchNormConfig::new(3).with_semantics(&of("pytorch-2", Normalization::Batch));
    assert_eq!(torch.init(&device).excluded, Excluded::Zero);
    let adaptive = ours::AdaptiveNormConfig::new(3, AdaptiveStatistics::Batch);
    assert_eq!(adaptive.with_semantics(&keras).excluded, Excluded::Normalized);
}

/// NaN where nothing is valid reaches y there, and no statistic.
#[test]
fn excluded_nan_is_in_no_statistic() {
    for device in devices() {
        let config = ours::InstanceNormConfig::new(1).with_excluded(Excluded::Normalized);
        let x = Tensor::<3>::from_floats([[[1.0, 3.0, f32::NAN]]], &device);
        let mask = Mask::lengths(&[2], 2);
        let y = config.init(&device).forward_masked(x, bools(&mask, [1, 1, 3], &device));
        let y = list(y);
        assert!((y[0] + 1.0).abs() < 1e-4 && (y[1] - 1.0).abs() < 1e-4 && y[2].is_nan(), "{y:?}");
    }
}

#[test]
fn no_samples_are_empty_under_a_mask() {
    for device in devices() {
        for excluded in [Excluded::Zero, Excluded::Normalized] {
            let layer = ours::LayerNormConfig::new(3).with_excluded(excluded).init(&device);
            let mask = Tensor::<2>::ones([1, 3], &device).greater_elem(0.0);
            let y = layer.forward_masked(Tensor::<2>::zeros([0, 3], &device), mask);
            assert_eq!(y.dims(), [0, 3]);
        }
    }
}
