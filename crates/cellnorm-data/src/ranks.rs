//! Statistics of a data set of which each of several processes reads a part.

use std::fmt::Display;

use cellnorm::ranks::{Communicator, exchange_bytes};

use crate::error::{Error, text};
use crate::state::Statistics;

const REQUEST: &str = concat!("statistics of data of version ", env!("CARGO_PKG_VERSION"));

impl Statistics {
    /// The statistics of all ranks together, the same on each, and to the bit those of one process
    /// that reads everything. If a rank could not read its part, all ranks get an error.
    ///
    /// # Errors
    /// Same errors as [`exchange_bytes`], also if the parts do not belong together.
    ///
    /// ```
    /// use cellnorm::ranks::{Communicator, Threads};
    /// use cellnorm_data::{
    ///     Error,
    ///     apply::Normalization,
    ///     files,
    ///     scan::{Plan, ScanOptions},
    ///     settings::Settings,
    ///     state::Statistics,
    /// };
    /// let rank = |over: Threads| {
    ///     let plan = Plan::new(
    ///         files::list(&["tests/fixtures/features.csv".into()])?,
    ///         Settings::default(),
    ///         None,
    ///     )?;
    ///     let shard = Some(plan.shard(over.rank() as u64 + 1, over.size() as u64));
    ///     let options = ScanOptions {
    ///         threads: 1,
    ///         shard,
    ///         strict: true,
    ///         progress: &mut |_| {},
    ///         keep: &mut |_| Ok(()),
    ///     };
    ///     let statistics = Statistics::gather(plan.run(plan.start(), options), &over)?;
    ///     assert!(statistics.is_complete());
    ///     Normalization::from_statistics(&statistics) // the same on every rank
    /// };
    /// std::thread::scope(|scope| {
    ///     let ranks: Vec<_> = Threads::split(2)
    ///         .into_iter()
    ///         .map(|over| scope.spawn(move || rank(over)))
    ///         .collect();
    ///     ranks.into_iter().try_for_each(|rank| rank.join().unwrap().map(drop))
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn gather<E>(own: Result<Self, E>, ranks: &dyn Communicator) -> Result<Self, E>
    where
        E: From<cellnorm::Error> + From<Error> + Display,
    {
        if ranks.size() == 1 {
            return own;
        }
        let texts = exchange_bytes(ranks, REQUEST, own.map(|own| own.to_text().into_bytes()))?;
        let mut all: Option<Self> = None;
        for (rank, content) in texts.iter().enumerate() {
            let failed = |problem| Error::Rank { rank, problem };
            let part = Self::parse(content).map_err(failed)?;
            match &mut all {
                Some(all) => all.merge(part).map_err(|error| failed(text(error)))?,
                None => all = Some(part),
            }
        }
        Ok(all.expect("there is a rank"))
    }
}
