//! Every layer gives PyTorch's numbers: outputs, gradients and running statistics in f32.
//!
//! The cases come from `fixtures/pytorch/generate.py`. An array's error is
//! max |ours − PyTorch| / max(1, max |PyTorch|) and has to stay within [`TOLERANCE`]. Where
//! inputs lie around 10,000, PyTorch's own f32 is further than that from its f64: then the
//! array may differ by twice PyTorch's own error more, and the table has a line of its own.
//!
//! `cargo test -p cellnorm --test pytorch -- --nocapture` prints the table.

use cellnorm::{
    BatchNormConfig, Error, Gradients, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    Momentum, RmsNormConfig, RunningVariance,
};
use ndarray::{Array1, ArrayD, IxDyn};
use serde_json::Value;
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-5;
const QUANTITIES: [&str; 6] = ["y", "dx", "dgamma", "dbeta", "running_mean", "running_var"];

/// What one step of a layer gives.
struct Outcome {
    y: ArrayD<f32>,
    dx: ArrayD<f32>,
    dgamma: Option<ArrayD<f64>>,
    dbeta: Option<ArrayD<f64>>,
    running: Option<(Array1<f64>, Array1<f64>)>,
}

impl Outcome {
    fn get(&self, quantity: &str) -> Option<Vec<f64>> {
        let wide = |array: &ArrayD<f32>| array.iter().map(|&v| f64::from(v)).collect();
        let flat = |array: &ArrayD<f64>| array.iter().copied().collect();
        match quantity {
            "y" => Some(wide(&self.y)),
            "dx" => Some(wide(&self.dx)),
            "dgamma" => self.dgamma.as_ref().map(flat),
            "dbeta" => self.dbeta.as_ref().map(flat),
            "running_mean" => self.running.as_ref().map(|(mean, _)| mean.to_vec()),
            "running_var" => self.running.as_ref().map(|(_, var)| var.to_vec()),
            _ => unreachable!("no quantity {quantity}"),
        }
    }
}

/// Forward and backward; each layer has its own type of saved statistics, hence a macro.
macro_rules! pass {
    ($layer:ident.$forward:ident, $step:ident) => {{
        let (y, saved) = $layer.$forward($step.x.view())?;
        let Gradients { dx, dgamma, dbeta } =
            $layer.backward(&saved, $step.x.view(), $step.dy.clone())?;
        Outcome {
            y,
            dx,
            dgamma,
            dbeta,
            running: None,
        }
    }};
}

/// The steps of a layer that has no state between them.
macro_rules! stateless {
    ($config:expr, $case:ident, $parameter_shape:expr) => {{
        let (gamma, beta) = $case.parameters($parameter_shape);
        let mut layer = $config
            .epsilon($case.number("epsilon"))
            .scale(gamma.is_some())
            .center(beta.is_some())
            .init()?;
        (layer.gamma, layer.beta) = (gamma, beta);
        $case
            .steps()
            .map(|step| Ok(pass!(layer.forward, step)))
            .collect()
    }};
}

fn run(case: &Case) -> Result<Vec<Outcome>, Error> {
    match case.text("layer") {
        "batch" => run_batch(case),
        "layer" => {
            let normalized = case.normalized_shape();
            stateless!(LayerNormConfig::new(normalized), case, normalized)
        }
        "rms" => {
            let normalized = case.normalized_shape();
            stateless!(RmsNormConfig::new(normalized), case, normalized)
        }
        "group" => {
            let (channels, groups) = (case.channels(), case.number("groups") as usize);
            let config = GroupNormConfig::new(groups, channels).channel_axis(case.channel_axis());
            stateless!(config, case, &[channels])
        }
        "instance" => {
            let channels = case.channels();
            let config = InstanceNormConfig::new(channels).channel_axis(case.channel_axis());
            stateless!(config, case, &[channels])
        }
        other => unreachable!("no layer {other}"),
    }
}

fn run_batch(case: &Case) -> Result<Vec<Outcome>, Error> {
    let channels = case.channels();
    let (gamma, beta) = case.parameters(&[channels]);
    let mut layer = BatchNormConfig::new(channels)
        .channel_axis(case.channel_axis())
        .epsilon(case.number("epsilon"))
        .momentum(Momentum::Step(case.number("momentum")))
        .running_variance(RunningVariance::Unbiased)
        .scale(gamma.is_some())
        .center(beta.is_some())
        .init()?;
    (layer.gamma, layer.beta) = (gamma, beta);
    case.steps()
        .map(|step| {
            let outcome = match step.mode {
                "train" => pass!(layer.forward, step),
                "eval" => pass!(layer.forward_fixed, step),
                other => unreachable!("no mode {other}"),
            };
            let running = Some((layer.running_mean.clone(), layer.running_var.clone()));
            Ok(Outcome { running, ..outcome })
        })
        .collect()
}

/// One case of the file.
struct Case<'a> {
    json: &'a Value,
    shape: Vec<usize>,
}

/// The inputs of one step.
struct Step<'a> {
    mode: &'a str,
    x: ArrayD<f32>,
    dy: ArrayD<f32>,
}

impl<'a> Case<'a> {
    fn new(json: &'a Value) -> Self {
        let shape = json["shape"].as_array().expect("a shape");
        let shape = shape
            .iter()
            .map(|n| n.as_u64().expect("a length") as usize)
            .collect();
        Self { json, shape }
    }

    fn text(&self, field: &str) -> &'a str {
        self.json[field]
            .as_str()
            .unwrap_or_else(|| panic!("no text {field}"))
    }

    fn number(&self, field: &str) -> f64 {
        self.json[field]
            .as_f64()
            .unwrap_or_else(|| panic!("no number {field}"))
    }

    fn channel_axis(&self) -> isize {
        self.number("channel_axis") as isize
    }

    fn channels(&self) -> usize {
        let rank = self.shape.len() as isize;
        self.shape[self.channel_axis().rem_euclid(rank) as usize]
    }

    fn normalized_shape(&self) -> &[usize] {
        &self.shape[self.shape.len() - self.number("normalized_dims") as usize..]
    }

    fn parameters(&self, shape: &[usize]) -> (Option<ArrayD<f64>>, Option<ArrayD<f64>>) {
        let read = |field| {
            let values = f32s(&self.json[field])?
                .into_iter()
                .map(f64::from)
                .collect();
            Some(ArrayD::from_shape_vec(IxDyn(shape), values).expect("one value a parameter"))
        };
        (read("gamma"), read("beta"))
    }

    fn raw_steps(&self) -> &'a [Value] {
        self.json["steps"].as_array().expect("steps")
    }

    fn steps(&self) -> impl Iterator<Item = Step<'a>> {
        let read = move |value: &Value| {
            let values = f32s(value).expect("an array");
            ArrayD::from_shape_vec(IxDyn(&self.shape), values).expect("as many values as elements")
        };
        self.raw_steps().iter().map(move |step| Step {
            mode: step["mode"].as_str().expect("a mode"),
            x: read(&step["x"]),
            dy: read(&step["dy"]),
        })
    }
}

/// An array of the file: f32 numbers, or `None` for null and for a field that is not there.
fn f32s(value: &Value) -> Option<Vec<f32>> {
    let values = value.as_array()?;
    Some(
        values
            .iter()
            .map(|v| v.as_f64().expect("a number") as f32)
            .collect(),
    )
}

/// The error relative to the array's largest value, or absolute where all are below 1.
fn error(ours: &[f64], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let (mut distance, mut scale) = (0.0, 1.0);
    for (&a, &b) in ours.iter().zip(theirs) {
        let b = f64::from(b);
        // `max` would drop a NaN of ours.
        assert!(a.is_finite(), "{a} where PyTorch has {b}");
        distance = f64::max(distance, (a - b).abs());
        scale = f64::max(scale, b.abs());
    }
    distance / scale
}

/// A line of the table: the worst errors over its cases, ours and PyTorch's own.
#[derive(Default)]
struct Line {
    cases: usize,
    worst: BTreeMap<&'static str, (f64, f64)>,
}

#[test]
fn agrees_with_pytorch() {
    let file: Value =
        serde_json::from_str(include_str!("fixtures/pytorch/cases.json")).expect("valid JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(cases.len() >= 40, "only {} cases", cases.len());

    let mut table = BTreeMap::<String, Line>::new();
    let mut failures = Vec::new();
    for case in cases.iter().map(Case::new) {
        let name = case.text("name");
        let outcomes = run(&case).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(outcomes.len(), case.raw_steps().len());
        let own = |quantity: &str| case.json["torch_error"][quantity].as_f64().unwrap_or(0.0);
        let mark = if QUANTITIES.iter().any(|q| own(q) > TOLERANCE) {
            " *"
        } else {
            ""
        };
        let line = table
            .entry(format!("{}{mark}", case.text("layer")))
            .or_default();
        line.cases += 1;
        for (at, (outcome, step)) in outcomes.iter().zip(case.raw_steps()).enumerate() {
            for quantity in QUANTITIES {
                let (ours, theirs) = match (outcome.get(quantity), f32s(&step[quantity])) {
                    (None, None) => continue,
                    (Some(ours), Some(theirs)) => (ours, theirs),
                    (ours, _) => panic!("{name}: {quantity} only in {}", side(ours.is_some())),
                };
                let (found, own) = (error(&ours, &theirs), own(quantity));
                let allowed = TOLERANCE + if own > TOLERANCE { 2.0 * own } else { 0.0 };
                if found > allowed {
                    failures.push(format!("{name}, step {at}: {quantity} off by {found:.1e}"));
                }
                let worst = line.worst.entry(quantity).or_default();
                *worst = (worst.0.max(found), worst.1.max(own));
            }
        }
    }
    print_table(&file, &table);
    assert!(
        failures.is_empty(),
        "{} above the tolerance:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn side(ours: bool) -> &'static str {
    if ours { "Cellnorm" } else { "PyTorch" }
}

fn print_table(file: &Value, table: &BTreeMap<String, Line>) {
    let version = file["version"].as_str().expect("a version");
    println!("\nWorst error against PyTorch {version} in f32 (PyTorch's own against its f64)");
    print!("{:<12}{:>5}", "layer", "cases");
    println!(
        "{}",
        QUANTITIES
            .map(|quantity| format!("{quantity:>20}"))
            .concat()
    );
    for (layer, line) in table {
        print!("{layer:<12}{:>5}", line.cases);
        for quantity in QUANTITIES {
            match line.worst.get(quantity) {
                Some((ours, own)) => print!("{:>20}", format!("{ours:.1e} ({own:.1e})")),
                None => print!("{:>20}", "-"),
            }
        }
        println!();
    }
    println!(
        "* inputs around 10,000, where PyTorch's f32 is itself more than {TOLERANCE:.0e} off:"
    );
    println!("  allowed {TOLERANCE:.0e} + 2 × PyTorch's own error");
}
