//! Statistics of data sets where they lie, and normalizing data with them.
//!
//! [`files::list`] finds the files of a data set, [`scan::Plan`] reads them on all threads,
//! [`state::Statistics`] is what comes out: it can be written, gone on with after an interruption,
//! merged with those of other machines, and taken over [ranks](state::Statistics::over). The
//! numbers depend on the data alone: integers are counted, and floats are merged in the order of
//! the data whatever the order of reading ([`cellnorm::data`]).
//!
//! ```no_run
//! use cellnorm_data::{
//!     files,
//!     scan::{Plan, Run},
//!     settings::Settings,
//! };
//!
//! let plan = Plan::new(
//!     files::list(&["images/train".into()])?,
//!     Settings::default(),
//!     Some("train".into()),
//! )?;
//! let run = Run {
//!     threads: 4,
//!     shard: None,
//!     strict: false,
//!     progress: &mut |_| {},
//!     keep: &mut |_| Ok(()),
//! };
//! let statistics = plan.run(plan.start(), run)?;
//! for channel in statistics.summaries().into_iter().flatten() {
//!     println!(
//!         "{} ± {}",
//!         channel.mean / statistics.full_scale(),
//!         channel.deviation / statistics.full_scale()
//!     );
//! }
//! # Ok::<(), cellnorm_data::Error>(())
//! ```
#![deny(missing_docs)]

pub mod apply;
mod counting;
mod drawn;
pub mod drift;
mod error;
pub mod files;
mod first;
pub mod layout;
pub mod preview;
mod ranks;
pub mod scan;
pub mod settings;
pub mod source;
pub mod state;
pub use error::Error;
