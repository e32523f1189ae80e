//! The explanation as JSON.

use cellnorm::explain::{Along, Explanation, Sharing, Table};
use serde_json::{Value, json};

use super::facts::measure;
use super::figure::marked;

/// Everything that figure and table say.
pub fn of(explanation: &Explanation) -> Value {
    let traffic = &explanation.traffic;
    json!({
        "normalization": explanation.name,
        "shape": explanation.shape,
        "layout": explanation.layout.to_string(),
        "formula": explanation.formula,
        "statistics": explanation.sharings.iter().map(|sharing| statistic(explanation, sharing)).collect::<Vec<_>>(),
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
    let along = |axis: usize| {
        let mut of_axis = json!({
            "axis": axis,
            "letter": explanation.layout.letters()[axis].to_string(),
            "length": sharing.shape[axis],
        });
        match sharing.along[axis] {
            Along::Apart => of_axis["shares"] = "apart".into(),
            Along::Shared => of_axis["shares"] = "all".into(),
            Along::Blocks(size) => {
                of_axis["shares"] = "blocks".into();
                of_axis["block"] = size.into();
            }
            Along::Tail(from) => {
                of_axis["shares"] = "tail".into();
                of_axis["from"] = from.into();
            }
            Along::Window { before, after } => {
                of_axis["shares"] = "window".into();
                of_axis["before"] = before.into();
                of_axis["after"] = after.into();
            }
        }
        of_axis
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
        "axes": (0..sharing.shape.len()).map(along).collect::<Vec<_>>(),
        "marked": { "index": index, "set": set },
    })
}

fn tables(tables: &[Table]) -> Vec<Value> {
    let of =
        |table: &Table| json!({ "name": table.name, "shape": table.shape, "count": table.count() });
    tables.iter().map(of).collect()
}
