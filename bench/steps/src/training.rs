//! A network in training, and the check that the framework's layers and ours train the same one.

use crate::calls::{self, Call};

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The loss before a step, and how long the step took.
#[derive(Clone, Copy)]
pub struct Step {
    pub loss: f64,
    pub seconds: f64,
}

pub trait Training {
    /// Forward, backward and update, each time on the same batch.
    fn step(&mut self) -> Result<Step, Error>;

    /// The calls of all normalizations in a step.
    fn norms(&self) -> &[Call];
}

/// Seconds of a step, whose loss must be a number.
pub fn step(training: &mut dyn Training) -> Result<f64, Error> {
    match training.step()? {
        Step { loss, seconds } if loss.is_finite() => Ok(seconds),
        Step { loss, .. } => Err(format!("the loss has become {loss}").into()),
    }
}

/// Seconds of all normalizations of a step without the rest of the network.
pub fn norms(training: &mut dyn Training) -> Result<f64, Error> {
    calls::seconds(training.norms())
}

/// Theirs and ours.
pub type Trainings = [Box<dyn Training>; 2];

/// The losses of one network before the first step and after it.
pub type Losses = [f64; 2];

/// Two losses are the same within this part of them.
const SAME: f64 = 1e-4;
/// A step must change the loss by this part of it at least, or a wrong gradient would not show.
const MOVED: f64 = 1e-3;

/// The losses of theirs and of ours, which must be the same.
pub fn check(theirs: &mut dyn Training, ours: &mut dyn Training) -> Result<[Losses; 2], Error> {
    let losses = [losses_of(theirs)?, losses_of(ours)?];
    let [[start, end], [our_start, our_end]] = losses;
    let same = |theirs: f64, ours: f64| (theirs - ours).abs() <= SAME * theirs.abs();
    if !same(start, our_start) || !same(end, our_end) {
        return Err(format!(
            "the loss is {start} and after a step {end} with their layers, but {our_start} and {our_end} with ours; \
             it must agree within {SAME} of itself"
        )
        .into());
    }
    if (end - start).abs() < MOVED * start.abs() {
        return Err(format!(
            "a step moves the loss from {start} to {end} only, which proves nothing"
        )
        .into());
    }
    Ok(losses)
}

fn losses_of(training: &mut dyn Training) -> Result<Losses, Error> {
    Ok([training.step()?.loss, training.step()?.loss])
}
