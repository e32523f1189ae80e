//! Where the data sets lie, and what NumPy says of them.

use std::path::PathBuf;

use cellnorm_data::files::list;
use cellnorm_data::scan::{Plan, ScanOptions};
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;
use cellnorm_data::{Error, files::Listing};
use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The results of `make.py` with NumPy.
pub fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub fn listing(path: PathBuf) -> Listing {
    list(&[path]).unwrap()
}

pub fn read(
    plan: &Plan,
    start: Statistics,
    threads: usize,
    shard: Option<std::ops::Range<u64>>,
) -> Result<Statistics, Error> {
    plan.run(
        start,
        ScanOptions { threads, shard, strict: false, progress: &mut |_| {}, keep: &mut |_| Ok(()) },
    )
}

/// All of a data set on two threads.
pub fn measure(path: PathBuf, settings: Settings) -> Statistics {
    let plan = Plan::new(listing(path), settings, None).unwrap();
    read(&plan, plan.start(), 2, None).unwrap()
}
