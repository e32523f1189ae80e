//! Every kind of layer, with either batch normalization behind it and ahead of it.

use burn::nn::conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d,
    ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
    ConvTranspose3dConfig,
};
use burn::nn::{
    Linear, LinearConfig, LinearLayout, PaddingConfig1d, PaddingConfig2d, PaddingConfig3d,
};
use burn::tensor::{Device, Tensor};
use cellnorm_burn::fold::{Affine, Fold};

use super::common::{Norm, assert_near, ours, random, theirs};

/// Which maps fold ahead of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Ahead {
    Any,
    Unshifted,
}
use Ahead::{Any, Unshifted};

/// The layer with ours and Burn's normalization at both sides.
fn check<L: Fold + Clone, const D: usize>(
    name: &str,
    layer: L,
    [inputs, outputs]: [usize; 2],
    x: Tensor<D>,
    ahead: Ahead,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<D> + Copy,
) {
    let device = &x.device();
    // the same axis, counted from the last, for those of our own
    let from_last = 1 - D as isize;
    both(
        name,
        &layer,
        [&ours(inputs, 1, true, device), &ours(outputs, from_last, true, device)],
        &x,
        ahead,
        forward,
    );
    both(
        name,
        &layer,
        [&theirs(inputs, true, device), &theirs(outputs, true, device)],
        &x,
        ahead,
        forward,
    );
    both(
        name,
        &layer,
        [&ours(inputs, 1, false, device), &ours(outputs, 1, false, device)],
        &x,
        Any,
        forward,
    );
    both(
        name,
        &layer,
        [&theirs(inputs, false, device), &theirs(outputs, false, device)],
        &x,
        Any,
        forward,
    );
}

fn both<L: Fold + Clone, N: Norm, const D: usize>(
    name: &str,
    layer: &L,
    [before, behind]: [&N; 2],
    x: &Tensor<D>,
    ahead: Ahead,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<D>,
) {
    let folded = layer.clone().fold_after(behind).expect("it folds behind");
    let expected = behind.apply(forward(layer, x.clone()));
    assert_near(forward(&folded, x.clone()), expected, &format!("behind {name}"));
    let folded = layer.clone().fold_before(before);
    match ahead {
        Any => {
            let expected = forward(layer, before.apply(x.clone()));
            assert_near(
                forward(&folded.expect("it folds ahead"), x.clone()),
                expected,
                &format!("ahead of {name}"),
            );
        }
        Unshifted => assert!(folded.is_err(), "a shift ahead of {name} is no bias"),
    }
}

#[test]
fn convolutions() {
    let device = Device::flex();
    for bias in [true, false] {
        for (name, padding, ahead) in [
            ("Conv1d", PaddingConfig1d::Valid, Any),
            ("Conv1d, no explicit padding", PaddingConfig1d::Explicit(0, 0), Any),
            ("Conv1d, padded at one end", PaddingConfig1d::Explicit(0, 2), Unshifted),
            ("Conv1d, same", PaddingConfig1d::Same, Unshifted),
        ] {
            let config = Conv1dConfig::new(4, 6, 3).with_groups(2).with_stride(2).with_dilation(2);
            let layer = config.with_bias(bias).with_padding(padding).init(&device);
            check(name, layer, [4, 6], random([2, 4, 15], &device), ahead, Conv1d::forward);
        }
        for (name, padding, ahead) in [
            ("Conv2d", PaddingConfig2d::Valid, Any),
            ("Conv2d, padded", PaddingConfig2d::Explicit(0, 1, 0, 2), Unshifted),
        ] {
            let config = Conv2dConfig::new([6, 9], [3, 2])
                .with_groups(3)
                .with_stride([2, 1])
                .with_dilation([1, 2]);
            let layer = config.with_bias(bias).with_padding(padding).init(&device);
            check(name, layer, [6, 9], random([2, 6, 9, 8], &device), ahead, Conv2d::forward);
        }
        for (name, padding, ahead) in [
            ("Conv3d", PaddingConfig3d::Valid, Any),
            ("Conv3d, padded", PaddingConfig3d::Explicit(0, 0, 1), Unshifted),
        ] {
            let config = Conv3dConfig::new([4, 6], [2, 3, 1]).with_groups(2).with_stride([1, 2, 1]);
            let layer =
                config.with_dilation([2, 1, 1]).with_bias(bias).with_padding(padding).init(&device);
            check(name, layer, [4, 6], random([2, 4, 5, 7, 4], &device), ahead, Conv3d::forward);
        }
    }
}

#[test]
fn depthwise_and_single_taps() {
    let device = Device::flex();
    let depthwise = Conv2dConfig::new([5, 10], [3, 3]).with_groups(5).init(&device);
    check(
        "a depthwise Conv2d",
        depthwise,
        [5, 10],
        random([2, 5, 6, 6], &device),
        Any,
        Conv2d::forward,
    );
    // the same size, but nothing is padded
    let pointwise =
        Conv2dConfig::new([4, 3], [1, 1]).with_padding(PaddingConfig2d::Same).with_stride([2, 2]);
    check(
        "1 × 1",
        pointwise.init(&device),
        [4, 3],
        random([2, 4, 6, 5], &device),
        Any,
        Conv2d::forward,
    );
    // one tap, but the outputs at the border see none
    let padded =
        Conv2dConfig::new([4, 3], [1, 1]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    check(
        "1 × 1, padded",
        padded.init(&device),
        [4, 3],
        random([2, 4, 5, 5], &device),
        Unshifted,
        Conv2d::forward,
    );
}

#[test]
fn transposed_convolutions() {
    let device = Device::flex();
    for bias in [true, false] {
        // (taps, stride, dilation, padding, padding_out)
        for (name, [taps, stride, dilation, padding, padding_out], ahead) in [
            ("one tap", [1, 1, 1, 0, 0], Any),
            ("cut to where all taps meet", [3, 1, 2, 4, 0], Any),
            ("cut beyond that", [3, 1, 2, 5, 0], Any),
            ("cut too little", [3, 1, 2, 3, 0], Unshifted),
            ("a border", [3, 1, 1, 0, 0], Unshifted),
            ("gaps", [1, 2, 1, 0, 0], Unshifted),
            ("a border and strides", [4, 2, 1, 1, 1], Unshifted),
        ] {
            let config = ConvTranspose1dConfig::new([4, 6], taps)
                .with_groups(2)
                .with_stride(stride)
                .with_bias(bias);
            let config =
                config.with_dilation(dilation).with_padding(padding).with_padding_out(padding_out);
            let (layer, x) = (config.init(&device), random([2, 4, 16], &device));
            check(
                &format!("ConvTranspose1d, {name}"),
                layer,
                [4, 6],
                x,
                ahead,
                ConvTranspose1d::forward,
            );
        }
        let config = ConvTranspose2dConfig::new([6, 3], [3, 2]).with_groups(3).with_bias(bias);
        let cut = config.clone().with_padding([2, 1]).init(&device);
        check(
            "ConvTranspose2d, cut",
            cut,
            [6, 3],
            random([2, 6, 7, 6], &device),
            Any,
            ConvTranspose2d::forward,
        );
        let whole =
            config.with_stride([1, 2]).with_padding([2, 1]).with_padding_out([0, 1]).init(&device);
        let x = random([2, 6, 5, 6], &device);
        check("ConvTranspose2d, strides", whole, [6, 3], x, Unshifted, ConvTranspose2d::forward);
        let config = ConvTranspose3dConfig::new([4, 6], [1, 2, 3]).with_groups(2).with_bias(bias);
        let cut = config.clone().with_padding([0, 1, 2]).init(&device);
        check(
            "ConvTranspose3d, cut",
            cut,
            [4, 6],
            random([2, 4, 3, 4, 6], &device),
            Any,
            ConvTranspose3d::forward,
        );
        let whole = config.with_stride([1, 2, 1]).with_dilation([1, 1, 2]).init(&device);
        let x = random([2, 4, 3, 4, 5], &device);
        check("ConvTranspose3d", whole, [4, 6], x, Unshifted, ConvTranspose3d::forward);
    }
}

#[test]
fn linear_layers() {
    let device = Device::flex();
    for (bias, layout) in
        [(true, LinearLayout::Row), (false, LinearLayout::Row), (true, LinearLayout::Col)]
    {
        let layer = LinearConfig::new(5, 7).with_bias(bias).with_layout(layout).init(&device);
        check("Linear", layer.clone(), [5, 7], random([9, 5], &device), Any, Linear::forward);
        // with more axes the features are on the last
        let norms = [&ours(5, -1, true, &device), &ours(7, -1, true, &device)];
        both(
            "Linear of sequences",
            &layer,
            norms,
            &random([3, 4, 5], &device),
            Any,
            Linear::forward,
        );
    }
}

#[test]
fn a_map_of_the_data() -> Result<(), cellnorm_burn::cellnorm::Error> {
    let device = Device::flex();
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let layer = Conv2dConfig::new([3, 4], [3, 3]).init(&device);
    let x = random([2, 3, 8, 8], &device);
    let channel =
        |values: [f64; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
    let expected = layer.forward((x.clone() - channel(mean)) / channel(deviation));
    let folded = layer.fold_before(&Affine::standardize(&mean, &deviation)?)?;
    assert_near(folded.forward(x), expected, "standardized images");
    Ok(())
}
