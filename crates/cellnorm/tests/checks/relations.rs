//! Relations between layers.

use cellnorm::{Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig};
use ndarray::array;

use crate::common::{Numbers, distance};

/// One value to a set in inference gives β.
#[test]
fn one_value_gives_beta() -> Result<(), Error> {
    let mut layer = LayerNormConfig::new(&[1]).init()?;
    layer.beta = Some(array![0.25].into_dyn());
    assert_eq!(layer.infer(array![[3.0_f32], [-9.0]])?, array![[0.25], [0.25]]);
    Ok(())
}

#[test]
fn groups_lie_between_layer_and_instance() -> Result<(), Error> {
    let mut numbers = Numbers::new(3);
    for shape in [[3, 6, 5, 7], [2, 6, 64, 65]] {
        let x = numbers.tensor(&shape, 2.0);
        let (all, each) = (GroupNormConfig::new(1, 6).init()?, GroupNormConfig::new(6, 6).init()?);
        let layer = LayerNormConfig::per_channel(6).init()?;
        assert_eq!(all.infer(x.view())?, layer.infer(x.view())?);
        assert_eq!(each.infer(x.view())?, InstanceNormConfig::new(6).init()?.infer(x.view())?);
        let per_element = LayerNormConfig::new(&shape[1..]).init()?;
        assert!(distance(per_element.infer(x.view())?, layer.infer(x.view())?) <= 1e-14);
        // and channels-last gives what channels-first gives
        let last = |x: &ndarray::ArrayD<f64>| {
            x.view().permuted_axes(&[0, 2, 3, 1][..]).as_standard_layout().into_owned()
        };
        let group = GroupNormConfig::new(3, 6);
        let first = group.clone().init()?.infer(x.view())?;
        assert!(distance(group.channel_axis(-1).init()?.infer(last(&x))?, last(&first)) <= 1e-13);
    }
    Ok(())
}
