//! Folding in checkpoints, beside convolutions written as sums over positions; what stays, and what
//! is refused.

use cellnorm::fold::pairs::{LayerKind, Pair, Side, fold, guesses};
use cellnorm::state::{Checkpoint, DType, Tensor};
use ndarray::{Array2, ArrayD, IxDyn, array};

const EPSILON: f64 = 1e-3;

fn numbers(shape: &[usize], seed: usize, least: f64) -> ArrayD<f64> {
    let mut place = 0;
    ArrayD::from_shape_fn(IxDyn(shape), |_| {
        place += 1;
        f64::from((least + (((place * 7 + seed * 13) as f64).sin() + 1.0)) as f32)
    })
}

/// A layer of 4 inputs and 6 outputs in two groups, and a normalization on one side, both named as
/// PyTorch does.
fn checkpoint(kind: LayerKind, side: Side, bias: bool) -> (Checkpoint, Pair) {
    let shape: &[usize] = match kind {
        LayerKind::Convolution => &[6, 2, 3],
        LayerKind::TransposedConvolution => &[4, 3, 3],
        LayerKind::Linear => &[6, 4],
    };
    let channels = if side == Side::After { 6 } else { 4 };
    let mut checkpoint = Checkpoint::default();
    let mut put = |name: &str, shape: &[usize], seed, least| {
        checkpoint.insert(name, &Tensor::new(numbers(shape, seed, least), DType::F32)).unwrap();
    };
    put("net.conv1.weight", shape, 1, -1.0);
    if bias {
        put("net.conv1.bias", &[6], 2, -1.0);
    }
    put("net.bn1.weight", &[channels], 3, -1.0);
    put("net.bn1.bias", &[channels], 4, -1.0);
    put("net.bn1.running_mean", &[channels], 5, -1.0);
    put("net.bn1.running_var", &[channels], 6, 0.1);
    put("other.weight", &[2, 2], 7, -1.0);
    let steps = Tensor::new(ArrayD::from_elem(IxDyn(&[]), 9.0), DType::I64);
    checkpoint.insert("net.bn1.num_batches_tracked", &steps).unwrap();
    let groups = if kind == LayerKind::Linear { 1 } else { 2 };
    let (layer, norm) = ("net.conv1".into(), "net.bn1".into());
    (checkpoint, Pair { layer, norm, kind, groups, side, unpadded: true, epsilon: EPSILON })
}

fn values(checkpoint: &Checkpoint, name: &str) -> ArrayD<f64> {
    checkpoint.tensor(name).unwrap().values
}

/// The layer alone on x\[channel, position\], with stride 1 and nothing padded.
fn layer(checkpoint: &Checkpoint, kind: LayerKind, x: &Array2<f64>) -> Array2<f64> {
    let weight = values(checkpoint, "net.conv1.weight");
    let length = x.ncols();
    let positions = match kind {
        LayerKind::Convolution => length - 2,
        LayerKind::TransposedConvolution => length + 2,
        LayerKind::Linear => length,
    };
    let has_bias = checkpoint.shape("net.conv1.bias").is_some();
    let bias =
        if has_bias { values(checkpoint, "net.conv1.bias") } else { ArrayD::zeros(IxDyn(&[6])) };
    Array2::from_shape_fn((6, positions), |(output, position)| {
        let mut sum = bias[[output]];
        for input in 0..4 {
            match kind {
                LayerKind::Linear => sum += weight[[output, input]] * x[[input, position]],
                _ if input / 2 != output / 3 => {}
                LayerKind::Convolution => {
                    sum += (0..3)
                        .map(|tap| weight[[output, input % 2, tap]] * x[[input, position + tap]])
                        .sum::<f64>();
                }
                LayerKind::TransposedConvolution => {
                    let taps = (0..3).filter(|tap| (*tap..length + *tap).contains(&position));
                    sum += taps
                        .map(|tap| weight[[input, output % 3, tap]] * x[[input, position - tap]])
                        .sum::<f64>();
                }
            }
        }
        sum
    })
}

fn norm(checkpoint: &Checkpoint, x: Array2<f64>) -> Array2<f64> {
    let [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
        .map(|name| values(checkpoint, &format!("net.bn1.{name}")));
    Array2::from_shape_fn(x.raw_dim(), |(channel, position)| {
        let centered = x[[channel, position]] - mean[[channel]];
        centered / (variance[[channel]] + EPSILON).sqrt() * gamma[[channel]] + beta[[channel]]
    })
}

#[test]
fn folded_layers_do_what_layer_and_normalization_did() {
    let x = numbers(&[4, 5], 8, -1.0).into_dimensionality().unwrap();
    let kinds = [LayerKind::Convolution, LayerKind::TransposedConvolution, LayerKind::Linear];
    let behind = kinds.map(|kind| (kind, Side::After));
    let ahead = [LayerKind::Convolution, LayerKind::Linear].map(|kind| (kind, Side::Before));
    for (kind, side) in behind.into_iter().chain(ahead) {
        for bias in [false, true] {
            let (old, pair) = checkpoint(kind, side, bias);
            let mut new = old.clone();
            let report = fold(&mut new, &[pair]).unwrap();
            let expected = match side {
                Side::After => norm(&old, layer(&old, kind, &x)),
                Side::Before => layer(&old, kind, &norm(&old, x.clone())),
            };
            let far = (layer(&new, kind, &x) - &expected)
                .iter()
                .fold(0.0, |far: f64, by| far.max(by.abs()));
            assert!(far < 1e-5, "{kind:?} {side:?}: {far:e}");
            assert!(
                report[0].share > 0.0 && report[0].share <= 1.0,
                "{kind:?} {side:?}: {}",
                report[0].share
            );
            let left: Vec<&str> = new.names().collect();
            assert_eq!(left, ["net.conv1.bias", "net.conv1.weight", "other.weight"]);
            assert_eq!(new.tensor("net.conv1.weight").unwrap().dtype, DType::F32);
        }
    }
}

#[test]
fn a_normalization_on_each_side_is_rounded_once() {
    let (mut old, behind) = checkpoint(LayerKind::Linear, Side::After, false);
    let (of_ahead, _) = checkpoint(LayerKind::Linear, Side::Before, false);
    for name in ["weight", "bias", "running_mean", "running_var"] {
        old.insert(
            &format!("net.bn0.{name}"),
            &of_ahead.tensor(&format!("net.bn1.{name}")).unwrap(),
        )
        .unwrap();
    }
    let ahead = Pair { norm: "net.bn0".into(), side: Side::Before, ..behind.clone() };
    let mut new = old.clone();
    fold(&mut new, &[behind, ahead]).unwrap();
    let x: Array2<f64> = numbers(&[4, 5], 8, -1.0).into_dimensionality().unwrap();
    let inside = layer(&old, LayerKind::Linear, &norm(&of_ahead, x.clone()));
    let far = (layer(&new, LayerKind::Linear, &x) - norm(&old, inside))
        .iter()
        .fold(0.0, |far: f64, by| far.max(by.abs()));
    assert!(far < 1e-5, "{far:e}");
    // the weight is the product in f64, rounded to f32
    let scale = |of: &Checkpoint, channel: usize| {
        values(of, "net.bn1.weight")[[channel]]
            / (values(of, "net.bn1.running_var")[[channel]] + EPSILON).sqrt()
    };
    let product = values(&old, "net.conv1.weight")[[2, 3]] * (scale(&old, 2) * scale(&of_ahead, 3));
    assert_eq!(values(&new, "net.conv1.weight")[[2, 3]], f64::from(product as f32));
}

#[test]
fn what_cannot_be_right_is_refused_and_nothing_is_changed() {
    let conv = LayerKind::Convolution;
    let (behind, pair) = checkpoint(conv, Side::After, true);
    let (ahead, of_ahead) = checkpoint(conv, Side::Before, true);
    let (transposed, of_transposed) =
        checkpoint(LayerKind::TransposedConvolution, Side::Before, true);
    let mut negative = behind.clone();
    negative
        .insert(
            "net.bn1.running_var",
            &Tensor::new(ArrayD::from_elem(IxDyn(&[6]), -1.0), DType::F32),
        )
        .unwrap();
    let other = |norm: &str| Pair { norm: norm.into(), ..pair.clone() };
    let cases = [
        (
            &behind,
            vec![other("net.bn2")],
            "the checkpoint has no net.bn2.running_mean; it has net.bn1.running_mean",
        ),
        (
            &behind,
            vec![Pair { layer: "net.conv2".into(), ..pair.clone() }],
            "the checkpoint has no net.conv2.weight",
        ),
        (&behind, vec![pair.clone(), other("net.bn2")], "two normalizations on one side"),
        (
            &behind,
            vec![Pair { side: Side::Before, ..pair.clone() }],
            "has 4 inputs, its normalization 6 channels",
        ),
        (
            &behind,
            vec![Pair { kind: LayerKind::Linear, ..pair.clone() }],
            "that of a linear layer has two axes",
        ),
        (&behind, vec![Pair { groups: 4, ..pair.clone() }], "4"),
        (&behind, vec![Pair { epsilon: 0.0, ..pair.clone() }], "epsilon is 0"),
        (
            &ahead,
            vec![Pair { unpadded: false, ..of_ahead }],
            "say that none are (\"unpadded\": true)",
        ),
        (&transposed, vec![of_transposed], "different numbers of taps"),
        (&negative, vec![pair.clone()], "holds the variance -1"),
    ];
    for (of, pairs, expected) in cases {
        let mut folded = of.clone();
        let message = fold(&mut folded, &pairs).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(&folded, of);
    }
}

#[test]
fn names_suggest_layers_where_the_channels_agree() {
    let mut checkpoint = Checkpoint::default();
    let mut put = |name: &str, shape: &[usize]| {
        checkpoint.insert(name, &Tensor::new(ArrayD::ones(IxDyn(shape)), DType::F32)).unwrap();
    };
    let layers: [(&str, &[usize]); 6] = [
        ("a.conv", &[8, 3, 3, 3]),
        ("conv2", &[4, 8, 1, 1]),
        ("up.deconv", &[4, 5, 2, 2]),
        ("features.0", &[7, 3, 3, 3]),
        ("conv3", &[9, 3]),
        ("conv4", &[3, 3, 3]),
    ];
    let norms =
        [("a.bn", 8), ("bn2", 4), ("up.bn", 5), ("features.1", 7), ("conv3_BN", 9), ("bn4", 16)];
    layers.into_iter().for_each(|(name, shape)| put(&format!("{name}.weight"), shape));
    for (name, channels) in norms {
        ["weight", "bias", "running_mean", "running_var"]
            .iter()
            .for_each(|of| put(&format!("{name}.{of}"), &[channels]));
    }
    let found = guesses(&checkpoint);
    let of = |norm: &str| {
        found.iter().find(|guess| guess.norm == norm).and_then(|guess| guess.layer.clone())
    };
    let is = |layer: &str, kind| Some((layer.to_owned(), kind));
    assert_eq!(of("a.bn"), is("a.conv", LayerKind::Convolution));
    assert_eq!(of("bn2"), is("conv2", LayerKind::Convolution));
    assert_eq!(of("up.bn"), is("up.deconv", LayerKind::TransposedConvolution));
    assert_eq!(of("features.1"), is("features.0", LayerKind::Convolution));
    assert_eq!(of("conv3_BN"), is("conv3", LayerKind::Linear));
    assert_eq!((found.len(), of("bn4")), (6, None));
}

/// Types that nothing here computes with, NaNs with a payload, and what a file says of itself are
/// as they were.
#[test]
fn what_nobody_asked_to_change_stays_bit_for_bit() {
    let header = r#"{"__metadata__":{"licence":"MIT"},"flag":{"dtype":"BOOL","shape":[2],"data_offsets":[16,18]},"nan":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"odd":{"dtype":"F16","shape":[2],"data_offsets":[12,16]},"whole":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    let data = [255, 254, 253, 252, 251, 250, 249, 127, 1, 0, 0xa0, 0x7f, 1, 0x7d, 2, 0xfd, 1, 0];
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pairs");
    std::fs::create_dir_all(&folder).unwrap();
    let (path, copy) = (folder.join("odd.safetensors"), folder.join("copy.safetensors"));
    std::fs::write(&path, &file).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    assert_eq!(checkpoint.metadata["licence"], "MIT");
    checkpoint.write(&copy).unwrap();
    let again = Checkpoint::read(&copy).unwrap();
    assert_eq!(again, checkpoint);
    let bytes = std::fs::read(&copy).unwrap();
    assert_eq!(bytes[bytes.len() - data.len()..], data);
    let refused = checkpoint.write(folder.join("copy.pth")).unwrap_err().to_string();
    assert!(refused.ends_with("the name must end in .safetensors or .npz"), "{refused}");
}

/// Keras', MXNet's and Flax' names, and vectors that are no normalization.
#[test]
fn normalizations_are_found_by_the_names_of_each_framework() {
    let mut checkpoint = Checkpoint::default();
    let names = [
        "conv/bn/gamma:0",
        "conv/bn/beta:0",
        "conv/bn/moving_mean:0",
        "conv/bn/moving_variance:0",
        "arg:bn0_gamma",
        "arg:bn0_beta",
        "aux:bn0_moving_mean",
        "aux:bn0_moving_var",
        "params/BatchNorm_0/scale",
        "params/BatchNorm_0/bias",
        "batch_stats/BatchNorm_0/mean",
        "batch_stats/BatchNorm_0/var",
        "layers.0.input_layernorm.weight",
        "act.weight",
        "ln_f.weight",
        "ln_f.bias",
        "attention.in_proj_bias",
    ];
    for name in names {
        checkpoint.insert(name, &Tensor::new(array![1.0, 2.0].into_dyn(), DType::F32)).unwrap();
    }
    let found = checkpoint.normalizations();
    let told: Vec<_> = found
        .iter()
        .map(|found| (found.name.as_str(), found.has_statistics(), found.frameworks[0]))
        .collect();
    let expected = [
        ("BatchNorm_0", true, "flax-0.12"),
        ("bn0", true, "mxnet-1.9-operator"),
        ("conv/bn", true, "keras-3"),
        ("layers.0.input_layernorm", false, "pytorch-2"),
        ("ln_f", false, "pytorch-2"),
    ];
    assert_eq!(told, expected);
    assert_eq!(found[0].names.mean.as_deref(), Some("batch_stats/BatchNorm_0/mean"));
    assert_eq!(found[2].semantics().unwrap().epsilon, 1e-3);
}
