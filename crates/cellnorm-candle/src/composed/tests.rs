//! Composed layers beside the fused ones, on the CPU, which has both: outputs, gradients and
//! running averages.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use cellnorm::norms::{Features, Group, Instance, Kind, Layer as LayerKind, NormConfig, Rms};
use cellnorm::tables::{Rule, TableNorm, TableNormConfig};
use cellnorm::weights::{WeightDirection, WeightNormConfig};
use cellnorm::{
    BatchInstanceNormConfig, BatchNormConfig, FilterResponseNormConfig, GhostBatchNormConfig,
    GroupParameters, Mode, OneValue, SwitchableNormConfig,
};

use crate::LocalResponseNorm;
use crate::ops::{BatchLayer, Layer, apply};

const SHAPE: [usize; 3] = [4, 6, 5];

fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| (((i + 1) * (2 * seed + 3) * 7919 % 1009) as f64 / 1009.0 - 0.5) * 3.0;
    Tensor::from_vec((0..count).map(value).collect(), shape, &Device::Cpu).unwrap()
}

fn variable(shape: &[usize], seed: usize) -> Var {
    // away from the ends of [0, 1], where the gradient of a bound is a matter of taste
    Var::from_tensor(&tensor(shape, seed).affine(0.1, 0.5).unwrap()).unwrap()
}

/// The largest number; NaN, which the usual maximum drops, if there is any.
fn worst(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().fold(0.0, |worst, number| if number <= worst { worst } else { number })
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let apart =
        (a - b).and_then(|d| d.abs()?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()).unwrap();
    worst(apart)
}

/// Compares the two forms of a layer; `averages` are what it keeps.
fn check<L: Layer>(
    what: &str,
    layer: &L,
    x: &[usize],
    parameters: &[&[usize]],
    averages: impl Fn(&L) -> Vec<f64>,
) {
    let valid = Tensor::from_vec(
        (0..x.iter().product::<usize>()).map(|i| u8::from(i % 7 != 2)).collect(),
        x,
        &Device::Cpu,
    );
    let masks = [None, Some(crate::mask(&valid.unwrap()).unwrap())];
    for mask in masks
        .iter()
        .map(Option::as_ref)
        .filter(|mask| mask.is_none() || !what.starts_with("no mask"))
    {
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 2e-5)] {
            let cast = |var: Var| Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap();
            let x = cast(Var::from_tensor(&tensor(x, 1)).unwrap());
            let vars: Vec<Var> = parameters
                .iter()
                .enumerate()
                .map(|(i, shape)| cast(variable(shape, 2 + i)))
                .collect();
            let parameters: Vec<Option<Tensor>> =
                vars.iter().map(|var| Some(var.as_tensor().clone())).collect();
            let dy = tensor(x.dims(), 9).to_dtype(dtype).unwrap();

            let (mut of_fused, mut composed) = (vec![], layer.clone());
            let fused = apply(layer.clone(), &x, &parameters, mask, |layer| {
                of_fused = averages(layer);
                Ok(())
            });
            let ys = [fused.unwrap(), composed.composed(&x, &parameters, mask).unwrap()];
            let what = format!("{what}, {dtype:?}, masked {}", mask.is_some());
            assert!(apart(&ys[0], &ys[1]) < tolerance, "{what}: y");
            let [fused, other] =
                ys.map(|y| (y * &dy).and_then(|l| l.sum_all()?.backward()).unwrap());
            for (i, var) in vars.iter().chain([&x]).enumerate() {
                let [fused, other] =
                    [&fused, &other].map(|of| of.get(var).unwrap_or_else(|| panic!("{what}: {i}")));
                let error = apart(fused, other);
                assert!(error < 10.0 * tolerance, "{what}: gradient {i} is off by {error}");
            }
            assert_eq!(of_fused.len(), averages(&composed).len());
            let off = worst(of_fused.iter().zip(averages(&composed)).map(|(a, b)| (a - b).abs()));
            assert!(off < tolerance, "{what}: averages are off by {off}");
        }
    }
}

fn kind<K: Kind + Send + Sync + 'static>(what: &str, kind: K, parameters: &[&[usize]]) {
    let layer = NormConfig::of(kind).scale(false).center(false).init().unwrap();
    check(what, &layer, &SHAPE, parameters, |_| vec![]);
}

#[test]
fn kinds() {
    kind("layer", LayerKind(Features::Last(vec![5])), &[&[5], &[5]]);
    kind("layer without β", LayerKind(Features::Last(vec![6, 5])), &[&[6, 5]]);
    kind(
        "layer of axes apart",
        LayerKind(Features::Axes(vec![0, 2], vec![4, 5])),
        &[&[4, 5], &[4, 5]],
    );
    kind(
        "layer of channels",
        LayerKind(Features::PerChannel { channels: 6, axis: 1 }),
        &[&[6], &[6]],
    );
    kind("rms", Rms(Features::Last(vec![5])), &[&[5]]);
    let parameters = GroupParameters::PerChannel;
    kind("group", Group { groups: 3, channels: 6, channel_axis: 1, parameters }, &[&[6], &[6]]);
    kind("instance", Instance { channels: 6, channel_axis: 1 }, &[&[6], &[6]]);
    kind(
        "instance, channels last, without γ and β",
        Instance { channels: 5, channel_axis: -1 },
        &[],
    );
}

#[test]
fn batch() {
    for (mode, axis, channels) in
        [(Mode::training(), 1, 6), (Mode::inference(), 1, 6), (Mode::training(), -1, 5)]
    {
        let mut norm = BatchNormConfig::new(channels)
            .channel_axis(axis)
            .scale(false)
            .center(false)
            .init()
            .unwrap();
        norm.mode = mode;
        norm.running_mean += 0.25;
        let averages = |of: &BatchLayer| {
            [of.norm.running_mean.to_vec(), of.norm.running_var.to_vec()].concat()
        };
        let layer = BatchLayer { norm, channel_axis: axis };
        check(&format!("batch {mode:?}"), &layer, &SHAPE, &[&[channels], &[channels]], averages);
    }
}

fn rule<R: Rule + 'static>(config: TableNormConfig<R>, parameters: &[&[usize]]) {
    for mode in [Mode::training(), Mode::inference()] {
        let mut layer = config.clone().init().unwrap();
        layer.mode = mode;
        let averages = |of: &TableNorm<R>| {
            of.running.iter().flat_map(|of| of.mean.iter().chain(&of.variance)).copied().collect()
        };
        check(R::NAME, &layer, &SHAPE, parameters, averages);
    }
}

#[test]
fn rules() {
    rule(BatchInstanceNormConfig::new(6), &[&[6], &[6], &[6]]);
    rule(SwitchableNormConfig::new(6), &[&[6], &[6], &[3], &[3]]);
    rule(FilterResponseNormConfig::new(6).learned_epsilon(true), &[&[6], &[6], &[1]]);
    rule(GhostBatchNormConfig::new(6, 2), &[&[6], &[6]]);
    let direction = WeightDirection { axis: Some(0), outputs: 4 };
    check(
        "no mask: weight",
        &WeightNormConfig::of(direction).init().unwrap(),
        &SHAPE,
        &[&[4]],
        |_| vec![],
    );
}

#[test]
fn lines() {
    let layer = LocalResponseNorm { alpha: 0.7, ..LocalResponseNorm::new(4) };
    check("no mask: local response", &layer, &SHAPE, &[], |_| vec![]);
    let last = LocalResponseNorm { channel_axis: -1, ..LocalResponseNorm::new(9) };
    check("no mask: local response, channels last", &last, &SHAPE, &[], |_| vec![]);
}

#[test]
fn refusals_are_the_same() {
    let x = tensor(&[1, 6], 1);
    let config = BatchNormConfig::new(6).scale(false).center(false);
    for (one_value, refused) in
        [(OneValue::Error, true), (OneValue::Beta, false), (OneValue::UseRunning, false)]
    {
        let norm = config.clone().one_value(one_value).init().unwrap();
        let mut composed = BatchLayer { norm, channel_axis: 1 };
        let fused = apply(composed.clone(), &x, &[None, None], None, |_| Ok(()));
        let composed = composed.composed(&x, &[None, None], None);
        assert_eq!((fused.is_err(), composed.is_err()), (refused, refused), "{one_value:?}");
        if let (Ok(fused), Ok(composed)) = (fused, composed) {
            assert!(apart(&fused, &composed) < 1e-12);
        }
    }
    let mut layer = NormConfig::of(LayerKind(Features::Last(vec![1])))
        .scale(false)
        .center(false)
        .init()
        .unwrap();
    assert!(layer.composed(&tensor(&[4, 1], 1), &[None, None], None).is_err());
    assert!(layer.composed(&tensor(&[0, 1], 1), &[None, None], None).is_err());
    assert!(layer.composed(&tensor(&[4, 2], 1), &[None, None], None).is_err());
}

#[test]
fn halves() {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let layer = crate::layer_norm(5, 1e-5, vb).unwrap();
    let x = tensor(&SHAPE, 1).to_dtype(DType::BF16).unwrap();
    let mut composed = NormConfig::of(LayerKind(Features::Last(vec![5])))
        .scale(false)
        .center(false)
        .init()
        .unwrap();
    let y = composed
        .composed(&x, &[Some(layer.weight().clone()), layer.bias().cloned()], None)
        .unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    assert!(apart(&wide(&y), &wide(&layer.forward(&x).unwrap())) <= 2.0_f64.powi(-7));
}
