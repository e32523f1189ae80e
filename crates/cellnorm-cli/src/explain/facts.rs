//! The table under the drawing: counts, noise, parameters, state and bytes, each with its formula.

use cellnorm::explain::{Along, CACHE, Explanation, Measure, Sharing, Table};

use crate::format::{bytes, join, thousands};

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

/// The statistic of a set.
pub fn measure(sharing: &Sharing) -> &'static str {
    match sharing.measure {
        Measure::MeanVariance => "mean and variance",
        Measure::MeanSquare => "mean square",
        Measure::Norm => "norm",
        Measure::SumOfSquares => "sum of squares",
    }
}

fn statistics(explanation: &Explanation, sharing: &Sharing) -> String {
    let factor = |axis: usize| {
        let (along, len) = (sharing.along[axis], sharing.shape[axis]);
        let letter = explanation.layout.letters()[axis];
        match along {
            Along::Shared => None,
            Along::Blocks(size) if size >= len => None,
            Along::Blocks(size) => Some(format!("{} blocks of {size} {letter}", along.sets(len))),
            Along::Tail(_) => Some(format!("{} {letter}", thousands(along.sets(len)))),
            Along::Apart | Along::Window { .. } => Some(format!("{} {letter}", thousands(len))),
        }
    };
    product(sharing.sets(), (0..sharing.shape.len()).filter_map(factor))
        + &format!(": {} each", measure(sharing))
}

fn values(explanation: &Explanation, sharing: &Sharing) -> String {
    let factor = |axis: usize| {
        let (along, len) = (sharing.along[axis], sharing.shape[axis]);
        let letter = explanation.layout.letters()[axis];
        match along {
            Along::Apart => None,
            Along::Shared => Some(format!("{} {letter}", thousands(len))),
            Along::Blocks(size) => Some(format!("{} {letter}", thousands(size.min(len)))),
            Along::Tail(from) => {
                (from + 1 < len).then(|| format!("{} {letter}", thousands(len - from)))
            }
            Along::Window { before, after } if before.saturating_add(after) < len => {
                Some(format!("{before} + 1 + {after} {letter}"))
            }
            Along::Window { .. } => Some(format!("up to {} {letter}", thousands(len))),
        }
    };
    let (least, most) = sharing.values();
    let smallest = match least == most {
        true => String::new(),
        false if sharing.measure == Measure::SumOfSquares => {
            format!("; {least} at an end of the axis")
        }
        false => format!("; {} in the smallest", thousands(least)),
    };
    product(most, (0..sharing.shape.len()).filter_map(factor)) + &smallest
}

/// A count and where it comes from: "32 = 8 N × 4 blocks of 8 C".
fn product(count: usize, factors: impl Iterator<Item = String>) -> String {
    let factors: Vec<String> = factors.collect();
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
    format!("{}: {} values", join(tables.iter().map(table), ", "), thousands(count))
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

/// The names of the input and the output.
fn names(explanation: &Explanation) -> (&'static str, &'static str) {
    if explanation.layout.is_weight() { ("v", "w") } else { ("x", "y") }
}

fn cache(held: usize) -> String {
    let fits = if held > CACHE { "do not fit" } else { "fit" };
    format!("the {} of a set {fits} in a cache of 1 MiB", bytes(held))
}
