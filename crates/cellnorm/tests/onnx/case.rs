//! A node test: one operator with its attributes, inputs and outputs.

use std::fs;
use std::path::Path;

use ndarray::ArrayD;
use prost::Message;

use crate::proto::{Attribute, Model, Node, Tensor};

pub struct Case {
    pub name: String,
    pub opset: i64,
    pub node: Node,
    pub inputs: Vec<ArrayD<f32>>,
    pub outputs: Vec<ArrayD<f32>>,
}

impl Case {
    /// The case in a folder, if it is one node of one of these operators: the others spell
    /// operators out in smaller ones.
    pub fn read(folder: &Path, operators: &[&str]) -> Option<Self> {
        let model: Model = message(&folder.join("model.onnx"));
        let [node] = model.graph?.node.try_into().ok()?;
        if !operators.contains(&node.op_type.as_str()) {
            return None;
        }
        let opset = model
            .opset_import
            .iter()
            .find(|set| set.domain.is_empty())
            .expect("ONNX's own operators")
            .version;
        let tensors = |kind: &str, names: &[String]| {
            let file = |i| folder.join("test_data_set_0").join(format!("{kind}_{i}.pb"));
            (0..names.len()).map(|i| message::<Tensor>(&file(i)).array()).collect()
        };
        let name = folder.file_name().expect("a folder with a name").to_string_lossy().into_owned();
        let (inputs, outputs) = (tensors("input", &node.input), tensors("output", &node.output));
        Some(Self { name, opset, node, inputs, outputs })
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).map_or(default, |attribute| f64::from(attribute.f))
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub fn ints(&self, name: &str, default: &[i64]) -> Vec<i64> {
        self.attribute(name).map_or(default.to_vec(), |attribute| attribute.ints.clone())
    }

    /// An input as a parameter.
    pub fn parameter(&self, input: usize) -> Option<ArrayD<f64>> {
        self.inputs.get(input).map(|array| array.mapv(f64::from))
    }
}

fn message<M: Message + Default>(path: &Path) -> M {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    M::decode(&bytes[..]).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
