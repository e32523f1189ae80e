//! The file of cases, read field by field.

use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

/// One case of the file.
pub struct Case<'a> {
    pub json: &'a Value,
    shape: Vec<usize>,
}

/// The inputs of one step.
pub struct Step<'a> {
    pub mode: &'a str,
    pub x: ArrayD<f32>,
    pub dy: ArrayD<f32>,
}

impl<'a> Case<'a> {
    pub fn new(json: &'a Value) -> Self {
        let shape = json["shape"].as_array().expect("a shape");
        let shape = shape.iter().map(|n| n.as_u64().expect("a length") as usize).collect();
        Self { json, shape }
    }

    pub fn text(&self, field: &str) -> &'a str {
        self.json[field].as_str().unwrap_or_else(|| panic!("no text {field}"))
    }

    pub fn number(&self, field: &str) -> f64 {
        self.json[field].as_f64().unwrap_or_else(|| panic!("no number {field}"))
    }

    pub fn channel_axis(&self) -> isize {
        self.number("channel_axis") as isize
    }

    pub fn channels(&self) -> usize {
        let rank = self.shape.len() as isize;
        self.shape[self.channel_axis().rem_euclid(rank) as usize]
    }

    pub fn normalized_shape(&self) -> &[usize] {
        &self.shape[self.shape.len() - self.number("normalized_dims") as usize..]
    }

    pub fn parameters(&self, shape: &[usize]) -> (Option<ArrayD<f64>>, Option<ArrayD<f64>>) {
        let read = |field: &str| {
            let values = f32s(&self.json[field])?.into_iter().map(f64::from).collect();
            Some(ArrayD::from_shape_vec(IxDyn(shape), values).expect("one value a parameter"))
        };
        (read("gamma"), read("beta"))
    }

    pub fn raw_steps(&self) -> &'a [Value] {
        self.json["steps"].as_array().expect("steps")
    }

    pub fn steps(&self) -> impl Iterator<Item = Step<'a>> {
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
pub fn f32s(value: &Value) -> Option<Vec<f32>> {
    let values = value.as_array()?;
    Some(values.iter().map(|v| v.as_f64().expect("a number") as f32).collect())
}
