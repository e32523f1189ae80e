//! A case of a file, read field by field. `fixtures/fixture.py` says what the fields are.

use cellnorm::{Error, Momentum, Normalization, Semantics};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

/// One case: a layer, what was given to it, and its steps.
pub struct Case<'a> {
    json: &'a Value,
    /// The shape of x.
    pub shape: Vec<usize>,
}

/// One step of a case.
pub struct Step<'a> {
    json: &'a Value,
    shape: &'a [usize],
}

impl<'a> Case<'a> {
    pub fn new(json: &'a Value) -> Self {
        Self { json, shape: lengths(&json["shape"]) }
    }

    pub fn text(&self, field: &str) -> &'a str {
        self.json[field].as_str().unwrap_or_else(|| panic!("no text {field}"))
    }

    /// An argument that the user passed.
    pub fn given(&self, argument: &str) -> Option<&'a Value> {
        self.json["given"].get(argument)
    }

    /// The argument as a number.
    pub fn number(&self, argument: &str) -> Option<f64> {
        self.given(argument)?.as_f64()
    }

    /// The state before the first step, where it was not the default.
    pub fn state(&self, name: &str) -> Option<Vec<f64>> {
        f64s(&self.json["state"][name])
    }

    /// γ, β or another parameter.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> ArrayD<f64> {
        let values = f64s(&self.json[name]).or_else(|| f64s(&self.json["parameters"][name]));
        let values = values.unwrap_or_else(|| panic!("{}: no {name}", self.text("name")));
        ArrayD::from_shape_vec(IxDyn(shape), values).expect("one value a parameter")
    }

    pub fn steps(&'a self) -> impl ExactSizeIterator<Item = Step<'a>> {
        self.json["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|json| Step { json, shape: &self.shape })
    }

    /// The preset with what was given in place of its defaults.
    pub fn semantics(&self, layer: Normalization) -> Result<Semantics, Error> {
        let mut semantics = Semantics::preset(self.text("preset"), layer)?;
        for (argument, value) in self.json["given"].as_object().expect("given") {
            let number = || value.as_f64().expect("a number");
            match argument.as_str() {
                "epsilon" => semantics.epsilon = number(),
                "scale" => semantics.scale = value.as_bool().expect("a flag"),
                "center" => semantics.center = value.as_bool().expect("a flag"),
                "momentum" => {
                    semantics.momentum = match semantics.momentum {
                        _ if value.is_null() => Momentum::Cumulative,
                        Momentum::Keep(_) => Momentum::Keep(number()),
                        _ => Momentum::Step(number()),
                    }
                }
                "track_running_stats" => {
                    semantics.running_statistics = value.as_bool().expect("a flag");
                }
                "axis" if value.is_number() => semantics.channel_axis = number() as isize,
                _ => {}
            }
        }
        Ok(semantics)
    }

    /// Whether the case says what a parameter is.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.json[name].is_array() || self.json["parameters"][name].is_array()
    }

    pub fn length(&self, axis: isize) -> usize {
        self.shape[axis.rem_euclid(self.shape.len() as isize) as usize]
    }
}

impl<'a> Step<'a> {
    pub fn mode(&self) -> &'a str {
        self.json["mode"].as_str().expect("a mode")
    }

    /// x or dy.
    pub fn tensor(&self, name: &str) -> ArrayD<f32> {
        let values =
            f64s(&self.json[name]).expect("an array").into_iter().map(|v| v as f32).collect();
        ArrayD::from_shape_vec(IxDyn(self.shape), values).expect("as many values as elements")
    }

    /// Whether the case has gradients: not where a framework overwrites what it normalizes.
    pub fn has_gradient(&self) -> bool {
        self.json["dy"].is_array()
    }

    /// The framework's results by name: all arrays of the step that are not its inputs.
    pub fn results(&self) -> impl Iterator<Item = (&'a str, Vec<f64>)> {
        let inputs = ["x", "dy", "mask", "mask_shape"];
        let fields = self.json.as_object().expect("a step").iter();
        fields
            .filter(move |(name, _)| !inputs.contains(&name.as_str()))
            .filter_map(|(name, v)| Some((name.as_str(), f64s(v)?)))
    }

    /// The result in f64, where the framework's own error calls for it.
    pub fn exact(&self, name: &str) -> Option<Vec<f64>> {
        f64s(&self.json["exact"][name])
    }

    /// True where an element of x counts, in a shape that broadcasts to that of x; None where all
    /// count.
    pub fn mask(&self) -> Option<ArrayD<bool>> {
        let mask = f64s(&self.json["mask"])?.into_iter().map(|v| v != 0.0).collect();
        let mut shape = lengths(&self.json["mask_shape"]);
        shape.resize(self.shape.len(), 1);
        Some(ArrayD::from_shape_vec(IxDyn(&shape), mask).expect("a mask of its shape"))
    }
}

fn lengths(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .expect("a shape")
        .iter()
        .map(|n| n.as_u64().expect("a length") as usize)
        .collect()
}

/// The numbers of an array; None for what is none.
fn f64s(value: &Value) -> Option<Vec<f64>> {
    Some(value.as_array()?.iter().map(|v| v.as_f64().expect("a number")).collect())
}
