//! The statistics as JSON.

use cellnorm::data::{Channel, Summary, Values};
use cellnorm_data::state::Statistics;
use serde_json::{Value, json};

/// The percentiles that are written for integers.
const PERCENTS: [f64; 7] = [1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0];

/// The statistics; `mean` and `std` of numbers between 0 and 1 where the data are integers,
/// `channels` in the units of the data.
pub fn value(statistics: &Statistics) -> Value {
    let full = statistics.full_scale();
    let summaries = statistics.summaries();
    let each = |number: fn(&Summary) -> f64| -> Vec<Option<f64>> {
        summaries.iter().map(|summary| summary.as_ref().map(|one| number(one) / full)).collect()
    };
    let channels: Vec<Value> =
        statistics.channels.total().unwrap_or_default().iter().map(channel).collect();
    json!({
        "mean": each(|summary| summary.mean),
        "std": each(|summary| summary.deviation),
        "full_scale": full,
        "complete": statistics.is_complete(),
        "files": statistics.dataset.files,
        "digest": statistics.dataset.digest,
        "split": statistics.dataset.split,
        "settings": statistics.settings,
        "channels": channels,
        "failures": statistics.failures,
    })
}

fn channel(channel: &Channel) -> Value {
    let Some(summary) = channel.summary() else {
        let [nan, infinite] = channel.left_out();
        return json!({ "count": 0, "nan": nan, "infinite": infinite });
    };
    let mut value = json!({
        "count": summary.count,
        "mean": summary.mean,
        "deviation": summary.deviation,
        "sample_deviation": summary.sample_deviation,
        "min": summary.min,
        "max": summary.max,
        "nan": summary.nan,
        "infinite": summary.infinite,
        "constant": summary.is_constant(),
        "by_sample": summary.by_sample.map(|by| json!({
            "samples": by.samples,
            "mean": by.mean,
            "deviation_of_means": by.deviation_of_means,
            "deviation": by.deviation,
            "mean_of_deviations": by.mean_of_deviations,
        })),
    });
    if let Values::Integers(histogram) = &channel.values {
        let percentiles: serde_json::Map<String, Value> = PERCENTS
            .iter()
            .map(|percent| (percent.to_string(), json!(histogram.percentile(*percent))))
            .collect();
        // sums of 128 bits are no numbers of JSON everywhere
        value["sum"] = json!(histogram.sum().to_string());
        value["sum_of_squares"] = json!(histogram.sum_of_squares().to_string());
        value["percentiles"] = json!(percentiles);
        value["histogram"] = json!(histogram.counts());
    }
    value
}
