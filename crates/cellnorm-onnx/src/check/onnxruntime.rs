//! ONNX Runtime, where its library is found.

use std::path::Path;

use half::{bf16, f16};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};

use super::{Array, Feed, Runtime, Session, text};
use crate::proto::wire::{message, put_bytes};
use crate::source::Source;

/// ONNX Runtime.
pub struct OnnxRuntime {
    environment: Environment,
    library: String,
}

impl OnnxRuntime {
    /// The one in a library: `libonnxruntime.so`, as it lies in its release or in the Python
    /// package, in `onnxruntime/capi`.
    ///
    /// # Errors
    /// If there is no such library, or it cannot be loaded.
    pub fn open(library: &Path) -> Result<Self, String> {
        let environment = ort::init_from(library).map_err(text)?;
        let environment = environment.with_telemetry(false).build().map_err(text)?;
        Ok(Self { environment, library: library.display().to_string() })
    }
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> String {
        format!("ONNX Runtime ({})", self.library)
    }

    fn load(&self, path: &Path, values: &[String]) -> Result<Box<dyn Session>, String> {
        let session = OrtSession::builder(&self.environment).map_err(text)?;
        let session = session.with_optimization_level(GraphOptimizationLevel::Disable);
        let mut session = session.map_err(text)?;
        let source = Source::open(path).map_err(text)?;
        // from memory it would not find side files
        let committed = if values.is_empty() || source.side_files().next().is_some() {
            session.commit_from_file(path)
        } else {
            session.commit_from_memory(&[source.bytes(), &more_outputs(values)].concat())
        };
        Ok(Box::new(Loaded { session: committed.map_err(text)? }))
    }
}

/// A field that makes values outputs as well, to be appended to a model's bytes: protocol buffers
/// join the two graphs.
fn more_outputs(names: &[String]) -> Vec<u8> {
    let mut graph = Vec::new();
    names.iter().for_each(|name| put_bytes(&mut graph, 12, &message(1, name.as_bytes())));
    message(7, &graph)
}

struct Loaded {
    session: OrtSession,
}

impl Session for Loaded {
    fn run(&mut self, feed: &Feed) -> Result<Vec<(String, Array)>, String> {
        let inputs = feed.iter().map(|(name, array)| Ok((name.clone(), value(array)?.into())));
        let inputs = inputs.collect::<Result<Vec<(String, SessionInputValue<'_>)>, String>>()?;
        let outputs = self.session.run(inputs).map_err(text)?;
        outputs.iter().map(|(name, value)| Ok((name.to_owned(), array(&value)?))).collect()
    }
}

fn value(array: &Array) -> Result<DynValue, String> {
    let shape = array.shape.clone();
    macro_rules! tensor {
        ($convert:expr) => {
            Tensor::from_array((shape, array.numbers.iter().map($convert).collect::<Vec<_>>()))
                .map(Tensor::into_dyn)
                .map_err(text)
        };
    }
    match array.element {
        1 => tensor!(|number| *number as f32),
        2 => tensor!(|number| *number as u8),
        3 => tensor!(|number| *number as i8),
        6 => tensor!(|number| *number as i32),
        7 => tensor!(|number| *number as i64),
        9 => tensor!(|number| *number != 0.0),
        10 => tensor!(|number| f16::from_f64(*number)),
        11 => tensor!(|number| *number),
        16 => tensor!(|number| bf16::from_f64(*number)),
        other => Err(format!("inputs of ONNX's type {other} are not handled")),
    }
}

fn array(value: &DynValue) -> Result<Array, String> {
    let Some(element) = value.dtype().tensor_type() else {
        return Err("an output is no tensor".into());
    };
    macro_rules! numbers {
        ($type:ty, $element:expr, $convert:expr) => {{
            let (shape, numbers) = value.try_extract_tensor::<$type>().map_err(text)?;
            let shape = shape.iter().map(|length| usize::try_from(*length).unwrap_or(0)).collect();
            Ok(Array { shape, element: $element, numbers: numbers.iter().map($convert).collect() })
        }};
    }
    match element {
        TensorElementType::Float32 => numbers!(f32, 1, |number| f64::from(*number)),
        TensorElementType::Uint8 => numbers!(u8, 2, |number| f64::from(*number)),
        TensorElementType::Int8 => numbers!(i8, 3, |number| f64::from(*number)),
        TensorElementType::Int32 => numbers!(i32, 6, |number| f64::from(*number)),
        TensorElementType::Int64 => numbers!(i64, 7, |number| *number as f64),
        TensorElementType::Bool => numbers!(bool, 9, |number| f64::from(u8::from(*number))),
        TensorElementType::Float16 => numbers!(f16, 10, |number| number.to_f64()),
        TensorElementType::Float64 => numbers!(f64, 11, |number| *number),
        TensorElementType::Bfloat16 => numbers!(bf16, 16, |number| number.to_f64()),
        other => Err(format!("outputs of the type {other} are not handled")),
    }
}
