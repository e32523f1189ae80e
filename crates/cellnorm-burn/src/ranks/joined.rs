//! Batch normalization with the statistics of all ranks, as one operation: the passes over this rank's part, and what is exchanged between
//! them in the place of a rule's table.

use std::sync::{Arc, OnceLock, Weak};

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use cellnorm::norms::{Batch, Kind};
use cellnorm::passes::{Affine, Gradient, Sums};
use cellnorm::ranks::{Communicator, Joined};
use cellnorm::tables::{self, Answer, Labels, Parameters, Tracked};
use cellnorm::{Cells, Error, Moments, OneValue, Statistics};

use crate::ops::{AnyFormula, RuleOps, RuleSpec, is_fused};
use crate::tables::{Table, numbers};

/// y, and the statistics of the joined batch.
///
/// # Panics
/// If the shape of x does not suit, a rank fails or does something else, there is one value a channel on all ranks and the policy is an
/// error, or x is not on the CPU backend Flex.
pub(crate) fn normalize<const D: usize>(
    kind: &Batch,
    x: Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    (epsilon, one_value, settings): (f64, OneValue, String),
    over: &Arc<dyn Communicator>,
) -> (Tensor<D>, Tracked<Table>) {
    let shape = x.dims();
    assert!(
        is_fused(x.device().as_dispatch()),
        "ranks share statistics on the CPU backend Flex alone; put the module and its input on Device::flex()"
    );
    let roles = kind.roles(&shape, true);
    let fits = roles.and_then(|_| cellnorm::check_epsilon(epsilon));
    let channel = if kind.channel_axis < 0 { kind.channel_axis + D as isize } else { kind.channel_axis } as usize;
    // a sample's sums do not depend on which others lie beside it
    let numbered: Vec<bool> = (0..D).map(|axis| axis == 0 || axis == channel).collect();
    let formula = OverRanks {
        fits,
        channels: kind.channels,
        shape: shape.to_vec(),
        of_cell: OnceLock::new(),
        request: format!(
            "batch normalization of {} channels of {:?}, epsilon {epsilon}, {one_value:?}, {settings}",
            kind.channels,
            x.dtype()
        ),
        epsilon,
        one_value,
        over: Arc::downgrade(over),
        statistics: OnceLock::new(),
    };
    if formula.fits.is_err() {
        // the others hear of it
        formula.statistics_of(vec![]);
    }
    let (cells, of_cell) = if shape.contains(&0) {
        (Cells::channels_first(0, kind.channels, 1), Labels::new(vec![], kind.channels))
    } else {
        let (cells, mut coordinates) = tables::cells_of(&shape, &numbered);
        (cells, coordinates[channel].take().expect("channels number the cells"))
    };
    let _ = formula.of_cell.set(of_cell);
    let slots = [("gamma", &gamma), ("beta", &beta)].map(|(name, of)| (name, of.as_ref().map(|of| of.dims()[0])));
    let mut parameters: Vec<Tensor<1>> = [gamma, beta].into_iter().flatten().collect();
    let parameters = match parameters.len() {
        0 => Tensor::zeros([1], (&x.device(), x.dtype())),
        1 => parameters.remove(0),
        _ => Tensor::cat(parameters, 0),
    };
    let spec = RuleSpec::of(Arc::new(formula), cells, slots.to_vec());
    let (y, _, tracked) = <Dispatch as RuleOps>::rule(x.into_dispatch(), parameters.into_dispatch(), spec);
    let tracked = Tensor::<1>::from_dispatch(tracked);
    let part = |i: usize| tracked.clone().narrow(0, i * kind.channels, kind.channels);
    let tracked = Tracked { mean: Table(part(0)), variance: Table(part(1)), values: numbers(part(2)) };
    (Tensor::from_dispatch(y), tracked)
}

/// The exchange in the place of a table's formula.
#[derive(Debug)]
struct OverRanks {
    /// Whether this rank can take part.
    fits: Result<(), Error>,
    channels: usize,
    shape: Vec<usize>,
    /// The channel of each cell.
    of_cell: OnceLock<Labels>,
    request: String,
    epsilon: f64,
    one_value: OneValue,
    /// Not held: what is left on Burn's tape would hold it, too, and the others would wait for a rank that is gone.
    over: Weak<dyn Communicator>,
    /// Those of the forward pass.
    statistics: OnceLock<Statistics>,
}

impl OverRanks {
    /// Runs an exchange.
    fn with<R>(&self, exchange: impl FnOnce(Joined<'_>) -> Result<R, Error>) -> R {
        let over = self.over.upgrade().expect("the layer and its ranks are kept until the backward pass");
        let joined = Joined { over: &*over, request: self.request.clone(), epsilon: self.epsilon };
        exchange(joined).unwrap_or_else(|error| panic!("{error}"))
    }

    fn channel_of(&self) -> &[u32] {
        self.of_cell.get().map(Labels::of).unwrap_or_default()
    }

    fn statistics_of(&self, own: Vec<Moments>) -> (Statistics, Vec<f64>) {
        let (statistics, values) = self.with(|joined| joined.statistics(self.fits.clone().map(|()| own)));
        let refused = matches!(self.one_value, OneValue::Error | OneValue::AlwaysError);
        if refused && values.iter().all(|values| *values == 1.0) {
            panic!("{}", Error::OneValue { layer: Batch::NAME, shape: self.shape.clone() });
        }
        (statistics, values)
    }
}

fn table<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a [f64]> {
    parameters.iter().find(|(slot, _)| *slot == name).and_then(|(_, values)| values.as_deref())
}

impl AnyFormula for OverRanks {
    fn forward(&self, moments: &[Moments], parameters: &Parameters) -> Answer {
        let mut own = vec![Moments::default(); self.channels];
        for (moments, channel) in moments.iter().zip(self.channel_of()) {
            own[*channel as usize] = own[*channel as usize].merge(*moments);
        }
        let (statistics, values) = self.statistics_of(own);
        let [gamma, beta] = ["gamma", "beta"].map(|name| table(parameters, name));
        let affine = |channel: &u32| {
            let channel = *channel as usize;
            let r = 1.0 / (statistics.variance[channel] + self.epsilon).sqrt();
            Affine {
                center: statistics.mean[channel],
                scale: gamma.map_or(1.0, |gamma| gamma[channel]) * r,
                offset: beta.map_or(0.0, |beta| beta[channel]),
            }
        };
        let affines = self.channel_of().iter().map(affine).collect();
        let Statistics { mean, variance } = self.statistics.get_or_init(|| statistics).clone();
        Answer { affines, tracked: Some(Tracked { mean, variance, values }) }
    }

    /// The sums are about each cell's own mean m, and so is its map: Σ dy (x − mean) = Σ dy (x − m) + (m − mean) Σ dy.
    fn backward(
        &self,
        moments: &[Moments],
        parameters: &Parameters,
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<Option<Vec<f64>>>) {
        let statistics = self.statistics.get().expect("the forward pass came first");
        let apart = |cell: usize, channel: u32| moments[cell].mean - statistics.mean[channel as usize];
        let mut own = vec![[0.0; 3]; self.channels];
        for (cell, (Sums { dy, dy_x }, channel)) in sums.iter().zip(self.channel_of()).enumerate() {
            let [n, s1, s2] = &mut own[*channel as usize];
            (*n, *s1, *s2) = (*n + moments[cell].count, *s1 + dy, *s2 + dy_x + apart(cell, *channel) * dy);
        }
        let gamma = table(parameters, "gamma");
        let of_channel = self.with(|joined| joined.gradients(Ok(own.clone()), statistics, gamma));
        let gradient = |(cell, channel): (usize, &u32)| {
            let Gradient { a, b, k } = of_channel[*channel as usize];
            Gradient { a, b, k: k + b * apart(cell, *channel) }
        };
        let r = |channel: usize| 1.0 / (statistics.variance[channel] + self.epsilon).sqrt();
        let dgamma: Vec<f64> = own.iter().enumerate().map(|(channel, [_, _, s2])| r(channel) * s2).collect();
        let dbeta: Vec<f64> = own.iter().map(|[_, s1, _]| *s1).collect();
        let gradients = self.channel_of().iter().enumerate().map(gradient).collect();
        let wanted = |name: &str, values: Vec<f64>| table(parameters, name).map(|_| values);
        (gradients, vec![wanted("gamma", dgamma), wanted("beta", dbeta)])
    }
}
