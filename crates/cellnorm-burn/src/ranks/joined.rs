//! Batch normalization with the statistics of all ranks, as one operation: the passes over this
//! rank's part, and what is exchanged between them in the place of a rule's table.

use std::sync::{Arc, OnceLock, Weak};

use burn::tensor::{Bool, Tensor};
use cellnorm::norms::{Batch, Kind};
use cellnorm::passes::{Gradient, Sums};
use cellnorm::ranks::{CellSums, Communicator, Joined};
use cellnorm::tables::{Answer, Labels, Parameters, Region, Tracked};
use cellnorm::{Cells, Error, Moments, OneValue, Statistics};

use crate::ops::{AnyFormula, RuleSpec, is_fused};
use crate::tables::{Table, region, run};

/// y, and the statistics of the joined batch; of the values alone where the mask is true, if there
/// is one.
///
/// # Panics
/// If the shape of x does not suit, a rank fails or does something else, there is one value a
/// channel on all ranks and the policy is an error, or x is not on the CPU backend Flex.
pub(crate) fn normalize<const D: usize>(
    kind: &Batch,
    x: Tensor<D>,
    mask: Option<Tensor<D, Bool>>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    (epsilon, one_value, settings): (f64, OneValue, String),
    over: &Arc<dyn Communicator>,
) -> (Tensor<D>, Tracked<Table>) {
    let shape = x.dims();
    assert!(
        is_fused(x.device().as_dispatch()),
        "ranks share statistics on the CPU backend Flex alone; put the module and its input on \
         Device::flex()"
    );
    let request = format!(
        "batch normalization of {} channels of {:?}, epsilon {epsilon}, {one_value:?}, \
         {settings}{}",
        kind.channels,
        x.dtype(),
        if mask.is_some() { ", masked" } else { "" }
    );
    let one_value = mask.is_none().then_some(one_value);
    let part = cellnorm::check_epsilon(epsilon).and_then(|()| part(kind, &shape, mask));
    let fits = part.as_ref().map(|_| ()).map_err(Clone::clone);
    let (region, of_cell) = part.unwrap_or_else(|_| no_part(kind.channels));
    let (channels, over) = (kind.channels, Arc::downgrade(over));
    let statistics = OnceLock::new();
    let formula = OverRanks {
        fits,
        channels,
        shape: shape.to_vec(),
        of_cell,
        request,
        epsilon,
        one_value,
        over,
        statistics,
    };
    if formula.fits.is_err() {
        // the others hear of it
        formula.statistics_of(&[]);
    }
    let slots = [("gamma", &gamma), ("beta", &beta)]
        .map(|(name, of)| (name, of.as_ref().map(|of| of.dims()[0])));
    let parameters = [gamma, beta].into_iter().flatten().collect();
    let (y, tracked) = run(x, parameters, RuleSpec::of(Arc::new(formula), region, slots.to_vec()));
    (y, tracked.expect("the statistics of all ranks"))
}

/// The cells of this rank's part of a batch, and the channel of each.
fn part<const D: usize>(
    kind: &Batch,
    shape: &[usize; D],
    mask: Option<Tensor<D, Bool>>,
) -> Result<(Region, Labels), Error> {
    let roles = kind.roles(shape, true)?;
    if shape.contains(&0) {
        return Ok(no_part(kind.channels));
    }
    let channel =
        (0..D).find(|axis| roles.carries(*axis)).expect("the channel axis carries the parameters");
    // a sample's sums do not depend on which others lie beside it
    let numbered: Vec<bool> = (0..D).map(|axis| axis == 0 || axis == channel).collect();
    let (region, mut coordinates) = region(shape, &numbered, mask)?;
    Ok((region, coordinates[channel].take().expect("channels number the cells")))
}

fn no_part(channels: usize) -> (Region, Labels) {
    (Region::All(Cells::channels_first(0, channels, 1)), Labels::new(vec![], channels))
}

/// The exchange in the place of a table's formula.
#[derive(Debug)]
struct OverRanks {
    /// Whether this rank can take part.
    fits: Result<(), Error>,
    channels: usize,
    shape: Vec<usize>,
    /// The channel of each cell.
    of_cell: Labels,
    request: String,
    epsilon: f64,
    /// What one value does; None under a mask.
    one_value: Option<OneValue>,
    /// Not held: what is left on Burn's tape would hold it, too, and the others would wait for a
    /// rank that is gone.
    over: Weak<dyn Communicator>,
    /// Those of the forward pass.
    statistics: OnceLock<Statistics>,
}

impl OverRanks {
    /// Runs an exchange.
    fn with<R>(&self, exchange: impl FnOnce(Joined<'_>) -> Result<R, Error>) -> R {
        let over =
            self.over.upgrade().expect("the layer and its ranks are kept until the backward pass");
        let (request, of_cell) = (self.request.clone(), self.of_cell.of());
        exchange(Joined {
            over: &*over,
            request,
            epsilon: self.epsilon,
            channels: self.channels,
            of_cell,
        })
        .unwrap_or_else(|error| panic!("{error}"))
    }

    fn statistics_of(&self, own: &[Moments]) -> (Statistics, Vec<f64>) {
        let (statistics, values) =
            self.with(|joined| joined.statistics(self.fits.clone().map(|()| own)));
        let refused = matches!(self.one_value, Some(OneValue::Error | OneValue::AlwaysError));
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
        let (statistics, values) = self.statistics_of(moments);
        let [gamma, beta] = ["gamma", "beta"].map(|name| table(parameters, name));
        let affines = self.with(|joined| Ok(joined.affines(&statistics, gamma, beta)));
        let Statistics { mean, variance } = self.statistics.get_or_init(|| statistics).clone();
        Answer { affines, tracked: Some(Tracked { mean, variance, values }) }
    }

    fn backward(
        &self,
        moments: &[Moments],
        parameters: &Parameters,
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<Option<Vec<f64>>>) {
        let statistics = self.statistics.get().expect("the forward pass came first");
        let (counts, centers): (Vec<f64>, Vec<f64>) =
            moments.iter().map(|m| (m.count, m.mean)).unzip();
        let own = CellSums { counts: &counts, centers: &centers, sums };
        let slopes =
            self.with(|joined| joined.slopes(Ok(own), statistics, table(parameters, "gamma")));
        let wanted = |name: &str, values: Vec<f64>| table(parameters, name).map(|_| values);
        (slopes.of_cell, vec![wanted("gamma", slopes.dgamma), wanted("beta", slopes.dbeta)])
    }
}
