//! How many groups: C for instance normalization, one for layer normalization, and G the number of
//! groups, not their size.

use cellnorm::{Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, moments};
use ndarray::{ArrayD, Axis, concatenate};

use crate::{Erratum, Numbers, distance};

/// One sample of four channels, 2 × 2: channel c holds 10c, 10c + 1, 10c + 2 and 10c + 3.
fn four_channels() -> ArrayD<f64> {
    ArrayD::from_shape_fn(vec![1, 4, 2, 2], |i| (10 * i[1] + 2 * i[2] + i[3]) as f64)
}

/// The first output of group normalization with so many groups.
fn first(groups: usize) -> Result<f64, Error> {
    Ok(GroupNormConfig::new(groups, 4).init()?.infer(four_channels())?[[0, 0, 0, 0]])
}

/// E2: with G = 2, the tutorial's own code makes two groups of 8 channels, not groups of 2
/// channels.
#[test]
fn g_is_the_number_of_groups() -> Result<(), Error> {
    let (channels, g) = (16, 2);
    let x = Numbers::new(2).tensor(&[3, channels, 4, 4], 1.0);
    let statistics = |groups: usize| -> Result<f64, Error> {
        let (_, saved) = GroupNormConfig::new(groups, channels).init()?.forward(x.view())?;
        Ok(saved.statistics.mean.len() as f64 / 3.0)
    };
    let (cellnorm, tutorial) = (statistics(g)?, statistics(channels / g)?);
    Erratum { cellnorm, right: 2.0, tutorial, wrong: 8.0, within: 0.0 }.check();

    // the code: [N, G, C/G, H, W], moments over the last three axes
    let split = x.view().into_shape_with_order(vec![3, g, channels / g, 4, 4]).unwrap();
    let (mean, variance) = moments(split.view(), &[2, 3, 4], true)?;
    let code = (&split - &mean) / (variance + 1e-5).mapv(f64::sqrt);
    let code = code.into_shape_with_order(x.raw_dim()).unwrap();
    let groups = |groups| GroupNormConfig::new(groups, channels).init()?.infer(x.view());
    assert!(distance(&code, &groups(g)?) < 1e-13);
    assert!(distance(&code, &groups(channels / g)?) > 0.5);
    Ok(())
}

/// E17: as many groups as channels make instance normalization; the two spatial axes have nothing
/// to do with it.
#[test]
fn instance_normalization_has_as_many_groups_as_channels() -> Result<(), Error> {
    let instance = InstanceNormConfig::new(4).init()?.infer(four_channels())?;
    assert_eq!(instance, GroupNormConfig::new(4, 4).init()?.infer(four_channels())?);
    let groups_for_h_and_w = 2;
    let (cellnorm, tutorial) = (instance[[0, 0, 0, 0]], first(groups_for_h_and_w)?);
    Erratum { cellnorm, right: -1.34164, tutorial, wrong: -1.26867, within: 1e-4 }.check();
    // with two channels, as in the notebook, two groups happen to be right
    let two = four_channels().slice_axis(Axis(1), (0..2).into()).into_owned();
    let groups = GroupNormConfig::new(groups_for_h_and_w, 2).init()?.infer(two.view())?;
    assert_eq!(groups, InstanceNormConfig::new(2).init()?.infer(two.view())?);
    Ok(())
}

/// E23: a group size of C is layer, a group size of 1 instance normalization: the reverse of what
/// is said.
#[test]
fn group_size_and_number_of_groups_are_reverses() -> Result<(), Error> {
    let of_size = |size: usize| first(4 / size);
    let instance = InstanceNormConfig::new(4).init()?.infer(four_channels())?[[0, 0, 0, 0]];
    Erratum {
        cellnorm: instance,
        right: -1.34164,
        tutorial: of_size(4)?,
        wrong: -1.46847,
        within: 1e-4,
    }
    .check();
    let layer = LayerNormConfig::per_channel(4).init()?.infer(four_channels())?[[0, 0, 0, 0]];
    Erratum {
        cellnorm: layer,
        right: -1.46847,
        tutorial: of_size(1)?,
        wrong: -1.34164,
        within: 1e-4,
    }
    .check();
    Ok(())
}

/// The groups are neighbours: channels 0 to C/G − 1 are the first, as ⌊c / (C/G)⌋ says.
#[test]
fn groups_are_neighbours() -> Result<(), Error> {
    let x = Numbers::new(33).tensor(&[2, 6, 3, 3], 0.0);
    let part = |from: usize| -> Result<ArrayD<f64>, Error> {
        let channels = x.slice_axis(Axis(1), (from..from + 2).into());
        LayerNormConfig::per_channel(2).init()?.infer(channels)
    };
    let parts = [part(0)?, part(2)?, part(4)?];
    let joined = concatenate(Axis(1), &parts.each_ref().map(|part| part.view())).unwrap();
    assert!(distance(&GroupNormConfig::new(3, 6).init()?.infer(x.view())?, &joined) < 1e-13);
    Ok(())
}
