//! Every rule with running averages over ranks, against one process on the whole batch.

use cellnorm::ranks::{Alone, Communicator};
use cellnorm::rule::{Norm, Rule};
use cellnorm::{
    BatchNormConfig, Error, Mask, Mode, OneValue,
    momentum::StatisticsFrom,
    norms::{
        BatchInstanceNormConfig, BatchRenormConfig, GraphNormConfig, MeanVarianceNormConfig,
        StepBatchNormConfig, SwitchableNormConfig, TrackedInstanceNormConfig,
    },
};
use ndarray::{ArrayD, Axis, Slice};

use crate::common::{Numbers, distance, running_distance};
use crate::ranks::on_ranks;

/// y, dx, the parameters' gradients and the layer after a step.
type Outcome<R> = (ArrayD<f64>, ArrayD<f64>, Vec<f64>, Norm<R>);

/// The gradients of all parameters, one after another.
fn flat<R: Rule>(
    layer: &Norm<R>,
    gradients: &cellnorm::rule::Gradients<f64, ndarray::IxDyn>,
) -> Vec<f64> {
    layer.names().flat_map(|name| gradients.parameter(name).unwrap().clone()).collect()
}

fn check<R: Rule>(layer: Norm<R>, shape: &[usize], masked: bool) -> Result<(), Error> {
    let mut numbers = Numbers::new(21);
    let (x, dy) = (numbers.tensor(shape, 3.0), numbers.tensor(shape, 0.0));
    let valid = numbers.tensor(shape, 0.8).mapv(|value| value > 0.0);
    let mut layer = layer;
    for name in layer.names().collect::<Vec<_>>() {
        layer.parameter_mut(name).unwrap().mapv_inplace(|_| 0.2 + 0.6 * numbers.uniform());
    }
    let mut alone = layer.clone();
    let (y, saved) = match masked {
        true => alone.forward_masked(x.view(), &Mask::new(valid.view()))?,
        false => alone.forward(x.view())?,
    };
    let gradients = alone.backward(&saved, x.view(), dy.view())?;
    for split in [[0, 3, 3], [2, 0, 4], [6, 0, 0]] {
        let outcomes: Vec<Outcome<R>> = on_ranks(3, |ranks| {
            let start: usize = split[..ranks.rank()].iter().sum();
            let slice = Slice::from(start..start + split[ranks.rank()]);
            let (x, dy) = (x.slice_axis(Axis(0), slice), dy.slice_axis(Axis(0), slice));
            let mask = masked.then(|| Mask::new(valid.slice_axis(Axis(0), slice)));
            let mut layer = layer.clone();
            let (y, saved) = layer.forward_over(x.view(), mask.as_ref(), &ranks)?;
            let gradients = layer.backward_over(&saved, x, dy, &ranks)?;
            let mut parameters = flat(&layer, &gradients);
            ranks.sum(&mut parameters)?;
            Ok::<_, Error>((y, gradients.dx, parameters, layer))
        })
        .into_iter()
        .collect::<Result<_, _>>()?;
        let what = format!("{}, {split:?}, masked {masked}", R::NAME);
        let joined = |part: fn(&Outcome<R>) -> &ArrayD<f64>| {
            outcomes.iter().flat_map(|outcome| part(outcome).iter().copied()).collect::<Vec<f64>>()
        };
        let apart = distance(joined(|outcome| &outcome.0), y.iter().copied());
        assert!(apart < 1e-12, "y of {what}: {apart:e}");
        let apart = distance(joined(|outcome| &outcome.1), gradients.dx.iter().copied());
        assert!(apart < 1e-12, "dx of {what}: {apart:e}");
        for (_, _, parameters, layer) in &outcomes {
            let apart = distance(parameters.iter().copied(), flat(&alone, &gradients));
            assert!(apart < 1e-11, "parameters of {what}: {apart:e}");
            if layer.running.is_some() {
                let apart = running_distance(layer, &alone);
                assert!(apart < 1e-13, "running averages of {what}: {apart:e}");
            }
            assert_eq!(layer.running, outcomes[0].3.running, "the same bits on every rank");
        }
    }
    Ok(())
}

#[test]
fn rules_over_ranks_are_one_process() -> Result<(), Error> {
    for masked in [false, true] {
        let shape = [6, 4, 5];
        check(BatchNormConfig::new(4).init()?, &shape, masked)?;
        check(BatchNormConfig::over(&[1, 2], &[4, 5]).init()?, &shape, masked)?;
        check(BatchInstanceNormConfig::new(4).init()?, &shape, masked)?;
        check(SwitchableNormConfig::new(4).init()?, &shape, masked)?;
        check(BatchRenormConfig::new(4).init()?, &shape, masked)?;
        check(StepBatchNormConfig::new(5, 3).init()?, &shape, masked)?;
        check(MeanVarianceNormConfig::new(&[0, 2]).init()?, &shape, masked)?;
    }
    Ok(())
}

#[test]
fn gradients_of_shared_statistics_take_ranks() -> Result<(), Error> {
    let x = Numbers::new(5).tensor(&[6, 4, 5], 1.0);
    let mut layer = BatchNormConfig::new(4).init()?;
    let (_, saved) = layer.forward_over(x.view(), None, &Alone)?;
    let refused = layer.backward(&saved, x.view(), x.view()).unwrap_err().to_string();
    assert!(refused.contains("backward_over"), "{refused}");
    Ok(())
}

/// The policy is asked where a statistic of x is taken, over ranks as in one process.
#[test]
fn one_value_is_refused_where_it_is_taken() -> Result<(), Error> {
    let one = ArrayD::from_elem(vec![1, 4], 2.0);
    let refuses =
        |result: Result<(ArrayD<f64>, _), Error>| matches!(result, Err(Error::OneValue { .. }));
    let mut layer = BatchNormConfig::new(4).init()?;
    layer.mode = Mode { statistics: StatisticsFrom::Running, ..Mode::training() };
    assert!(refuses(layer.forward(one.view())));
    assert!(refuses(layer.forward_over(one.view(), None, &Alone)));
    layer.mode.update = false;
    assert!(!refuses(layer.forward(one.view())));
    layer.one_value = OneValue::AlwaysError;
    assert!(layer.infer(one.view()).is_ok(), "running averages normalize");

    let mut graph = GraphNormConfig::new(4).init()?;
    graph.train(false);
    let one = ArrayD::from_elem(vec![2, 4, 1], 2.0);
    let (_, saved) = graph.forward(one.view())?;
    graph.backward(&saved, one.view(), one.view())?;
    Ok(())
}

/// Nothing is shared among samples: each rank is a process of its own, and none waits for another.
#[test]
fn rules_of_single_samples_exchange_nothing() -> Result<(), Error> {
    let x = Numbers::new(5).tensor(&[6, 4, 5], 1.0);
    let mut layer = TrackedInstanceNormConfig::new(4).init()?;
    let refused = layer.forward_over(x.view(), None, &Alone).unwrap_err().to_string();
    assert!(refused.contains("keeps running averages of statistics that ranks do not share"));
    layer.mode.update = false;
    let (y, _) = layer.forward(x.view())?;
    let parts = on_ranks(2, |ranks| {
        let part = x.slice_axis(Axis(0), Slice::from(3 * ranks.rank()..3 * ranks.rank() + 3));
        layer.clone().forward_over(part, None, &ranks).map(|(y, _)| y)
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert!(distance(parts.into_iter().flatten(), y) < 1e-14);
    Ok(())
}

/// As on one process: its normalized value is 0, whatever it is.
#[test]
fn the_only_value_of_all_ranks_has_no_gradient() -> Result<(), Error> {
    let all = ndarray::array![[1e4 / 3.0]];
    for one_value in [OneValue::Beta, OneValue::UseRunning] {
        let dx: Vec<f64> = on_ranks(2, |ranks| {
            let x = all.slice(ndarray::s![..1 - ranks.rank(), ..]);
            let mut layer = BatchNormConfig::new(1).one_value(one_value).init()?;
            let (_, saved) = layer.forward_over(x, None, &ranks)?;
            Ok(layer.backward_over(&saved, x, x, &ranks)?.dx.sum())
        })
        .into_iter()
        .collect::<Result<_, Error>>()?;
        let running = 1e4 / 3.0 / (1.0_f64 + 1e-5).sqrt();
        match one_value {
            OneValue::Beta => assert_eq!(dx, [0.0, 0.0]),
            _ => assert!((dx[0] - running).abs() < 1e-9 && dx[1] == 0.0, "{dx:?}"),
        }
    }
    Ok(())
}
