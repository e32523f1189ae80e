//! The table under the drawing: counts, noise, parameters, state and bytes, each with its formula;
//! and the same as JSON.

use cellnorm::explain::{Along, CACHE, Explanation, Measure, Sharing, Table};
use serde_json::{Value, json};

use super::Explained;
use super::cube::marked;
use crate::format::{bytes, counted, join, thousands};

pub fn rows(explanation: &Explanation) -> Vec<[String; 2]> {
    let mut rows = vec![["formula".to_owned(), explanation.formula.to_owned()]];
    let several = explanation.sharings.len() > 1;
    for sharing in &explanation.sharings {
        let row = |name: &str| {
            if several { format!("{name} ({})", sharing.name) } else { name.to_owned() }
        };
        rows.push([row("statistics"), statistics(explanation, sharing)]);
        rows.push([row("values in each"), values(explanation, sharing)]);
        rows.push([row("noise"), noise(sharing)]);
    }
    rows.push(["parameters".into(), tables(&explanation.parameters, "none")]);
    rows.push([
        "kept for inference".into(),
        tables(&explanation.state, "nothing: the same in training and inference"),
    ]);
    rows.push(["forward, f32".into(), forward(explanation)]);
    rows.push(["backward, f32".into(), backward(explanation)]);
    rows
}

pub fn measure(sharing: &Sharing) -> &'static str {
    match sharing.measure {
        Measure::MeanVariance => "mean and variance",
        Measure::MeanSquare => "mean square",
        Measure::Norm => "norm",
        Measure::SumOfSquares => "sum of squares",
    }
}

fn statistics(explanation: &Explanation, sharing: &Sharing) -> String {
    let factor = |along: Along, len: usize| match along {
        Along::Shared => None,
        Along::Blocks(size) if size >= len => None,
        Along::Blocks(size) => Some(format!("{} blocks of {size}", along.sets(len))),
        Along::Tail(_) => Some(thousands(along.sets(len))),
        Along::Apart | Along::Window { .. } => Some(thousands(len)),
    };
    product(explanation, sharing, sharing.sets(), factor) + &format!(": {} each", measure(sharing))
}

fn values(explanation: &Explanation, sharing: &Sharing) -> String {
    let factor = |along: Along, len: usize| match along {
        Along::Apart => None,
        Along::Shared => Some(thousands(len)),
        Along::Blocks(size) => Some(thousands(size.min(len))),
        Along::Tail(from) => (from + 1 < len).then(|| thousands(len - from)),
        Along::Window { before, after } if before.saturating_add(after) < len => {
            Some(format!("{before} + 1 + {after}"))
        }
        Along::Window { .. } => Some(format!("up to {}", thousands(len))),
    };
    let (least, most) = sharing.values();
    let smallest = match least == most {
        true => String::new(),
        false if sharing.measure == Measure::SumOfSquares => {
            format!("; {least} at an end of the axis")
        }
        false => format!("; {} in the smallest", thousands(least)),
    };
    product(explanation, sharing, most, factor) + &smallest
}

/// A count and where it comes from: "32 = 8 N × 4 blocks of 8 C".
fn product(
    explanation: &Explanation,
    sharing: &Sharing,
    count: usize,
    factor: fn(Along, usize) -> Option<String>,
) -> String {
    let axes = sharing.along.iter().zip(&sharing.shape).zip(explanation.layout.letters());
    let factors: Vec<String> = axes
        .filter_map(|((along, len), letter)| Some(format!("{} {letter}", factor(*along, *len)?)))
        .collect();
    match factors.as_slice() {
        [] => thousands(count),
        [factor] => factor.clone(),
        factors => format!("{} = {}", thousands(count), factors.join(" × ")),
    }
}

fn noise(sharing: &Sharing) -> String {
    let percent = |part: f64| match 100.0 * part {
        percent if percent >= 10.0 => format!("{percent:.0} %"),
        percent if percent >= 1.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.2} %"),
    };
    let Some(noise) = sharing.noise() else { return "none: nothing is estimated".into() };
    let variance = match noise.variance {
        None => "the variance is 0".into(),
        Some(variance) if noise.mean.is_none() => {
            format!("mean square ±{} = √(2/n)", percent(variance))
        }
        Some(variance) => format!("variance ±{} = √(2/(n−1))", percent(variance)),
    };
    match noise.mean {
        None => format!("{variance}, for independent normal values"),
        Some(mean) => format!(
            "mean ±{} of σ = 1/√n, {variance}, for independent normal values",
            percent(mean)
        ),
    }
}

fn tables(tables: &[Table], none: &str) -> String {
    if tables.is_empty() {
        return none.into();
    }
    let table = |table: &Table| format!("{} [{}]", table.name, join(&table.shape, ", "));
    let count: usize = tables.iter().map(Table::count).sum();
    format!("{}: {}", join(tables.iter().map(table), ", "), counted(count, "value"))
}

fn forward(explanation: &Explanation) -> String {
    let traffic = &explanation.traffic;
    let (x, y) = names(explanation);
    let second =
        if traffic.forward_reads > 1 { format!(" + read {x} again") } else { String::new() };
    let all = bytes(traffic.forward());
    let mut text = format!(
        "{all} = read {x}{second} + write {y}, {} each; {}",
        bytes(traffic.x),
        cache(traffic.held)
    );
    // mixtures need the statistics of x in inference, too
    if !explanation.state.is_empty() && explanation.sharings.len() == 1 {
        text += &format!("; in inference {}, read {x} and write {y}", bytes(2 * traffic.x));
    }
    text
}

fn backward(explanation: &Explanation) -> String {
    let traffic = &explanation.traffic;
    let (x, y) = names(explanation);
    let second = if traffic.backward_reads > 2 { " + read both again" } else { "" };
    let held = cache(traffic.held.saturating_mul(2));
    format!("{} = read {x} and d{y}{second} + write d{x}; {held}", bytes(traffic.backward()))
}

fn names(explanation: &Explanation) -> (&'static str, &'static str) {
    if explanation.layout.is_weight() { ("v", "w") } else { ("x", "y") }
}

fn cache(held: usize) -> String {
    let fits = if held > CACHE { "do not fit" } else { "fit" };
    format!("the {} of a set {fits} in a cache of 1 MiB", bytes(held))
}

/// Everything that the drawing and the table say; further readings are in the first.
pub fn json(all: &[Explained]) -> Value {
    let mut values = all.iter().map(|one| {
        let mut value = explanation_json(&one.explanation);
        value["reading"] = one.reading.map(|reading| reading.description()).into();
        value
    });
    let mut first = values.next().unwrap_or_default();
    first["other_readings"] = values.collect();
    first
}

fn explanation_json(explanation: &Explanation) -> Value {
    let traffic = &explanation.traffic;
    let statistics =
        explanation.sharings.iter().map(|sharing| statistic_json(explanation, sharing));
    json!({
        "normalization": explanation.name,
        "shape": explanation.shape,
        "layout": explanation.layout.to_string(),
        "formula": explanation.formula,
        "statistics": statistics.collect::<Vec<_>>(),
        "parameters": tables_json(&explanation.parameters),
        "state": tables_json(&explanation.state),
        "bytes_f32": {
            "x": traffic.x,
            "held": traffic.held,
            "cache": CACHE,
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

fn statistic_json(explanation: &Explanation, sharing: &Sharing) -> Value {
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

fn tables_json(tables: &[Table]) -> Vec<Value> {
    let value =
        |table: &Table| json!({ "name": table.name, "shape": table.shape, "count": table.count() });
    tables.iter().map(value).collect()
}
