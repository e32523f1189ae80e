//! Composed layers beside the fused ones, on the CPU, which has both: outputs, gradients and
//! running averages.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use cellnorm::norms::{Batch, Features, GemmaRms, Group, Instance, Layer as LayerRule, Rms};
use cellnorm::rule::{Norm, NormConfig, Rule};
use cellnorm::weights::WeightDirection;
use cellnorm::{
    Activation, BatchNormConfig, Mask, Mode, Momentum, OneValue, RunningVariance,
    norms::{
        BatchInstanceNormConfig, BatchRenormConfig, FilterResponseNormConfig, GhostBatchNormConfig,
        RmsScalingNormConfig, SwitchableNormConfig, TrackedInstanceNormConfig,
    },
    semantics::GroupParameters,
    shape::Excluded,
};

use super::normalize;
use crate::LocalResponseNorm;
use crate::ops::{NamedTensor, apply};

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

/// y of one form of a layer, and the averages that it keeps.
type Form<'a> = &'a dyn Fn(&Tensor, &[NamedTensor], Option<&Mask>) -> (Tensor, Vec<f64>);

/// Compares the fused and the composed form of a layer.
fn compare(
    what: &str,
    parameters: &[(&'static str, &[usize])],
    masks: &[Option<Mask>],
    forms: [Form<'_>; 2],
) {
    for mask in masks.iter().map(Option::as_ref) {
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 2e-5)] {
            let cast = |var: Var| Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap();
            let x = cast(Var::from_tensor(&tensor(&SHAPE, 1)).unwrap());
            let vars = parameters.iter().enumerate();
            let vars: Vec<Var> = vars.map(|(i, (_, shape))| cast(variable(shape, 2 + i))).collect();
            let named = parameters.iter().zip(&vars);
            let parameters: Vec<NamedTensor> =
                named.map(|((name, _), var)| (*name, Some(var.as_tensor().clone()))).collect();
            let dy = tensor(x.dims(), 9).to_dtype(dtype).unwrap();

            let [(y, averages), (other_y, others)] = forms.map(|form| form(&x, &parameters, mask));
            let what = format!("{what}, {dtype:?}, masked {}", mask.is_some());
            assert!(apart(&y, &other_y) < tolerance, "{what}: y");
            let [fused, other] =
                [y, other_y].map(|y| (y * &dy).and_then(|l| l.sum_all()?.backward()).unwrap());
            for (i, var) in vars.iter().chain([&x]).enumerate() {
                let [fused, other] = [&fused, &other]
                    .map(|gradients| gradients.get(var).unwrap_or_else(|| panic!("{what}: {i}")));
                let error = apart(fused, other);
                assert!(error < 10.0 * tolerance, "{what}: gradient {i} is off by {error}");
            }
            assert_eq!(averages.len(), others.len());
            let off = worst(averages.iter().zip(others).map(|(a, b)| (a - b).abs()));
            assert!(off < tolerance, "{what}: averages are off by {off}");
        }
    }
}

/// Compares with and without a mask; weights have none.
fn check<R: Rule + 'static>(norm: Norm<R>, what: &str, shapes: &[&[usize]]) {
    let names = norm.rule().parameters().into_iter().map(|spec| spec.name);
    let parameters: Vec<_> = names.zip(shapes.iter().copied()).collect();
    let count: usize = SHAPE.iter().product();
    let valid = (0..count).map(|i| u8::from(i % 7 != 2)).collect();
    let valid = crate::mask(&Tensor::from_vec(valid, &SHAPE, &Device::Cpu).unwrap()).unwrap();
    let masks = [None, Some(valid)];
    check_with(norm, what, &parameters, &masks[..2 - usize::from(R::OF_WEIGHTS)]);
}

/// Compares y, the gradients and the averages under these masks.
fn check_with<R: Rule + 'static>(
    norm: Norm<R>,
    what: &str,
    parameters: &[(&'static str, &[usize])],
    masks: &[Option<Mask>],
) {
    let averages = |norm: &Norm<R>| {
        let correction = norm.correction.iter().map(|of| &of.averages);
        let running = norm.running.iter().chain(correction);
        running.flat_map(|of| of.mean.iter().chain(&of.variance)).copied().collect()
    };
    let fused: Form<'_> = &|x, parameters, mask| {
        let mut moved = vec![];
        let y = apply(norm.clone(), x, parameters, mask, |norm| {
            moved = averages(norm);
            Ok(())
        });
        (y.unwrap(), moved)
    };
    let composed: Form<'_> = &|x, parameters, mask| {
        let mut norm = norm.clone();
        (normalize(&mut norm, x, parameters, mask).unwrap(), averages(&norm))
    };
    compare(what, parameters, masks, [fused, composed]);
}

/// Compares under a mask that leaves some sets without values, and one with one, where excluded
/// values are 0 and where they are normalized.
fn check_masked<R: Rule + 'static>(mut norm: Norm<R>, shapes: &[&[usize]]) {
    let names = norm.rule().parameters().into_iter().map(|spec| spec.name);
    let parameters: Vec<_> = names.zip(shapes.iter().copied()).collect();
    // of channel 0 nothing; of channel 2, one value of one sample
    let is_valid = |i: usize| match i / 5 % 6 {
        0 => false,
        2 => i == 12,
        _ => i % 3 != 1,
    };
    let valid: Vec<u8> = (0..SHAPE.iter().product()).map(|i| u8::from(is_valid(i))).collect();
    let valid = Tensor::from_vec(valid, &SHAPE, &Device::Cpu).unwrap();
    let masks = [Some(crate::mask(&valid).unwrap())];
    // a set without values is divided by its root
    norm.epsilon = 0.5;
    for excluded in [Excluded::Zero, Excluded::Normalized] {
        norm.excluded = excluded;
        let what = format!("{}, excluded values {excluded:?}", R::NAME);
        check_with(norm.clone(), &what, &parameters, &masks);
    }
}

fn bare<R: Rule>(rule: R) -> Norm<R> {
    NormConfig::custom(rule).scale(false).center(false).init().unwrap()
}

fn plain<R: Rule + 'static>(what: &str, rule: R, shapes: &[&[usize]]) {
    check(bare(rule), what, shapes);
}

#[test]
fn plain_rules() {
    plain("layer", LayerRule(Features::Last(vec![5])), &[&[5], &[5]]);
    plain("layer without β", LayerRule(Features::Last(vec![6, 5])), &[&[6, 5]]);
    let axes = Features::Axes(vec![0, 2], vec![4, 5]);
    plain("layer of axes apart", LayerRule(axes), &[&[4, 5], &[4, 5]]);
    let channels = Features::PerChannel { channels: 6, axis: 1 };
    plain("layer of channels", LayerRule(channels), &[&[6], &[6]]);
    plain("rms", Rms(Features::Last(vec![5])), &[&[5]]);
    plain("Gemma's rms", GemmaRms(Features::Last(vec![5])), &[&[5]]);
    let parameters = GroupParameters::PerChannel;
    plain("group", Group { groups: 3, channels: 6, channel_axis: 1, parameters }, &[&[6], &[6]]);
    plain("instance", Instance { channels: 6, channel_axis: 1 }, &[&[6], &[6]]);
    let last = Instance { channels: 5, channel_axis: -1 };
    plain("instance, channels last, without γ and β", last, &[]);
}

#[test]
fn masks() {
    check_masked(bare(LayerRule(Features::Last(vec![5]))), &[&[5], &[5]]);
    check_masked(bare(Rms(Features::Last(vec![5]))), &[&[5]]);
    let instance = Instance { channels: 6, channel_axis: 1 };
    check_masked(bare(instance.clone()), &[&[6], &[6]]);
    let mut gelu = bare(instance);
    gelu.activation = Activation::Gelu;
    check_masked(gelu, &[&[6], &[6]]);
    for mode in [Mode::training(), Mode::inference()] {
        let mut norm = bare(Batch::new(6, 1));
        norm.mode = mode;
        check_masked(norm, &[&[6], &[6]]);
        let mut norm = SwitchableNormConfig::new(6).init().unwrap();
        norm.mode = mode;
        check_masked(norm, &[&[6], &[6], &[3], &[3]]);
    }
}

/// The only valid value of an instance is 3, and another instance has two excluded values.
#[test]
fn dx_of_the_only_valid_value() {
    let x = Var::new(&[[[3.0_f64, 7.0, 8.0], [1.0, 2.0, 4.0]]], &Device::Cpu).unwrap();
    let dy = Tensor::new(&[[[0.3_f64, 0.0, 0.0], [0.5, 0.25, 0.125]]], &Device::Cpu).unwrap();
    let mask = Mask::new(ndarray::array![[[true, false, false], [true, true, true]]].view());
    let gamma = Var::new(&[0.7_f64, 1.9], &Device::Cpu).unwrap();
    for excluded in [Excluded::Zero, Excluded::Normalized] {
        let mut norm = bare(Instance { channels: 2, channel_axis: 1 });
        norm.excluded = excluded;
        let parameters = [("gamma", Some(gamma.as_tensor().clone())), ("beta", None)];
        let fused = apply(norm.clone(), &x, &parameters, Some(&mask), |_| Ok(())).unwrap();
        let composed = normalize(&mut norm, &x, &parameters, Some(&mask)).unwrap();
        for y in [fused, composed] {
            let gradients = (y * &dy).and_then(|l| l.sum_all()?.backward()).unwrap();
            let dx: Vec<f64> =
                gradients.get(&x).and_then(|dx| dx.flatten_all().ok()?.to_vec1().ok()).unwrap();
            assert_eq!(dx[..3], [0.0; 3], "{excluded:?}");
            assert!(dx[3..].iter().all(|dx| *dx != 0.0));
        }
    }
}

#[test]
fn activations() {
    use Activation::{Gelu, LeakyRelu, Relu, Silu};
    for activation in [Relu, LeakyRelu(0.3), Silu, Gelu] {
        let mut norm = bare(LayerRule(Features::Last(vec![5])));
        norm.activation = activation;
        check(norm, &format!("{activation:?}"), &[&[5], &[5]]);
    }
}

#[test]
fn batch() {
    for (mode, axis, channels) in
        [(Mode::training(), 1, 6), (Mode::inference(), 1, 6), (Mode::training(), -1, 5)]
    {
        let mut norm = bare(Batch::new(channels, axis));
        norm.mode = mode;
        norm.running.as_mut().unwrap().mean += 0.25;
        check(norm, &format!("batch {mode:?}"), &[&[channels], &[channels]]);
    }
}

fn rule<R: Rule + 'static>(config: NormConfig<R>, shapes: &[&[usize]]) {
    for mode in [Mode::training(), Mode::inference()] {
        let mut norm = config.clone().init().unwrap();
        norm.mode = mode;
        check(norm, R::NAME, shapes);
    }
}

#[test]
fn rules() {
    rule(BatchInstanceNormConfig::new(6), &[&[6], &[6], &[6]]);
    rule(SwitchableNormConfig::new(6), &[&[6], &[6], &[3], &[3]]);
    rule(FilterResponseNormConfig::new(6).learned_epsilon(true), &[&[6], &[6], &[1]]);
    rule(GhostBatchNormConfig::new(6, 2), &[&[6], &[6]]);
    rule(TrackedInstanceNormConfig::new(6), &[&[6], &[6]]);
    rule(RmsScalingNormConfig::new(&[5]).center(true), &[&[5], &[5]]);
    let authors_code = SwitchableNormConfig::preset("switchnorm-2d", 6).unwrap();
    rule(authors_code.momentum(Momentum::Pooled), &[&[6], &[6], &[3], &[3]]);
    rule(BatchNormConfig::new(6).running_statistics(false), &[&[6], &[6]]);
    rule(BatchInstanceNormConfig::new(6).running_statistics(false), &[&[6], &[6], &[6]]);
    let direction = WeightDirection { axis: Some(0), outputs: 4 };
    rule(NormConfig::custom(direction), &[&[4]]);
}

/// The averages of the correction are apart from the running ones, and within their bounds.
#[test]
fn renormalization_with_averages_of_its_own() {
    for mode in [Mode::training(), Mode::inference()] {
        let config = BatchRenormConfig::new(6).correction_momentum(Momentum::Keep(0.5));
        let mut norm = config.init().unwrap();
        norm.mode = mode;
        let averages = &mut norm.correction.as_mut().unwrap().averages;
        averages.mean += 0.25;
        averages.variance *= 1.5;
        check(norm, "renormalization", &[&[6], &[6]]);
    }
}

/// The second of two batches, whose mean is apart from the first's.
#[test]
fn pooled_averages() {
    for variance in [RunningVariance::Biased, RunningVariance::Unbiased] {
        let config = BatchNormConfig::new(6).momentum(Momentum::Pooled).running_variance(variance);
        let mut norm = config.init().unwrap();
        norm.steps = 1;
        norm.running.as_mut().unwrap().mean += 4.0;
        check(norm, "pooled", &[&[6], &[6]]);
    }
}

#[test]
fn lines() {
    let layer = LocalResponseNorm { alpha: 0.7, ..LocalResponseNorm::new(4) };
    let last = LocalResponseNorm { channel_axis: -1, ..LocalResponseNorm::new(9) };
    for layer in [layer, last] {
        let fused: Form<'_> = &|x, _, _| (layer.forward(x).unwrap(), vec![]);
        let composed: Form<'_> = &|x, _, _| (layer.composed(x).unwrap(), vec![]);
        compare(&format!("{layer:?}"), &[], &[None], [fused, composed]);
    }
}

#[test]
fn refusals_are_the_same() {
    let x = tensor(&[1, 6], 1);
    let config = BatchNormConfig::new(6).scale(false).center(false);
    for (one_value, refused) in
        [(OneValue::Error, true), (OneValue::Beta, false), (OneValue::UseRunning, false)]
    {
        let mut norm = config.clone().one_value(one_value).init().unwrap();
        let fused = apply(norm.clone(), &x, &[], None, |_| Ok(()));
        let composed = normalize(&mut norm, &x, &[], None);
        assert_eq!((fused.is_err(), composed.is_err()), (refused, refused), "{one_value:?}");
        if let (Ok(fused), Ok(composed)) = (fused, composed) {
            assert!(apart(&fused, &composed) < 1e-12);
        }
    }
    for mode in [Mode::training(), Mode::inference()] {
        let mut untracked = config.clone().running_statistics(false).init().unwrap();
        untracked.mode = mode;
        assert!(apply(untracked.clone(), &x, &[], None, |_| Ok(())).is_err());
        assert!(normalize(&mut untracked, &x, &[], None).is_err(), "{mode:?}");
    }
    let mut norm = bare(LayerRule(Features::Last(vec![1])));
    for shape in [[4, 1], [4, 2], [0, 2]] {
        assert!(normalize(&mut norm, &tensor(&shape, 1), &[], None).is_err());
    }
}

#[test]
fn instances_of_one_value_follow_the_policy() {
    for (one_value, mode, refused) in [
        (OneValue::Error, Mode::training(), true),
        (OneValue::Error, Mode::inference(), false),
        (OneValue::AlwaysError, Mode::inference(), true),
        (OneValue::Beta, Mode::training(), false),
    ] {
        let mut norm = bare(Instance { channels: 6, channel_axis: 1 });
        (norm.one_value, norm.mode) = (one_value, mode);
        let (x, beta) = (variable(&[2, 6, 1, 1], 1), variable(&[6], 2));
        let parameters = [("gamma", None), ("beta", Some(beta.as_tensor().clone()))];
        let fused = apply(norm.clone(), &x, &parameters, None, |_| Ok(()));
        let composed = normalize(&mut norm, &x, &parameters, None);
        assert_eq!((fused.is_err(), composed.is_err()), (refused, refused), "{one_value:?}");
        for y in [fused, composed].into_iter().flatten() {
            let expected = beta.reshape((1, 6, 1, 1)).and_then(|b| b.broadcast_as(x.shape()));
            assert_eq!(apart(&y, &expected.unwrap()), 0.0);
            let gradients = y.sqr().and_then(|y| y.sum_all()?.backward()).unwrap();
            let zeros = x.zeros_like().unwrap();
            assert_eq!(apart(gradients.get(&x).unwrap(), &zeros), 0.0, "{one_value:?}");
        }
    }
}

/// Both forms of no samples: empty y and dx and gradients of 0, or the same error.
fn check_empty<R: Rule + 'static>(norm: &Norm<R>, shapes: &[&[usize]], refused: bool) {
    let names = norm.rule().parameters().into_iter().map(|spec| spec.name);
    let x = Var::from_tensor(&tensor(&[0, 6, 5], 1)).unwrap();
    let vars: Vec<_> = names.zip(shapes).map(|(name, shape)| (name, variable(shape, 2))).collect();
    let parameters: Vec<NamedTensor> =
        vars.iter().map(|(name, var)| (*name, Some(var.as_tensor().clone()))).collect();
    let check = |y: candle_core::Result<Tensor>| {
        if refused {
            let message = y.unwrap_err().to_string();
            return assert!(message.contains("a statistic over no values"), "{message}");
        }
        let y = y.unwrap_or_else(|e| panic!("{}: {e}", R::NAME));
        assert_eq!(y.dims(), x.dims());
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().dims(), x.dims());
        for (name, var) in &vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{}: {name}", R::NAME));
            assert_eq!(apart(gradient, &var.zeros_like().unwrap()), 0.0);
        }
    };
    let still = |norm: &Norm<R>| {
        assert_eq!(norm.steps, 0);
        Ok(())
    };
    check(apply(norm.clone(), &x, &parameters, None, still));
    let mut composed = norm.clone();
    check(normalize(&mut composed, &x, &parameters, None));
    assert_eq!((composed.running, composed.steps), (norm.running.clone(), 0));
}

#[test]
fn no_samples() {
    check_empty(&bare(LayerRule(Features::Last(vec![5]))), &[&[5], &[5]], false);
    check_empty(&bare(Rms(Features::Last(vec![6, 5]))), &[&[6, 5]], false);
    check_empty(&bare(GemmaRms(Features::Last(vec![5]))), &[&[5]], false);
    let parameters = GroupParameters::PerChannel;
    let group = Group { groups: 3, channels: 6, channel_axis: 1, parameters };
    check_empty(&bare(group), &[&[6], &[6]], false);
    check_empty(&bare(Instance { channels: 6, channel_axis: 1 }), &[&[6], &[6]], false);
    let filter = FilterResponseNormConfig::new(6).learned_epsilon(true).init().unwrap();
    check_empty(&filter, &[&[6], &[6], &[1]], false);
    for (mode, refused) in [
        (Mode::training(), true),
        (Mode::inference(), false),
        (Mode { train_parameters: true, ..Mode::inference() }, false),
        (Mode { update: true, ..Mode::inference() }, true),
    ] {
        let mut batch = bare(Batch::new(6, 1));
        batch.mode = mode;
        let trains = mode.train_parameters || refused;
        check_empty(&batch, if trains { &[&[6], &[6]] } else { &[] }, refused);
        let mut mixed = BatchInstanceNormConfig::new(6).init().unwrap();
        mixed.mode = mode;
        check_empty(&mixed, if trains { &[&[6], &[6], &[6]] } else { &[] }, refused);
    }
    let x = Var::from_tensor(&tensor(&[0, 6, 5], 1)).unwrap();
    let layer = LocalResponseNorm::new(4);
    for y in [layer.forward(&x), layer.composed(&x)] {
        let y = y.unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!((y.dims(), gradients.get(&x).unwrap().dims()), (x.dims(), x.dims()));
    }
}

#[test]
fn halves() {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let layer = crate::layer_norm(5, 1e-5, vb).unwrap();
    let x = tensor(&SHAPE, 1).to_dtype(DType::BF16).unwrap();
    let parameters = [("gamma", Some(layer.weight().clone())), ("beta", layer.bias().cloned())];
    let mut norm = bare(LayerRule(Features::Last(vec![5])));
    let y = normalize(&mut norm, &x, &parameters, None).unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    assert!(apart(&wide(&y), &wide(&layer.forward(&x).unwrap())) <= 2.0_f64.powi(-7));
}
