//! Checkpoints of other types than the variables of a map.

use std::path::Path;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Result, Tensor, Var};
use candle_nn::VarMap;

use crate::numbers::{finite, values, wrong};

/// Sets every variable of a map to the tensor of its name in a safetensors file, cast to the type
/// of the variable. `VarMap::load` casts nothing, and leaves the map half loaded where types
/// differ: running averages are f32 at least here, also beside parameters in half precision.
///
/// Other tensors of the file, such as PyTorch's `num_batches_tracked`, are ignored.
///
/// # Errors
/// If the file cannot be read, or lacks a variable, has another shape of it or a number too large
/// for its type. No variable has changed then.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use cellnorm_candle::{batch_norm, load_cast};
/// let path = std::env::temp_dir().join("cellnorm-candle-doc.safetensors");
/// let half = Tensor::full(2f32, 3, &Device::Cpu)?.to_dtype(DType::F16)?;
/// let names = ["weight", "bias", "running_mean", "running_var"];
/// candle_core::safetensors::save(&names.map(|name| (name, half.clone())).into(), &path)?;
///
/// let variables = VarMap::new();
/// let vb = VarBuilder::from_varmap(&variables, DType::F16, &Device::Cpu);
/// let layer = batch_norm(3, 1e-5, vb)?;
/// load_cast(&variables, &path)?;
/// assert_eq!(layer.running_var().to_vec1::<f32>()?, [2.0; 3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn load_cast(variables: &VarMap, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let in_file = |error: &dyn std::fmt::Display| wrong(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| in_file(&error))?;
    let file = BufferedSafetensors::new(bytes).map_err(|error| in_file(&error))?;
    let variables = variables.data().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let loaded = variables.iter().map(|(name, variable)| {
        let tensor = cast(&file, name, variable);
        Ok((variable, tensor.map_err(|error| in_file(&format!("{name}: {error}")))?))
    });
    let loaded = loaded.collect::<Result<Vec<_>>>()?;
    loaded.into_iter().try_for_each(|(variable, tensor)| variable.set(&tensor))
}

/// The tensor of this name, as a variable can be set to it.
fn cast(file: &BufferedSafetensors, name: &str, variable: &Var) -> Result<Tensor> {
    let stored = file.load(name, variable.device())?;
    if stored.dims() != variable.dims() {
        let (given, expected) = (stored.dims(), variable.dims());
        candle_core::bail!("the shape is {given:?}; that of the variable is {expected:?}")
    }
    if stored.dtype() == variable.dtype() {
        return Ok(stored);
    }
    let tensor = stored.to_dtype(variable.dtype())?;
    if !finite(&values(&tensor, name)?) && finite(&values(&stored, name)?) {
        let dtype = variable.dtype();
        candle_core::bail!("a number is too large for {dtype:?}, the type of the variable")
    }
    Ok(tensor)
}
