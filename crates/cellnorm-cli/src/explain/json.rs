//! The explanation as JSON.

use cellnorm::explain::{Along, Explanation, Sharing, Table};
use serde_json::{Value, json};

use super::cube::marked;
use super::facts::measure;

/// Everything that the drawing and the table say.
pub fn value(explanation: &Explanation) -> Value {
    let traffic = &explanation.traffic;
    let statistics = explanation.sharings.iter().map(|sharing| statistic(explanation, sharing));
    json!({
        "normalization": explanation.name,
        "shape": explanation.shape,
        "layout": explanation.layout.to_string(),
        "formula": explanation.formula,
        "statistics": statistics.collect::<Vec<_>>(),
        "parameters": tables(&explanation.parameters),
        "state": tables(&explanation.state),
        "bytes_f32": {
            "x": traffic.x,
            "held": traffic.held,
            "cache": cellnorm::explain::CACHE,
            "forward": traffic.forward(),
            "forward_reads": traffic.forward_reads,
            "backward": traffic.backward(),
            "backward_reads": traffic.backward_reads,
        },
        "warnings": explanation.warnings.iter().map(|warning| json!({
            "code": warning.code,
            "what": warning.what,
            "remedy": warning.remedy,
        })).collect::<Vec<_>>(),
    })
}

fn statistic(explanation: &Explanation, sharing: &Sharing) -> Value {
    let axis_value = |axis: usize| {
        let mut value = json!({
            "axis": axis,
            "letter": explanation.layout.letters()[axis].to_string(),
            "length": sharing.shape[axis],
        });
        let (shares, numbers) = match sharing.along[axis] {
            Along::Apart => ("apart", vec![]),
            Along::Shared => ("all", vec![]),
            Along::Blocks(size) => ("blocks", vec![("block", size)]),
            Along::Tail(from) => ("tail", vec![("from", from)]),
            Along::Window { before, after } => {
                ("window", vec![("before", before), ("after", after)])
            }
        };
        value["shares"] = shares.into();
        for (name, number) in numbers {
            value[name] = number.into();
        }
        value
    };
    let (least, most) = sharing.values();
    let noise = sharing.noise();
    let index = marked(sharing);
    let set: Vec<_> =
        sharing.set(&index).into_iter().map(|range| [range.start, range.end]).collect();
    json!({
        "of": sharing.name,
        "measure": measure(sharing),
        "count": sharing.sets(),
        "values": most,
        "values_least": least,
        "standard_error_mean": noise.and_then(|noise| noise.mean),
        "standard_error_variance": noise.and_then(|noise| noise.variance),
        "axes": (0..sharing.shape.len()).map(axis_value).collect::<Vec<_>>(),
        "marked": { "index": index, "set": set },
    })
}

fn tables(tables: &[Table]) -> Vec<Value> {
    let value =
        |table: &Table| json!({ "name": table.name, "shape": table.shape, "count": table.count() });
    tables.iter().map(value).collect()
}
