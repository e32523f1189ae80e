//! Population statistics of a network against a computation of its activations in f64.

use burn::module::{Module, ModuleVisitor, Param, RunningState};
use burn::nn::{self, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn::cellnorm::{Error, Momentum};
use cellnorm_burn::{
    BatchNorm, BatchNormConfig, Recalibrated, StepBatchNorm, StepBatchNormConfig, recalibrate,
};

/// x → first → norm → relu → second → theirs.
#[derive(Module, Debug)]
pub struct Network {
    pub first: Linear,
    pub norm: BatchNorm,
    pub second: Linear,
    pub theirs: nn::BatchNorm,
}

pub const MOMENTUM: f64 = 0.03;

impl Network {
    pub fn new(device: &Device) -> Self {
        let random =
            || Param::from_tensor(Tensor::random([4], Distribution::Uniform(0.5, 2.0), device));
        let mut norm = BatchNormConfig::new(4).with_momentum(Momentum::Step(MOMENTUM)).init(device);
        (norm.gamma, norm.beta) = (Some(random()), Some(random()));
        let network = Self {
            first: LinearConfig::new(3, 4).init(device),
            norm,
            second: LinearConfig::new(4, 2).init(device),
            theirs: nn::BatchNormConfig::new(2).with_momentum(MOMENTUM).init(device),
        };
        for batch in batches(device) {
            network.forward(batch * 3.0);
        }
        network
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.first.forward(x)));
        self.theirs.forward(self.second.forward(x))
    }
}

/// Of different sizes, and with means that differ.
pub fn batches(device: &Device) -> Vec<Tensor<2>> {
    let batch =
        |(samples, mean)| Tensor::random([samples, 3], Distribution::Normal(mean, 1.5), device);
    [(50, 0.0), (70, 2.0), (20, -3.0)].map(batch).to_vec()
}

pub fn list<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().unwrap()
}

pub fn running(network: &Network) -> [Vec<f64>; 4] {
    let Network { norm, theirs, .. } = network;
    let of = |state: &RunningState<Tensor<1>>| list(state.value_sync());
    [
        of(&norm.running_mean),
        of(&norm.running_var),
        of(&theirs.running_mean),
        of(&theirs.running_var),
    ]
}

type Matrix = Vec<Vec<f64>>;

fn rows<const D: usize>(tensor: Tensor<D>, columns: usize) -> Matrix {
    list(tensor).chunks(columns).map(<[f64]>::to_vec).collect()
}

fn linear(layer: &Linear, x: &Matrix) -> Matrix {
    let [_, outputs] = layer.weight.dims();
    let (weight, bias) =
        (rows(layer.weight.val(), outputs), list(layer.bias.as_ref().unwrap().val()));
    let output = |row: &Vec<f64>, o: usize| {
        row.iter().zip(&weight).map(|(x, weight)| x * weight[o]).sum::<f64>() + bias[o]
    };
    x.iter().map(|row| (0..outputs).map(|o| output(row, o)).collect()).collect()
}

/// Mean and biased variance of each column.
fn moments(x: &Matrix) -> Vec<(f64, f64)> {
    let n = x.len() as f64;
    let of = |column: usize| {
        let mean = x.iter().map(|row| row[column]).sum::<f64>() / n;
        (mean, x.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / n)
    };
    (0..x[0].len()).map(of).collect()
}

/// The statistics that `running` should give.
fn expected(network: &Network, batches: &[Tensor<2>]) -> [Vec<f64>; 4] {
    let (gamma, beta) = (network.norm.gamma.as_ref().unwrap(), network.norm.beta.as_ref().unwrap());
    let (gamma, beta) = (list(gamma.val()), list(beta.val()));
    let (mut first, mut second) = (vec![], vec![]);
    for batch in batches {
        let x = linear(&network.first, &rows(batch.clone(), 3));
        let of_batch = moments(&x);
        let normalize = |(c, x): (usize, &f64)| {
            ((x - of_batch[c].0) / (of_batch[c].1 + 1e-5).sqrt() * gamma[c] + beta[c]).max(0.0)
        };
        let y: Matrix =
            x.iter().map(|row| row.iter().enumerate().map(normalize).collect()).collect();
        second.extend(linear(&network.second, &y));
        first.extend(x);
    }
    let unbiased = first.len() as f64 / (first.len() as f64 - 1.0);
    let (first, second) = (moments(&first), moments(&second));
    [
        first.iter().map(|(mean, _)| *mean).collect(),
        first.iter().map(|(_, variance)| variance * unbiased).collect(),
        second.iter().map(|(mean, _)| *mean).collect(),
        second.iter().map(|(_, variance)| *variance).collect(),
    ]
}

#[track_caller]
pub fn assert_near(given: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    let pairs = || given.iter().flatten().zip(expected.iter().flatten());
    let error = pairs().map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
    println!("off by {error:.1e}");
    assert!(error <= tolerance, "{given:?} is not {expected:?}");
}

/// The parameters that are no running statistics.
pub fn parameters<M: Module>(module: &M) -> Vec<Vec<f64>> {
    struct All(Vec<String>, Vec<Vec<f64>>);
    impl ModuleVisitor for All {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.0.last().unwrap().starts_with("running") {
                self.1.push(list(param.val()));
            }
        }
    }
    let mut all = All(vec![], vec![]);
    module.visit(&mut all);
    all.1
}

/// How far statistics are off, as the report says it.
fn distances(old: &[Vec<f64>], new: &[Vec<f64>]) -> (f64, f64) {
    let means = old[0].iter().zip(&new[0]).zip(&new[1]);
    let distance =
        means.map(|((old, new), variance)| (old - new).abs() / variance.sqrt()).fold(0.0, f64::max);
    let ratios = old[1].iter().zip(&new[1]).map(|(old, new)| old / new);
    (
        distance,
        ratios.fold(
            1.0,
            |far, ratio| if ratio.ln().abs() > f64::ln(far).abs() { ratio } else { far },
        ),
    )
}

#[test]
fn statistics_are_those_of_all_batches() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let network = Network::new(&device);
    let batches = batches(&device);
    let (before, kept) = (running(&network), parameters(&network));
    let report = recalibrate(&network, batches.clone(), Network::forward)?;
    let (after, expected) = (running(&network), expected(&network, &batches));
    assert_near(&after, &expected, 2e-6);
    assert_eq!(parameters(&network), kept);

    let paths: Vec<&str> = report.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["norm", "theirs"]);
    for (layer, Recalibrated { mean_distance, variance_ratio, .. }) in report.iter().enumerate() {
        let (distance, ratio) = distances(&before[2 * layer..][..2], &expected[2 * layer..][..2]);
        println!(
            "mean off by {mean_distance:.3} deviations, variance by a factor of \
             {variance_ratio:.3}"
        );
        assert!(
            (mean_distance - distance).abs() < 1e-5 && (variance_ratio / ratio - 1.0).abs() < 1e-5
        );
    }

    let again = recalibrate(&network, batches, Network::forward)?;
    assert_eq!(running(&network), after);
    for Recalibrated { mean_distance, variance_ratio, .. } in again {
        assert!(mean_distance < 1e-6 && (variance_ratio - 1.0).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn momentum_is_what_it_was() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let network = Network::new(&device);
    recalibrate(&network, batches(&device), Network::forward)?;
    let (before, batch) = (running(&network), batches(&device).remove(0));
    let of_batch = expected(&network, std::slice::from_ref(&batch));
    network.forward(batch);
    let moved = std::array::from_fn::<Vec<f64>, 4, _>(|i| {
        let pairs = before[i].iter().zip(&of_batch[i]);
        pairs.map(|(before, batch)| (1.0 - MOMENTUM) * before + MOMENTUM * batch).collect()
    });
    assert_near(&running(&network), &moved, 1e-6);
    Ok(())
}

#[test]
fn how_the_data_are_cut_makes_no_difference_to_the_first_layer() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(3).with_momentum(Momentum::Cumulative).init(&device);
    let batches = batches(&device);
    let of = |layer: &BatchNorm| {
        [list(layer.running_mean.value_sync()), list(layer.running_var.value_sync())]
    };
    recalibrate(&layer, batches.clone(), BatchNorm::forward)?;
    let cut = of(&layer);
    let whole = Tensor::cat(batches, 0) + 1000.0;
    recalibrate(&layer, [whole.clone()], BatchNorm::forward)?;
    let [mean, variance] = of(&layer);
    assert_near(&[mean.iter().map(|mean| mean - 1000.0).collect(), variance.clone()], &cut, 1e-4);
    recalibrate(&layer, whole.split(33, 0), BatchNorm::forward)?;
    assert_near(&of(&layer), &[mean, variance], 1e-6);
    assert_eq!(
        list(layer.num_batches_tracked.as_ref().unwrap().value_sync()),
        [0.0],
        "no batch of training"
    );
    Ok(())
}

#[test]
fn steps_have_statistics_of_their_own() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let layer = StepBatchNormConfig::new(2, 3).init(&device);
    let x = Tensor::<3>::random([10, 3, 2], Distribution::Normal(1.0, 2.0), &device);
    let before = list(layer.running_mean.as_ref().unwrap().value_sync());
    // the first two steps one by one; no batch tells of the third
    let forward = |layer: &StepBatchNorm, x: Tensor<3>| {
        layer.at_step(0).forward(x.clone().narrow(1, 0, 1));
        layer.at_step(1).forward(x.narrow(1, 1, 1))
    };
    recalibrate(&layer, x.clone().split(4, 0), forward)?;
    let after = list(layer.running_mean.as_ref().unwrap().value_sync());
    let mut expected = list(x.mean_dim(0));
    expected[4..].copy_from_slice(&before[4..]);
    assert_near(&[after], &[expected], 1e-6);
    Ok(())
}
