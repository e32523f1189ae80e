//! Every error with its whole message: what was given, and what would be right.

use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Momentum,
    RmsNormConfig, batch_normalization, get_stats, moments,
};
use ndarray::{ArrayD, IxDyn, array};

use crate::common::averages;

fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(shape)
}

/// The message of the error that came instead of a result.
fn message<R>(result: Result<R, Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn making_a_layer() {
    let epsilon = |epsilon| message(LayerNormConfig::new(&[4]).epsilon(epsilon).init());
    assert_eq!(epsilon(0.0), "epsilon is 0; it must be finite and at least 1e-36, such as 1e-5");
    assert!(
        epsilon(1e-80).ends_with("it must be finite and at least 1e-36, such as 1e-5"),
        "1/sqrt(epsilon) overflows f32"
    );
    assert_eq!(
        epsilon(-1e-5),
        "epsilon is -0.00001; it must be finite and at least 1e-36, such as 1e-5"
    );
    assert_eq!(
        epsilon(f64::NAN),
        "epsilon is NaN; it must be finite and at least 1e-36, such as 1e-5"
    );
    assert_eq!(
        epsilon(f64::INFINITY),
        "epsilon is inf; it must be finite and at least 1e-36, such as 1e-5"
    );
    let others = [
        message(BatchNormConfig::new(4).epsilon(0.0).init()),
        message(InstanceNormConfig::new(4).epsilon(0.0).init()),
        message(GroupNormConfig::new(2, 4).epsilon(0.0).init()),
        message(RmsNormConfig::per_channel(4).epsilon(0.0).init()),
    ];
    assert!(others.iter().all(|other| *other == epsilon(0.0)));

    let momentum = |momentum| message(BatchNormConfig::new(4).momentum(momentum).init());
    assert_eq!(momentum(Momentum::Step(1.5)), "momentum is 1.5; it must be between 0 and 1");
    assert_eq!(momentum(Momentum::Keep(-0.1)), "momentum is -0.1; it must be between 0 and 1");
    assert_eq!(momentum(Momentum::Keep(f64::NAN)), "momentum is NaN; it must be between 0 and 1");

    let groups = |groups, channels| message(GroupNormConfig::new(groups, channels).init());
    assert_eq!(groups(4, 10), "10 channels cannot be split into 4 groups; possible: 1, 2, 5, 10");
    assert_eq!(groups(0, 3), "3 channels cannot be split into 0 groups; possible: 1, 3");
    assert_eq!(groups(8, 4), "4 channels cannot be split into 8 groups; possible: 1, 2, 4");
    assert_eq!(
        groups(0, 0),
        "0 channels cannot be split into 0 groups; possible: none without a channel"
    );

    assert_eq!(
        message(LayerNormConfig::new(&[]).init()),
        "no axes to normalize over; name at least one"
    );
    assert_eq!(
        message(RmsNormConfig::over(&[], &[]).init()),
        "no axes to normalize over; name at least one"
    );
    let lengths = message(LayerNormConfig::over(&[1, 2], &[3]).init());
    assert_eq!(lengths, "1 length, [3], for 2 axes, [1, 2]; give one for each");
}

#[test]
fn tensors_that_do_not_suit() -> Result<(), Error> {
    let mut batch = BatchNormConfig::new(3).init()?;
    let rank = "the tensor of shape [3] has 1 axis; batch normalization needs at least 2";
    assert_eq!(message(batch.forward(zeros(&[3]).view())), rank);
    assert_eq!(message(batch.infer(zeros(&[]))), rank.replace("[3] has 1 axis", "[] has 0 axes"));
    let channels = "axis 1 of the shape [2, 4, 5] has length 4, but the layer was made for 3 \
                    channels; is the channel axis another one?";
    assert_eq!(message(batch.forward(zeros(&[2, 4, 5]).view())), channels);
    let far = BatchNormConfig::new(3).channel_axis(-3).init()?;
    assert_eq!(
        message(far.infer(zeros(&[2, 3]))),
        "axis -3 does not exist in a tensor of 2 axes; possible: -2 to 1"
    );
    let extreme = BatchNormConfig::new(3).channel_axis(isize::MIN).init()?;
    let expected =
        format!("axis {} does not exist in a tensor of 2 axes; possible: -2 to 1", isize::MIN);
    assert_eq!(message(extreme.infer(zeros(&[2, 3]))), expected);

    for shape in [&[0, 3][..], &[2, 3, 0], &[0, 3, 0]] {
        let empty = format!(
            "a statistic over no values: the shape {shape:?} has an axis of length 0; every axis \
             needs at least 1"
        );
        assert_eq!(message(batch.forward(zeros(shape).view())), empty);
        assert_eq!(batch.infer(zeros(shape))?, zeros(shape));
        let instance = InstanceNormConfig::new(3).init()?.infer(zeros(shape));
        let group = GroupNormConfig::new(3, 3).init()?.infer(zeros(shape));
        if shape[0] == 0 {
            assert_eq!([instance?, group?], [zeros(shape), zeros(shape)]);
        } else {
            assert_eq!([message(instance), message(group)], [empty.clone(), empty.clone()]);
        }
        assert_eq!(message(moments(zeros(shape).view(), &[0], true)), empty);
        assert_eq!(message(get_stats(zeros(shape).view())), empty);
    }
    let (y, _) = BatchNormConfig::new(0).init()?.forward(zeros(&[2, 0]).view())?;
    assert_eq!(y, zeros(&[2, 0]));
    assert!(
        message(LayerNormConfig::new(&[0]).init()?.infer(zeros(&[2, 0])))
            .starts_with("a statistic over no")
    );

    let one = "batch normalization over the shape [1, 3] has one value for each statistic: the \
               variance would be 0 and each output beta, whatever the input; give at least 2 \
               values a statistic (a larger batch or more positions), or use inference";
    assert_eq!(message(batch.forward(zeros(&[1, 3]).view())), one);
    assert!(batch.infer(zeros(&[1, 3])).is_ok());
    let of_instance = one
        .replace("batch", "instance")
        .replace("larger instance", "larger batch")
        .replace("[1, 3]", "[4, 3]");
    assert_eq!(
        message(InstanceNormConfig::new(3).init()?.forward(zeros(&[4, 3]).view())),
        of_instance
    );

    let samples = "axis 0 holds the samples; group normalization needs the channels on another \
                   axis, such as 1 or -1";
    assert_eq!(
        message(GroupNormConfig::new(1, 3).channel_axis(-2).init()?.infer(zeros(&[3, 3]))),
        samples
    );
    let layer = LayerNormConfig::new(&[3, 4]).init()?;
    let normalized =
        "the last axes of the shape [2, 4, 3] are not [3, 4], which the layer normalizes";
    assert_eq!(message(layer.infer(zeros(&[2, 4, 3]))), normalized);
    assert_eq!(message(layer.infer(zeros(&[4]))), normalized.replace("[2, 4, 3]", "[4]"));
    let over = LayerNormConfig::over(&[-1, 1], &[3, 4]).init()?;
    let expected = "the axes [-1, 1] of the shape [2, 4, 3] have the lengths [4, 3]; the layer \
                    was made for [3, 4]";
    assert_eq!(message(over.infer(zeros(&[2, 4, 3]))), expected);
    assert_eq!(
        message(over.infer(zeros(&[4]))),
        "axis 1 does not exist in a tensor of 1 axis; possible: -1 to 0"
    );
    let twice = LayerNormConfig::over(&[1, -1], &[3, 3]).init()?;
    assert_eq!(
        message(twice.infer(zeros(&[2, 3]))),
        "axis 1 is named twice in [1, -1]; name each axis once"
    );
    let scalar = "axis 0 does not exist in a tensor of 0 axes; possible: none";
    assert_eq!(message(moments(zeros(&[]).view(), &[0], false)), scalar);

    let nan = array![[1.0, 2.0], [f64::NAN, 3.0]];
    let expected = "x holds NaN, infinity or numbers too large to sum, first seen in the \
                    statistic with index 1 (of 2); look at what made it";
    assert_eq!(message(LayerNormConfig::new(&[2]).init()?.infer(nan)), expected);
    Ok(())
}

#[test]
fn layers_changed_since_they_were_made() -> Result<(), Error> {
    let x = zeros(&[2, 3, 4]);
    let mut layer = LayerNormConfig::new(&[3, 4]).init()?;
    let (_, saved) = layer.forward(x.view())?;
    layer.gamma = Some(ArrayD::ones(IxDyn(&[12])));
    let gamma = "gamma has the shape [12]; it must be [3, 4]";
    assert_eq!(message(layer.forward(x.view())), gamma);
    assert_eq!(message(layer.infer(x.view())), gamma);
    assert_eq!(message(layer.backward(&saved, x.view(), x.view())), gamma);
    layer.gamma = None;
    layer.beta = Some(ArrayD::ones(IxDyn(&[3])));
    assert_eq!(message(layer.infer(x.view())), "beta has the shape [3]; it must be [3, 4]");
    (layer.beta, layer.epsilon) = (None, -1.0);
    assert_eq!(
        message(layer.infer(x.view())),
        "epsilon is -1; it must be finite and at least 1e-36, such as 1e-5"
    );
    layer.epsilon = 1e-5;
    assert!(layer.infer(x.view()).is_ok());

    let mut batch = BatchNormConfig::new(3).init()?;
    batch.running = Some(averages(&[0.0, 0.0], &[1.0; 3]));
    assert_eq!(message(batch.infer(x.view())), "running_mean has the shape [2]; it must be [3]");
    batch.running = Some(averages(&[0.0, 0.0, f64::INFINITY], &[1.0; 3]));
    let finite = "it must be finite, and a variance not negative";
    assert_eq!(message(batch.forward(x.view())), format!("running_mean is inf; {finite}"));
    batch.running = Some(averages(&[0.0; 3], &[1.0, -2.0, 1.0]));
    assert_eq!(message(batch.infer(x.view())), format!("running_var is -2; {finite}"));
    batch.running = Some(averages(&[0.0; 3], &[1.0; 3]));
    batch.momentum = Momentum::Step(2.0);
    assert_eq!(message(batch.forward(x.view())), "momentum is 2; it must be between 0 and 1");
    Ok(())
}

#[test]
fn backward_of_something_else() -> Result<(), Error> {
    let x = zeros(&[2, 3, 4]);
    let mut layer = InstanceNormConfig::new(3).init()?;
    let (_, saved) = layer.forward(x.view())?;
    let shape = "dy has the shape [2, 3, 5], but x has [2, 3, 4]; they must be equal";
    assert_eq!(message(layer.backward(&saved, x.view(), zeros(&[2, 3, 5]))), shape);
    let other = message(layer.backward(&saved, zeros(&[4, 3, 4]).view(), zeros(&[4, 3, 4])));
    assert_eq!(other, "the saved mean has the shape [6]; it must be [12]");
    let mut cut = saved.clone();
    cut.statistics.variance.pop();
    assert_eq!(
        message(layer.backward(&cut, x.view(), x.view())),
        "the saved variance has the shape [5]; it must be [6]"
    );
    let mut nan = x.clone();
    nan[[1, 2, 0]] = f32::NAN;
    let expected = "dy holds NaN, infinity or numbers too large to sum, first seen in the \
                    statistic with index 2 (of 3); look at what made it";
    assert_eq!(message(layer.backward(&saved, x.view(), nan)), expected);
    Ok(())
}

/// An error of the training pass leaves the running statistics as they were.
#[test]
fn failed_training_changes_nothing() -> Result<(), Error> {
    let mut batch = BatchNormConfig::new(3).init()?;
    batch.forward(
        ArrayD::from_shape_fn(&[4, 3][..], |index| (index[0] * 3 + index[1]) as f32).view(),
    )?;
    let before = batch.running.clone();
    let mut nan = zeros(&[4, 3]);
    nan[[3, 2]] = f32::NAN;
    assert!(batch.forward(nan.view()).is_err());
    assert!(batch.forward(zeros(&[1, 3]).view()).is_err());
    assert!(batch.forward(zeros(&[2, 4]).view()).is_err());
    batch.gamma = Some(ArrayD::ones(IxDyn(&[2])));
    assert!(batch.forward(zeros(&[4, 3]).view()).is_err());
    assert_eq!(batch.running, before);
    Ok(())
}

#[test]
fn normalization_with_given_statistics() {
    let x = array![[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let (mean, one) = (array![2.0, 3.0, 4.0].into_dyn(), array![1.0].into_dyn());
    let short = array![1.0, 1.0].into_dyn();
    let run = |variance: &ArrayD<f64>, epsilon| {
        message(batch_normalization(x.view(), mean.view(), variance.view(), None, None, epsilon))
    };
    assert_eq!(run(&one, 1e-5), "no error");
    assert_eq!(run(&short, 1e-5), "variance has the shape [2], which does not broadcast to [2, 3]");
    assert_eq!(
        run(&zeros(&[1, 1, 3]).mapv(f64::from), 1e-5),
        "variance has the shape [1, 1, 3], which does not broadcast to [2, 3]"
    );
    assert_eq!(run(&array![-1.0].into_dyn(), 1e-5), "variance is -1; it must be not negative");
    assert_eq!(run(&array![f64::NAN].into_dyn(), 1e-5), "variance is NaN; it must be finite");
    let empty = zeros(&[0, 3]);
    let none = empty.mapv(f64::from);
    for (mean, variance) in [(&mean, &one), (&none, &none)] {
        let (mean, variance) = (mean.view(), variance.view());
        let y = batch_normalization(empty.view(), mean, variance, None, None, 1e-5).unwrap();
        assert_eq!(y, empty);
    }
    assert_eq!(run(&one, 0.0), "epsilon is 0; it must be finite and at least 1e-36, such as 1e-5");
}
