//! The last switches of frameworks: each value is the framework's, by its formula.

use cellnorm::state::{DType, Known, State, Tensor, Tensors};
use cellnorm::weights::WeightNormConfig;
use cellnorm::{
    BatchNormConfig, Error, InstanceNormConfig, Momentum, Normalization, Semantics,
    norms::{BatchRenormConfig, GhostBatchNormConfig},
};
use ndarray::{Array1, ArrayD, IxDyn, array};

use crate::common::{Numbers, distance, message, preset};

/// MXNet multiplies by a stored γ also with `scale=False`, and adds a stored β with `center=False`:
/// only their gradients stop. Batch normalization's γ alone is fixed.
#[test]
fn an_unlearned_gamma_or_beta_is_applied_as_mxnet_does() -> Result<(), Error> {
    let two = ArrayD::from_elem(IxDyn(&[3]), 2.0);
    for framework in ["mxnet-1.9-gluon", "mxnet-1.9-operator"] {
        for normalization in [Normalization::Layer, Normalization::Instance, Normalization::Batch] {
            let mxnet = preset(framework, normalization);
            let mxnet = Semantics { scale: false, center: false, ..mxnet };
            let names = mxnet.names;
            let stored = [names.gamma, names.beta, names.mean, names.variance]
                .map(|name| (name.to_owned(), Tensor::new(two.clone(), DType::F32)));
            let tensors = Tensors::from(stored);
            let state = State::find(&tensors, "", &mxnet)?;
            let fixed = normalization == Normalization::Batch;
            assert_eq!(state.gamma, (!fixed).then(|| two.clone()), "{}", mxnet.name);
            assert_eq!(state.beta, Some(two.clone()), "{}", mxnet.name);
            assert_eq!(state.to(&mxnet, &mxnet, &Known::default())?, state);
            let mut again = Tensors::new();
            state.put(&mut again, "", &mxnet, DType::F32)?;
            let gamma = if fixed { ArrayD::ones(two.raw_dim()) } else { two.clone() };
            assert_eq!((&again[names.gamma].values, &again[names.beta].values), (&gamma, &two));
        }
    }
    Ok(())
}

/// Gluon's InstanceNorm does not learn γ by default, and a stored γ of 2 doubles y.
#[test]
fn a_stored_gamma_of_two_doubles_y() -> Result<(), Error> {
    let gluon = preset("mxnet-1.9-gluon", Normalization::Instance);
    let stored = [("gamma", 2.0), ("beta", 0.0)];
    let tensors: Tensors = stored
        .map(|(name, value)| {
            (name.into(), Tensor::new(Array1::from_elem(3, value).into_dyn(), DType::F32))
        })
        .into();
    let state = State::find(&tensors, "", &gluon)?;
    let config = InstanceNormConfig::new(3).semantics(&gluon);
    let refused = message(config.clone().scale(false).init()?.load(&state));
    assert!(
        refused.starts_with("gamma is there, and the layer has none; make it with scale(true)")
    );
    // γ is there and applied, and has no gradient until it is unfrozen
    let mut layer = config.init()?;
    let x = Numbers::new(3).tensor(&[2, 3, 5], 0.0);
    let once = layer.infer(x.view())?;
    layer.load(&state)?;
    let (y, saved) = layer.forward(x.view())?;
    assert!(distance(y, once * 2.0) < 1e-14);
    let gradients = layer.backward(&saved, x.view(), x.view())?;
    assert!(layer.is_frozen("gamma") && gradients.dgamma.is_none() && gradients.dbeta.is_some());
    layer.unfreeze_parameter("gamma");
    assert!(layer.backward(&saved, x.view(), x.view())?.dgamma.is_some());
    // a framework that has no γ where it learns none refuses it with words
    let torch = preset("pytorch-2", Normalization::Instance).keeping(&gluon);
    let refused = message(state.to(&torch, &gluon, &Known::default()));
    assert!(refused.ends_with("gamma is not 1 everywhere, and the target has none; give it one"));
    Ok(())
}

/// BERT's first checkpoints name γ and β of `LayerNorm` as TensorFlow does.
#[test]
fn old_names_are_found_under_the_pytorch_preset() -> Result<(), Error> {
    let layer = preset("pytorch-2", Normalization::Layer);
    let tensor = |value| Tensor::new(Array1::from_elem(3, value).into_dyn(), DType::F32);
    let place = "bert.embeddings.LayerNorm.";
    let of = |gamma: &str, beta: &str| -> Tensors {
        [(format!("{place}{gamma}"), tensor(2.0)), (format!("{place}{beta}"), tensor(3.0))].into()
    };
    let state = State::find(&of("gamma", "beta"), place, &layer)?;
    assert_eq!((state.gamma, state.beta), (Some(tensor(2.0).values), Some(tensor(3.0).values)));
    assert_eq!(State::find(&of("weight", "bias"), place, &layer)?.gamma, Some(tensor(2.0).values));
    // the newer name goes first, and neither is an error
    let mut both = of("gamma", "beta");
    both.insert(format!("{place}weight"), tensor(5.0));
    assert_eq!(State::find(&both, place, &layer)?.gamma, Some(tensor(5.0).values));
    let missing = message(State::find(&Tensors::new(), place, &layer));
    assert_eq!(missing, "the checkpoint has no bert.embeddings.LayerNorm.weight");
    Ok(())
}

/// A cumulative layer that is loaded without its steps starts anew at the next batch; the state
/// says so before.
#[test]
fn cumulative_averages_without_steps_are_noted() -> Result<(), Error> {
    let config = BatchNormConfig::new(1).momentum(Momentum::Cumulative);
    let mut trained = config.clone().init()?;
    for mean in [10.0, 20.0, 30.0] {
        trained.forward(array![[mean - 1.0], [mean + 1.0]].view())?;
    }
    let state = trained.state();
    assert_eq!(state.warning(Momentum::Cumulative), None);
    let lacks = State { steps: None, ..state.clone() };
    for (state, expected) in [(state, 25.0), (lacks, 40.0)] {
        let noted = state.warning(Momentum::Cumulative).is_some();
        assert_eq!(noted, expected == 40.0);
        let mut layer = config.clone().init()?;
        layer.load(&state)?;
        layer.forward(array![[39.0], [41.0]].view())?;
        assert!((layer.running.unwrap().mean[[0]] - expected).abs() < 1e-12);
    }
    Ok(())
}

/// PyTorch's `weight_norm(dim=-1)` is `dim=None`: one norm of the whole weight, √29 here.
#[test]
fn one_norm_of_the_whole_weight_is_pytorchs_dim_of_minus_one() -> Result<(), Error> {
    let v = array![[3.0, 4.0], [0.0, 2.0]];
    let g = |axis| {
        let layer = WeightNormConfig::of_weight(v.view(), axis)?;
        Ok::<_, Error>(layer.parameter("g").unwrap().clone())
    };
    assert!(distance(g(None)?, [f64::sqrt(29.0)]) < 1e-15);
    assert!(distance(g(Some(-1))?, [3.0, f64::sqrt(20.0)]) < 1e-15);
    Ok(())
}

/// Keras' `renorm=True` by its semantics alone: no bounds, and 0.99 for both pairs of averages,
/// where the layer's `momentum` changes but one.
#[test]
fn batch_renormalization_by_keras_semantics_alone() -> Result<(), Error> {
    let x = array![[100.0], [102.0], [104.0], [106.0]];
    for name in ["keras-3", "tf-keras-2"] {
        let keras = preset(name, Normalization::Batch);
        let config = BatchRenormConfig::new(1).semantics(&keras).momentum(Momentum::Keep(0.5));
        let mut layer = config.init()?;
        assert_eq!((layer.rule().channel_axis, layer.epsilon), (-1, 1e-3));
        // the averages are 0 and 1: without bounds y is x itself
        assert!(distance(layer.forward(x.view())?.0, x.clone()) < 1e-12);
        let deviation = f64::sqrt(5.0 + 1e-3);
        let correction = layer.correction.unwrap().averages;
        assert!((correction.mean[[0]] - 0.01 * 103.0).abs() < 1e-12);
        assert!((correction.variance[[0]] - (0.99 + 0.01 * deviation)).abs() < 1e-12);
        let running = layer.running.unwrap();
        assert!((running.mean[[0]] - 0.5 * 103.0).abs() < 1e-12);
        assert!((running.variance[[0]] - (0.5 + 0.5 * deviation)).abs() < 1e-12);
    }
    // those without the layer are refused
    for name in ["pytorch-2", "tf-keras-2-fused", "keras-2.3", "flax-0.12"] {
        let refused = BatchRenormConfig::new(1).semantics(&preset(name, Normalization::Batch));
        let expected = format!(
            "{name} batch does not describe batch renormalization; take a preset that does"
        );
        assert_eq!(message(refused.init()), expected);
    }
    Ok(())
}

/// TensorFlow's `renorm_clipping` has three numbers, each of them optional; the running mean is 0
/// and the running σ is 1.
#[test]
fn the_bounds_of_renormalization_are_three() -> Result<(), Error> {
    let forward = |size: f64, r_min, r_max, d_max| {
        let config = BatchRenormConfig::new(1).epsilon(1e-30).clipping(r_min, r_max, d_max);
        let x = array![[3.0 - size], [3.0 + size]];
        Ok::<_, Error>(config.init()?.forward(x.view())?.0.into_raw_vec_and_offset().0)
    };
    // σ of the batch is 1/4 and 4, d is 3 without a bound
    assert!(distance(forward(0.25, None, Some(2.0), None)?, [2.75, 3.25]) < 1e-12);
    assert!(distance(forward(4.0, None, Some(2.0), None)?, [1.0, 5.0]) < 1e-12);
    assert!(distance(forward(0.25, Some(0.5), None, None)?, [2.5, 3.5]) < 1e-12);
    assert!(distance(forward(4.0, Some(0.5), None, None)?, [-1.0, 7.0]) < 1e-12);
    assert!(distance(forward(4.0, None, None, Some(1.0))?, [-3.0, 5.0]) < 1e-12);
    let bounds = |config: BatchRenormConfig| {
        let layer = config.init().unwrap();
        (layer.rule().r_min, layer.rule().r_max, layer.rule().d_max)
    };
    assert_eq!(bounds(BatchRenormConfig::new(1).bounds(2.0, 1.0)), (0.5, 2.0, 1.0));
    let refused = BatchRenormConfig::new(1).clipping(Some(1.5), None, None);
    assert_eq!(message(refused.init()), "r_min is 1.5; it must be between 0 and 1");
    Ok(())
}

/// tf.keras' `virtual_batch_size` takes samples that are apart: {0, 2} and {1, 3} here.
#[test]
fn ghost_batches_of_tf_keras_are_interleaved() -> Result<(), Error> {
    let x = array![[0.0], [10.0], [2.0], [14.0]];
    let keras = Semantics { epsilon: 1e-30, ..preset("tf-keras-2", Normalization::Batch) };
    let y = GhostBatchNormConfig::new(1, 2).semantics(&keras).init()?.forward(x.view())?.0;
    assert!(distance(y, [-1.0, -1.0, 1.0, 1.0]) < 1e-12);
    let keras = preset("keras-3", Normalization::Batch);
    let refused = message(GhostBatchNormConfig::new(1, 2).semantics(&keras).init());
    assert!(refused.starts_with("keras-3 batch does not describe ghost batch normalization"));
    Ok(())
}
