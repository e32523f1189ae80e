//! rten, which runs models in Rust alone: f32, and integers as 32 bits.

use std::path::Path;

use ::rten::{Model, ModelOptions, NodeId, Value};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use super::{Array, Feed, Runtime, Session, text};

/// rten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rten;

impl Runtime for Rten {
    fn name(&self) -> String {
        "rten 0.27".into()
    }

    fn load(&self, path: &Path, values: &[String]) -> Result<Box<dyn Session>, String> {
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(false);
        let model = options.load_file(path).map_err(text)?;
        let mut wanted = model.output_ids().to_vec();
        for name in values {
            wanted.push(model.node_id(name).map_err(text)?);
        }
        Ok(Box::new(Loaded { model, wanted }))
    }
}

struct Loaded {
    model: Model,
    wanted: Vec<NodeId>,
}

impl Loaded {
    fn name(&self, id: NodeId) -> String {
        self.model.node_info(id).and_then(|info| info.name().map(str::to_owned)).unwrap_or_default()
    }
}

impl Session for Loaded {
    fn run(&mut self, feed: &Feed) -> Result<Vec<(String, Array)>, String> {
        let inputs = feed.iter().map(|(name, array)| {
            let id = self.model.node_id(name).map_err(text)?;
            Ok((id, value(array)?.into()))
        });
        let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
        let outputs = self.model.run(inputs, &self.wanted, None).map_err(text)?;
        let named = self.wanted.iter().zip(outputs);
        named.map(|(id, value)| Ok((self.name(*id), array(value)?))).collect()
    }
}

fn value(array: &Array) -> Result<Value, String> {
    fn tensor<T>(array: &Array, convert: impl Fn(f64) -> T) -> Tensor<T> {
        let numbers: Vec<T> = array.numbers.iter().map(|number| convert(*number)).collect();
        Tensor::from_data(array.shape.as_slice(), numbers)
    }
    match array.element {
        1 => Ok(tensor(array, |number| number as f32).into()),
        6 | 7 | 9 => Ok(tensor(array, |number| number as i32).into()),
        2 => Ok(tensor(array, |number| number as u8).into()),
        3 => Ok(tensor(array, |number| number as i8).into()),
        other => Err(format!("rten has no tensors of ONNX's type {other}")),
    }
}

fn array(value: Value) -> Result<Array, String> {
    fn array<T: Copy + Into<f64>>(tensor: &Tensor<T>, element: i32) -> Array {
        let numbers = tensor.iter().map(|number| (*number).into()).collect();
        Array { shape: tensor.shape().to_vec(), element, numbers }
    }
    match value {
        Value::FloatTensor(tensor) => Ok(array(&tensor, 1)),
        Value::Int32Tensor(tensor) => Ok(array(&tensor, 6)),
        Value::Int8Tensor(tensor) => Ok(array(&tensor, 3)),
        Value::UInt8Tensor(tensor) => Ok(array(&tensor, 2)),
        _ => Err("an output is a sequence".into()),
    }
}
