//! The calls of normalizations in a step, kept to be repeated without the rest of the network.

use std::cell::RefCell;
use std::time::Instant;

use crate::training::Error;

/// Forward and backward of one normalization, on the input that it had in the network.
pub struct Call {
    pub norm: Work,
    /// The same of the identity: what is left is no normalization, but the making of the dy that
    /// a backward starts from.
    pub identity: Work,
}

pub type Work = Box<dyn Fn() -> Result<(), Error>>;

/// Seconds of all calls, less those of the identity.
pub fn seconds(calls: &[Call]) -> Result<f64, Error> {
    let start = Instant::now();
    calls.iter().try_for_each(|call| (call.norm)())?;
    let norms = start.elapsed();
    calls.iter().try_for_each(|call| (call.identity)())?;
    let identities = start.elapsed() - norms;
    Ok(norms.as_secs_f64() - identities.as_secs_f64())
}

thread_local!(static CALLS: RefCell<Option<Vec<Call>>> = const { RefCell::new(None) });

/// The result of `run`, and the calls that it makes.
pub fn record<T>(run: impl FnOnce() -> T) -> (T, Vec<Call>) {
    CALLS.set(Some(vec![]));
    let result = run();
    (result, CALLS.take().unwrap_or_default())
}

/// Whether calls are to be kept.
pub fn recording() -> bool {
    CALLS.with_borrow(Option::is_some)
}

pub fn keep(call: Call) {
    CALLS.with_borrow_mut(|calls| calls.get_or_insert_default().push(call));
}
