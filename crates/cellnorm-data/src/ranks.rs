//! Statistics of a data set that several processes read, each a part of it.

use std::fmt::Display;

use cellnorm::ranks::{Communicator, exchange_bytes};

use crate::error::Error;
use crate::state::Statistics;

const REQUEST: &str = concat!("statistics of data of version ", env!("CARGO_PKG_VERSION"));

impl Statistics {
    /// The statistics of all ranks together, the same on each: those of one process that had read
    /// everything, to the bit. A rank that could not read its part gives its error, and all get
    /// one.
    ///
    /// # Errors
    /// As [`exchange_bytes`], or if the parts do not belong together.
    ///
    /// ```
    /// use cellnorm::ranks::{Communicator, Threads};
    /// use cellnorm_data::{
    ///     Error,
    ///     apply::Normalization,
    ///     files,
    ///     scan::{Plan, Run},
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
    ///     let run = Run {
    ///         threads: 1,
    ///         shard,
    ///         strict: true,
    ///         progress: &mut |_| {},
    ///         keep: &mut |_| Ok(()),
    ///     };
    ///     let statistics = Statistics::over(plan.run(plan.start(), run), &over)?;
    ///     assert!(statistics.is_complete());
    ///     Normalization::of(&statistics) // the same on every rank
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
    pub fn over<E>(own: Result<Self, E>, over: &dyn Communicator) -> Result<Self, E>
    where
        E: From<cellnorm::Error> + From<Error> + Display,
    {
        if over.size() == 1 {
            return own;
        }
        let texts = exchange_bytes(over, REQUEST, own.map(|own| own.to_text().into_bytes()))?;
        let damaged = |rank: usize, problem: String| Error::OfRank { rank, problem };
        let mut parts = texts.iter().map(|text| Self::parse(text)).enumerate();
        let (_, first) = parts.next().expect("there is a rank");
        let mut all = first.map_err(|problem| damaged(0, problem))?;
        for (rank, part) in parts {
            let part = part.map_err(|problem| damaged(rank, problem))?;
            all.merge(part).map_err(|error| damaged(rank, error.to_string()))?;
        }
        Ok(all)
    }
}
