//! Statistics of data sets, read where they lie, and normalization of data with them.
//!
//! [`files::list`] finds the files of a data set, [`scan::Plan`] reads them on all threads,
//! [`state::Statistics`] is the result: it can be written, continued after an interruption, merged
//! with those of other machines, and gathered from [ranks](state::Statistics::gather). The numbers
//! depend on the data alone: integers are counted, and floats are merged in the order of the data
//! whatever the order of reading ([`cellnorm::data`]).
//!
//! ```no_run
//! use cellnorm_data::scan::{Plan, ScanOptions};
//! use cellnorm_data::{files, settings::Settings};
//!
//! let listing = files::list(&["images/train".into()])?;
//! let plan = Plan::new(listing, Settings::default(), Some("train".into()))?;
//! let options = ScanOptions {
//!     threads: 4,
//!     shard: None,
//!     strict: false,
//!     progress: &mut |_| {},
//!     keep: &mut |_| Ok(()),
//! };
//! let statistics = plan.run(plan.start(), options)?;
//! let full = statistics.full_scale();
//! for channel in statistics.summaries().into_iter().flatten() {
//!     println!("{} ± {}", channel.mean / full, channel.deviation / full);
//! }
//! # Ok::<(), cellnorm_data::Error>(())
//! ```
#![deny(missing_docs)]

// each module imports only what stands above it
mod error;
pub mod settings;
pub mod files;
pub mod source;
pub mod layout;
pub mod state;
pub mod scan;
pub mod drift;
pub mod apply;
pub mod preview;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

pub use error::Error;
