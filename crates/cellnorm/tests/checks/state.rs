//! Checkpoints: conversions there and back, what is refused, and files that other libraries wrote.

use cellnorm::rule::Running;
use cellnorm::state::{DType, Known, Place, State, Tensor, Tensors};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, Momentum, Normalization, RunningVariance, Semantics,
    norms::{BatchRenormConfig, SwitchableNormConfig},
    semantics::{GroupParameters, Unlearned},
};
use ndarray::{ArrayD, array};

use crate::common::{Numbers, distance, message, preset};

const CHANNELS: usize = 6;
const GROUPS: usize = 3;
const KNOWN: Known = Known { values: Some(20.0), channels: Some(CHANNELS), groups: Some(GROUPS) };

/// All presets of a layer.
fn presets(normalization: Normalization) -> Vec<Semantics> {
    Semantics::presets()
        .into_iter()
        .filter_map(|name| Semantics::preset(name, normalization).ok())
        .collect()
}

/// State that a layer with these semantics may have, the channels of a group alike.
fn some_state(semantics: &Semantics) -> State {
    let mut numbers = Numbers::new(1);
    let of_groups = numbers.tensor(&[GROUPS], 1.0);
    let affine = || {
        if semantics.group_parameters == GroupParameters::PerGroup {
            return of_groups.clone();
        }
        ArrayD::from_shape_fn(&[CHANNELS][..], |channel| of_groups[[channel[0] / 2]])
    };
    let stored = |learned, role, fixed: f64| match role {
        _ if learned => Some(affine()),
        Unlearned::Applied => Some(affine().mapv(|_| fixed)),
        _ => None,
    };
    let running = semantics.normalization == Normalization::Batch;
    State {
        gamma: stored(semantics.scale, semantics.unlearned_gamma, 1.0),
        beta: stored(semantics.center, semantics.unlearned_beta, 0.0),
        mean: running.then(|| numbers.tensor(&[CHANNELS], 0.0)),
        variance: running.then(|| numbers.tensor(&[CHANNELS], 0.0).mapv(f64::exp)),
        steps: semantics.names.steps.filter(|_| running).map(|_| 0),
        ..State::default()
    }
}

fn close(a: &State, b: &State) -> bool {
    let tables =
        |of: &State| [of.gamma.clone(), of.beta.clone(), of.mean.clone(), of.variance.clone()];
    a.steps == b.steps
        && tables(a).into_iter().zip(tables(b)).all(|pair| match pair {
            (Some(a), Some(b)) => a.shape() == b.shape() && distance(a, b) < 1e-14,
            (a, b) => a.is_none() && b.is_none(),
        })
}

#[test]
fn every_pair_of_frameworks_there_and_back() -> Result<(), Error> {
    let mut pairs = 0;
    for normalization in Normalization::ALL {
        for from in presets(normalization) {
            for to in presets(normalization) {
                let to = to.keeping(&from);
                let state = some_state(&from);
                let mut tensors = Tensors::new();
                let converted = state.to(&to, &from, &KNOWN)?;
                converted.put(&mut tensors, "net/{}:0", &to, DType::F64)?;
                let stored = [
                    (to.names.gamma, to.scale, to.unlearned_gamma),
                    (to.names.beta, to.center, to.unlearned_beta),
                ];
                for (name, learned, unlearned) in stored {
                    let there = tensors.contains_key(&format!("net/{name}:0"));
                    let kept = learned || unlearned != Unlearned::Absent;
                    assert_eq!(there, kept, "{} {name}", to.name);
                }
                let back =
                    State::find(&tensors, "net/{}:0", &to)?.to(&from.keeping(&to), &to, &KNOWN)?;
                assert!(close(&back, &state), "{} to {} and back", from.name, to.name);
                pairs += 1;
            }
        }
    }
    assert!(pairs > 300, "{pairs}");
    Ok(())
}

#[test]
fn variances_by_formula() -> Result<(), Error> {
    let torch = preset("pytorch-2", Normalization::Batch);
    let state = State { variance: Some(array![19.0].into_dyn()), ..State::default() };
    let bare = Semantics { scale: false, center: false, ..torch };
    for (name, expected) in [
        ("keras-3", 19.0 * 19.0 / 20.0),
        ("tf-keras-2-fused", 19.0),
        ("keras-2.3", 361.0 / (19.0 - 1e-5)),
    ] {
        let to = preset(name, Normalization::Batch).keeping(&bare);
        let converted = state.to(&to, &bare, &KNOWN)?;
        assert!((converted.variance.unwrap()[[0]] / expected - 1.0).abs() < 1e-14, "{name}");
        assert_eq!(converted.steps, None);
    }
    Ok(())
}

/// A checkpoint of PyTorch, taken as PyTorch means it and by way of Keras' channels-last layer,
/// infers the same.
#[test]
fn a_converted_layer_infers_the_same() -> Result<(), Error> {
    let torch = preset("pytorch-2", Normalization::Batch);
    let keras = preset("keras-3", Normalization::Batch).keeping(&torch);
    let state = State { steps: Some(9), ..some_state(&torch) };
    let mut a = BatchNormConfig::new(CHANNELS).semantics(&torch).init()?;
    a.load(&state)?;
    assert_eq!((a.state(), a.steps), (state.clone(), 9));
    let b = |rule| {
        // the same variances mean another rule; inference is the same where they are not converted
        let same = Semantics { running_variance: rule, ..keras };
        let mut b = BatchNormConfig::new(CHANNELS).semantics(&keras).init().unwrap();
        b.load(&state.to(&same, &torch, &KNOWN).unwrap()).unwrap();
        b
    };
    let x = Numbers::new(2).tensor(&[2, CHANNELS, 5], 0.0);
    let last = |x: &ArrayD<f64>| x.clone().permuted_axes(vec![0, 2, 1]);
    let y = last(&a.infer(x.view())?);
    assert!(distance(b(RunningVariance::Unbiased).infer(last(&x))?, y.clone()) < 1e-14);
    assert!(
        distance(b(RunningVariance::Biased).infer(last(&x))?, y) > 1e-3,
        "19/20 of the variance"
    );
    assert_eq!((keras.momentum, keras.epsilon), (Momentum::Keep(0.9), 1e-5));
    Ok(())
}

#[test]
fn conversions_that_would_be_wrong_are_refused() {
    let [torch, keras, operator] = ["pytorch-2", "keras-3", "mxnet-1.9-operator"]
        .map(|name| preset(name, Normalization::Batch));
    let state = some_state(&torch);
    assert_eq!(
        message(state.to(&keras, &torch, &KNOWN)),
        "pytorch-2 batch cannot become keras-3 batch: epsilon changes from 1e-5 to 0.001 or to \
         another place, which no state makes up for; build the layer with epsilon 1e-5 and \
         convert to `to.keeping(&from)`"
    );
    let keras = keras.keeping(&torch);
    assert_eq!(
        message(state.to(&keras, &torch, &Known::default())),
        "pytorch-2 batch cannot become keras-3 batch: the running variance changes from Unbiased \
         to Biased; say how many values each channel had in a training batch (samples times \
         positions)"
    );
    assert_eq!(
        message(state.to(&keras, &torch, &Known { values: Some(1.0), ..KNOWN })),
        "values is 1; it must be finite and at least 2"
    );
    let fix_gamma = Semantics { epsilon: 1e-5, ..operator };
    assert_eq!(
        message(state.to(&fix_gamma, &torch, &KNOWN)),
        "pytorch-2 batch cannot become mxnet-1.9-operator batch: gamma is not 1 everywhere, and \
         the target has none; give it one"
    );
    let ones = State { gamma: Some(ArrayD::ones(&[CHANNELS][..])), ..state };
    assert_eq!(ones.to(&fix_gamma, &torch, &KNOWN).unwrap().gamma, None);

    let [torch, onnx] = ["pytorch-2", "onnx-18"].map(|name| preset(name, Normalization::Group));
    let uneven = State { gamma: Some(array![1.0, 1.0, 2.0, 2.5].into_dyn()), ..State::default() };
    let two = Known { groups: Some(2), ..Known::default() };
    assert_eq!(
        message(uneven.to(&onnx, &torch, &two)),
        "pytorch-2 group cannot become onnx-18 group: the channels of the group with index 1 have \
         different values, [2.0, 2.5], and one is wanted"
    );
    assert!(
        message(uneven.to(&onnx, &torch, &Known::default())).ends_with("say the number of groups")
    );
    assert_eq!(
        message(uneven.to(&onnx, &torch, &Known { groups: Some(3), ..Known::default() })),
        "4 channels cannot be split into 3 groups; possible: 1, 2, 4"
    );
    assert!(
        message(uneven.to(&torch, &onnx, &Known::default()))
            .ends_with("say the number of channels")
    );
    assert!(
        message(uneven.to(&keras, &torch, &KNOWN))
            .ends_with("one is group normalization, the other batch")
    );
    assert!(
        message(State::default().to(&torch, &torch, &Known::default())).contains("gamma is absent")
    );
}

/// `fix_gamma=True` stores whatever γ was; it counts as 1.
#[test]
fn a_fixed_gamma_is_one_whatever_is_stored() -> Result<(), Error> {
    let operator = preset("mxnet-1.9-operator", Normalization::Batch);
    let place = Place::apart("arg:bn_", "aux:bn_");
    let mut tensors = Tensors::new();
    some_state(&operator).put(&mut tensors, place.clone(), &operator, DType::F32)?;
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    assert_eq!(names, ["arg:bn_beta", "arg:bn_gamma", "aux:bn_moving_mean", "aux:bn_moving_var"]);
    let gamma = tensors.get_mut("arg:bn_gamma").unwrap();
    assert!(gamma.values.iter().all(|v| *v == 1.0));
    gamma.values.fill(17.0);
    let state = State::find(&tensors, place, &operator)?;
    assert_eq!(state.gamma, None);
    let torch =
        Semantics { epsilon: operator.epsilon, ..preset("pytorch-2", Normalization::Batch) };
    assert_eq!(state.to(&torch, &operator, &KNOWN)?.gamma, Some(ArrayD::ones(&[CHANNELS][..])));
    Ok(())
}

#[test]
fn tensors_that_are_missing_or_wrong() -> Result<(), Error> {
    let torch = preset("pytorch-2", Normalization::Batch);
    let mut tensors = Tensors::new();
    some_state(&torch).put(&mut tensors, "layer1.bn.", &torch, DType::F32)?;
    let missing = "the checkpoint has no layer2.bn.weight; it has layer1.bn.weight";
    assert_eq!(message(State::find(&tensors, "layer2.bn.", &torch)), missing);
    tensors.remove("layer1.bn.num_batches_tracked");
    assert_eq!(
        State::find(&tensors, "layer1.bn.", &torch)?.steps,
        None,
        "older checkpoints have none"
    );
    let with = |name: &str, values| {
        let mut tensors = tensors.clone();
        tensors.insert(format!("layer1.bn.{name}"), Tensor::new(values, DType::F32));
        message(State::find(&tensors, "layer1.bn.", &torch))
    };
    assert_eq!(
        with("weight", array![f64::NAN].into_dyn()),
        "layer1.bn.weight holds NaN; it must be finite"
    );
    assert_eq!(with("bias", array![1.0].into_dyn()), "beta has the shape [1]; it must be [6]");
    assert_eq!(
        with("running_var", array![1.0, 1.0, 1.0, 1.0, 1.0, -0.5].into_dyn()),
        "layer1.bn.running_var holds the variance -0.5; a variance is not negative"
    );
    let nothing = State::default().put(&mut tensors, "", &torch, DType::F32);
    assert_eq!(
        message(nothing),
        "weight is part of pytorch-2 batch, but the state does not have it"
    );

    let mut layer = GroupNormConfig::new(GROUPS, CHANNELS).center(false).init()?;
    let group = some_state(&preset("pytorch-2", Normalization::Group));
    assert!(message(layer.load(&group)).starts_with("beta is there, and the layer has none"));
    assert!(message(layer.load(&State::default())).starts_with("gamma is missing"));
    layer.load(&State { beta: None, ..group.clone() })?;
    assert_eq!(layer.state().gamma, group.gamma);
    Ok(())
}

#[cfg(feature = "files")]
mod files {
    use super::*;
    use cellnorm::state::{read, write};
    use std::path::PathBuf;

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state").join(name)
    }

    /// A path that is free, for this test alone.
    fn scratch(name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("state");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    #[test]
    fn what_pytorch_wrote() -> Result<(), Error> {
        let tensors = read(fixture("torch.safetensors"))?;
        let state =
            State::find(&tensors, "layer1.bn.", &preset("pytorch-2", Normalization::Batch))?;
        assert_eq!(state.gamma, Some(array![0.5, -1.25, 3.0].into_dyn()));
        assert_eq!(state.beta, Some(array![0.1_f32, 0.2, 0.3].mapv(f64::from).into_dyn()));
        assert_eq!(state.steps, Some(2));
        let mut layer = BatchNormConfig::new(3).init()?;
        for step in [1.0, 2.0] {
            let x = ndarray::Array4::from_shape_fn((2, 3, 4, 5), |(n, c, h, w)| {
                (step * f64::from(((n * 60 + c * 20 + h * 5 + w) as f32).sin())) as f32
            });
            layer.forward(x.view())?;
        }
        let Running { mean, variance } = layer.running.unwrap();
        assert!(distance(state.mean.unwrap(), mean) < 1e-8);
        assert!(distance(state.variance.unwrap(), variance) < 1e-6);

        let half = &tensors["half"];
        assert_eq!((half.dtype, half.values.shape()), (DType::F16, &[2, 2][..]));
        assert_eq!(
            half.values.iter().copied().collect::<Vec<_>>(),
            [1.5, -2.25, 65504.0, f64::powi(2.0, -24)]
        );
        assert_eq!(tensors["brain"].dtype, DType::Bf16);
        assert_eq!(tensors["brain"].values[[0]], 1.0078125);
        assert_eq!(tensors["double"], Tensor::new(ArrayD::from_elem(&[][..], 0.1), DType::F64));
        Ok(())
    }

    #[test]
    fn what_numpy_wrote() -> Result<(), Error> {
        let tensors = read(fixture("numpy.npz"))?;
        let expected: Tensors = [
            ("bn/gamma:0", array![0.5, -1.25, 3.0].into_dyn(), DType::F16),
            ("fortran", array![[0.0, 0.1, 0.2], [3.0 / 10.0, 0.4, 0.5]].into_dyn(), DType::F64),
            ("big_endian", array![f64::from(0.1_f32), f64::from(1e30_f32)].into_dyn(), DType::F32),
            ("steps", ArrayD::from_elem(&[][..], 7.0), DType::I64),
            ("bytes", array![0.0, 255.0].into_dyn(), DType::U8),
        ]
        .map(|(name, values, dtype)| (name.into(), Tensor::new(values, dtype)))
        .into();
        assert_eq!(tensors, expected);
        assert!(
            message(read(fixture("bool.npz")))
                .ends_with("flag has the type BOOL, which is not read here")
        );
        Ok(())
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<(), Error> {
        for (original, copy) in
            [("torch.safetensors", "copy.safetensors"), ("numpy.npz", "copy.npz")]
        {
            let tensors = read(fixture(original))?;
            let path = scratch(copy);
            write(&path, &tensors)?;
            assert_eq!(read(&path)?, tensors);
            let empty = Tensors::new();
            write(&path, &empty)?;
            assert_eq!(read(&path)?, empty, "the file is replaced");
        }
        Ok(())
    }

    #[test]
    fn files_that_cannot_be() {
        let path = scratch("kept.npz");
        let one = |value: f64, dtype| {
            Tensors::from([("a".into(), Tensor::new(array![value].into_dyn(), dtype))])
        };
        write(&path, &one(1.0, DType::F32)).unwrap();
        let refused = |path: &PathBuf, tensors: &Tensors| {
            let message = message(write(path, tensors));
            message.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
        };
        assert_eq!(
            refused(&path, &one(1.0, DType::Bf16)),
            "a is of type BF16, which npz does not have; choose F32, or safetensors"
        );
        assert_eq!(
            refused(&path, &one(1e5, DType::F16)),
            "a holds 100000, which F16 cannot store; choose a wider type"
        );
        for (value, dtype) in
            [(1e39, DType::F32), (0.5, DType::I64), (256.0, DType::U8), (-3e9, DType::I32)]
        {
            assert!(
                refused(&path, &one(value, dtype)).contains("cannot store"),
                "{value} as {dtype:?}"
            );
        }
        assert_eq!(read(&path), Ok(one(1.0, DType::F32)), "the file is as it was");
        let names =
            std::fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name());
        assert!(
            names.into_iter().all(|name| !name.to_string_lossy().contains("kept.npz.")),
            "nothing is left beside"
        );

        assert_eq!(
            refused(&scratch("x.pt"), &Tensors::new()),
            "the name must end in .safetensors or .npz"
        );
        assert!(message(read(scratch("absent.npz"))).contains("absent.npz: "));
        for (original, cut) in [("torch.safetensors", "cut.safetensors"), ("numpy.npz", "cut.npz")]
        {
            let bytes = std::fs::read(fixture(original)).unwrap();
            for length in 0..bytes.len() {
                std::fs::write(scratch(cut), &bytes[..length]).unwrap();
                assert!(read(scratch(cut)).is_err(), "{length} bytes of {original}");
            }
        }
    }
}

/// Parameters besides γ and β are part of a layer's state, and no framework has a name for them.
#[test]
fn other_parameters_come_along() -> Result<(), Error> {
    let mut trained = SwitchableNormConfig::new(3).init()?;
    let weights = ArrayD::from_shape_vec(vec![3], vec![0.5, -1.0, 2.0]).unwrap();
    trained.parameter_mut("mean_weight").unwrap().assign(&weights);
    let state = trained.state();
    let mut layer = SwitchableNormConfig::new(3).init()?;
    layer.load(&state)?;
    assert_eq!(layer.parameter("mean_weight"), Some(&weights));

    let said = |result: Result<(), Error>| result.unwrap_err().to_string();
    let lacks = State { others: [].into(), ..state.clone() };
    assert!(said(layer.load(&lacks)).contains("mean_weight is missing"));
    assert!(said(BatchNormConfig::new(3).init()?.load(&state)).contains("has no such parameter"));
    let torch = Semantics::preset("pytorch-2", Normalization::Batch)?;
    let put = state.put(&mut Tensors::new(), "norm.", &torch, DType::F32);
    assert!(said(put).contains("has no name in pytorch-2"));
    Ok(())
}

/// Checkpoints hold one pair of averages: the correction starts with it, not with 0 and 1.
#[test]
fn a_loaded_correction_starts_as_the_running_averages() -> Result<(), Error> {
    let keras = Semantics::preset("keras-3", Normalization::Batch)?;
    let make = || BatchRenormConfig::new(1).semantics(&keras).init();
    let mut trained = make()?;
    for _ in 0..2000 {
        trained.forward(ndarray::array![[95.0], [105.0]].view())?;
    }
    let mut loaded = make()?;
    loaded.load(&trained.state())?;
    assert_eq!(loaded.correction.as_ref().map(|of| &of.averages), loaded.running.as_ref());
    let (y, _) = loaded.forward(ndarray::array![[90.0_f64], [110.0]].view())?;
    assert!((y[[1, 0]] - 2.0).abs() < 1e-2, "{y}");
    Ok(())
}
