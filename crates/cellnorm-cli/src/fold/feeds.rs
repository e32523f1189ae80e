//! Real inputs to run a model on, from a file: an array for each input, cut into batches.

use std::path::Path;

use cellnorm::state::Tensors;
use cellnorm_onnx::check::{Array, Feed};
use cellnorm_onnx::proto::{Model, Value};

use super::FoldError;
use crate::format::{counted, join};

/// Samples of a run where the model leaves their number open.
const BATCH: usize = 64;

pub fn read(model: &Model<'_>, path: &Path) -> Result<Vec<Feed>, FoldError> {
    let tensors = cellnorm::state::read(path)?;
    let inputs: Vec<&Value<'_>> =
        model.graph.values.iter().filter(|value| value.input_only()).collect();
    let failed = |problem: String| FoldError::Feeds { path: path.to_owned(), problem };
    let mut arrays = Vec::new();
    let mut batch = None;
    for input in &inputs {
        let tensor = find(&tensors, &input.name, inputs.len() == 1).ok_or_else(|| {
            failed(format!("has no array {:?}, but {}", input.name, join(tensors.keys(), ", ")))
        })?;
        let shape = tensor.values.shape().to_vec();
        let expected = input.shape.clone().unwrap_or_else(|| vec![None; shape.len()]);
        let fits = |(length, expected): (&usize, &Option<usize>)| {
            expected.is_none_or(|expected| expected == *length)
        };
        if shape.len() != expected.len() || !shape.iter().zip(&expected).skip(1).all(fits) {
            return Err(failed(format!(
                "has {:?} of shape {shape:?}; the model takes {}",
                input.name,
                words(&expected)
            )));
        }
        let samples = shape.first().copied().unwrap_or(1);
        let size = expected.first().copied().flatten().unwrap_or(samples.min(BATCH)).max(1);
        if *batch.get_or_insert((samples, size)) != (samples, size)
            || !samples.is_multiple_of(size) && expected[0].is_some()
        {
            return Err(failed(format!(
                "has {} of {:?}, no batches of {size} beside the others",
                counted(samples, "sample"),
                input.name
            )));
        }
        arrays.push((
            input.name.to_string(),
            shape,
            input.element,
            tensor.values.iter().copied().collect::<Vec<f64>>(),
        ));
    }
    let (samples, size) = batch.unwrap_or((0, 1));
    let part = |start: usize| {
        let array = |(name, shape, element, numbers): &(String, Vec<usize>, i32, Vec<f64>)| {
            let sample: usize = shape.iter().skip(1).product();
            let end = samples.min(start + size);
            let mut shape = shape.clone();
            if let Some(first) = shape.first_mut() {
                *first = end - start;
            }
            let numbers = numbers[start * sample..end * sample].to_vec();
            (name.clone(), Array { shape, element: *element, numbers })
        };
        arrays.iter().map(array).collect()
    };
    Ok((0..samples).step_by(size).map(part).collect())
}

/// The array of an input: the one of its name, or the only array where the model has one input.
fn find<'t>(tensors: &'t Tensors, name: &str, only: bool) -> Option<&'t cellnorm::state::Tensor> {
    let single = || tensors.values().next().filter(|_| only && tensors.len() == 1);
    tensors.get(name).or_else(single)
}

fn words(shape: &[Option<usize>]) -> String {
    let length = |length: &Option<usize>| length.map_or("any".into(), |length| length.to_string());
    format!("[{}]", join(shape.iter().map(length), ", "))
}
