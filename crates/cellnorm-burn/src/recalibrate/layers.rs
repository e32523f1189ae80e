//! The batch normalizations in a module, and its running statistics, as Burn lets visitors see
//! them.

use std::collections::HashMap;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use cellnorm::Error;

use crate::fold::read;

/// Numbers of running statistics, by their id.
pub(super) type Numbers = HashMap<ParamId, Vec<f64>>;

/// The types whose running statistics are those of plain batches.
const LAYERS: [&str; 3] = ["BatchNorm", "AxesBatchNorm", "StepBatchNorm"];

/// A batch normalization in a module.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) path: String,
    /// Whether it is not frozen.
    pub(super) trains: bool,
    pub(super) mean: ParamId,
    pub(super) variance: ParamId,
    /// Whether it is one of ours, which have a field more than Burn's.
    pub(super) ours: bool,
}

/// The batch normalizations with running statistics, in the module's order.
pub(super) fn batch_norms<M: Module>(module: &M) -> Vec<Layer> {
    let mut search = Search::default();
    module.visit(&mut search);
    let complete = |found: Found| {
        let Found { path, trains, mean, variance, ours } = found;
        Some(Layer { path, trains, mean: mean?, variance: variance?, ours })
    };
    search.found.into_iter().filter_map(complete).collect()
}

#[derive(Default)]
struct Search {
    /// The fields that the visit is in, and whether each is one of a batch normalization.
    fields: Vec<(String, bool)>,
    found: Vec<Found>,
}

#[derive(Default)]
struct Found {
    path: String,
    trains: bool,
    mean: Option<ParamId>,
    variance: Option<ParamId>,
    ours: bool,
}

impl Search {
    /// The name of the field that the visit is in, and the layer that has it.
    fn field(&mut self) -> Option<(String, &mut Found)> {
        let (field, is_layer) = self.fields.last()?;
        let (field, true) = (field.clone(), *is_layer) else { return None };
        let outer: Vec<&str> =
            self.fields[..self.fields.len() - 1].iter().map(|(name, _)| name.as_str()).collect();
        let path = outer.join(".");
        // the fields of a layer follow each other
        if self.found.last().is_none_or(|found| found.path != path) {
            self.found.push(Found { path, ..Found::default() });
        }
        self.found.last_mut().map(|found| (field, found))
    }
}

impl ModuleVisitor for Search {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        let is_layer =
            container_type.strip_prefix("Struct:").is_some_and(|layer| LAYERS.contains(&layer));
        self.fields.push((name.into(), is_layer));
        if let Some((field, found)) = self.field() {
            found.ours |= field == "num_batches_tracked";
        }
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.fields.pop();
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let enabled = flag.is_enabled();
        if let Some((_, found)) = self.field() {
            found.trains = enabled;
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let id = param.id;
        if let Some((field, found)) = self.field() {
            match field.as_str() {
                "running_mean" => found.mean = Some(id),
                "running_var" => found.variance = Some(id),
                _ => {}
            }
        }
    }
}

/// The running statistics of all layers in the module, of whichever kind.
///
/// # Errors
/// If one is quantized.
pub(super) fn running<M: Module>(module: &M) -> Result<Numbers, Error> {
    // visitors do not see the last update of a running state until it is asked for
    module.valid();
    let mut reader = Reader { running: vec![], numbers: Ok(Numbers::default()) };
    module.visit(&mut reader);
    reader.numbers
}

struct Reader {
    /// For every field that the visit is in, whether it holds a running statistic.
    running: Vec<bool>,
    numbers: Result<Numbers, Error>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.running.push(name.starts_with("running_") || name == "num_batches_tracked");
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.running.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let (Some(true), Ok(numbers)) = (self.running.last(), &mut self.numbers) {
            match read(param.val()) {
                Ok(values) => drop(numbers.insert(param.id, values)),
                Err(error) => self.numbers = Err(error),
            }
        }
    }
}

/// Sets running statistics, in all clones of the module.
pub(super) fn write<M: Module>(module: &M, numbers: &Numbers) {
    // an update that still waits would undo it
    module.valid();
    module.clone().map(&mut Writer(numbers));
}

struct Writer<'a>(&'a Numbers);

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(numbers) = self.0.get(&param.id) else { return param };
        param.map(|old| {
            let data = TensorData::new(numbers.clone(), old.shape());
            Tensor::from_data(data, (&old.device(), old.dtype()))
        })
    }
}

/// Leaves the module with these running statistics, however it is left: a pass may return early or
/// panic.
pub(super) struct Leave<'a, M: Module> {
    pub(super) module: &'a M,
    pub(super) numbers: Numbers,
}

impl<M: Module> Drop for Leave<'_, M> {
    fn drop(&mut self) {
        write(self.module, &self.numbers);
    }
}
