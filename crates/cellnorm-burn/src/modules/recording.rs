//! Count, mean and Σ (x − mean)² of what layers see, merged over batches, instead of running
//! averages that move.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use cellnorm::RunningVariance;
use cellnorm::rule::Tracked;
use cellnorm::{Moments, OneValue};

use super::averages::{Averages, Pace};
use crate::tables::{Table, numbers};

thread_local! {
    static RECORDED: RefCell<Option<Records>> = const { RefCell::new(None) };
}

/// By the id of the running mean.
pub(crate) type Records = HashMap<ParamId, Recorded>;

/// The batches that one layer has seen, and the rule of its running variance.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) moments: Vec<Moments>,
    pub(crate) rule: RunningVariance,
    pub(crate) epsilon: f64,
    pub(crate) one_value: OneValue,
}

impl Recorded {
    pub(crate) fn new(
        sets: usize,
        rule: RunningVariance,
        epsilon: f64,
        one_value: OneValue,
    ) -> Self {
        Self { moments: vec![Moments::default(); sets], rule, epsilon, one_value }
    }

    /// The statistics of all batches together, with those that the layer has for sets that say
    /// nothing.
    pub(crate) fn statistics(&self, mean: &[f64], variance: &[f64]) -> [Vec<f64>; 2] {
        let with_running = || self.moments.iter().zip(mean.iter().zip(variance));
        let means = with_running()
            .map(|(moments, (mean, _))| if moments.count > 0.0 { moments.mean } else { *mean });
        let variances = with_running().map(|(moments, (_, variance))| {
            if self.rule.moves(moments.count, self.one_value) {
                moments.variance() * self.rule.factor(moments.count, self.epsilon)
            } else {
                *variance
            }
        });
        [means.collect(), variances.collect()]
    }
}

/// While it is there, layers that train on this thread report what they see, and their running
/// averages stay.
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn start() -> Self {
        RECORDED.set(Some(Records::default()));
        Self
    }

    pub(crate) fn finish(self) -> Records {
        RECORDED.take().unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDED.set(None);
    }
}

/// Takes what a batch says in place of the running averages; false if nobody records.
pub(super) fn record(
    averages: Averages<'_>,
    tracked: &Tracked<Table>,
    pace: Pace,
    epsilon: f64,
    one_value: OneValue,
) -> bool {
    RECORDED.with_borrow_mut(|records| {
        let Some(records) = records else { return false };
        let mut id = Id(None);
        averages.mean.visit(&mut id);
        let Some(id) = id.0 else { return false };
        let sets = averages.mean.value().dims()[0];
        let new = || Recorded::new(sets, pace.variance, epsilon, one_value);
        let moments = &mut records.entry(id).or_insert_with(new).moments;
        let [means, variances] =
            [&tracked.mean, &tracked.variance].map(|table| numbers(table.0.clone()));
        let start = averages.part.map_or(0, |(start, _)| start);
        let batch = means.into_iter().zip(variances).zip(&tracked.values);
        for (moments, ((mean, variance), count)) in moments[start..].iter_mut().zip(batch) {
            *moments = moments.merge(Moments { count: *count, mean, m2: variance * count });
        }
        true
    })
}

/// The id of a running average, which it tells visitors alone.
struct Id(Option<ParamId>);

impl ModuleVisitor for Id {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 = Some(param.id);
    }
}
