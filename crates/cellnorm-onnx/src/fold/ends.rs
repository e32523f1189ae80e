//! Maps at the ends of a graph that no node of their own makes: the normalization of the data,
//! which comes before the first layer, and γ and β, which layer and RMS normalizations end with.

use super::map::{Axis, Formula, Map};
use super::report::{NodeName, Unfolded};
use super::walk::{self, Side};
use super::work::Work;
use super::{Data, FoldedData, node_name};
use crate::error::Error;
use crate::proto::graph::{NodeId, ValueId};
use crate::proto::values::Float;

impl Work<'_, '_, '_> {
    /// Folds the normalization of the data into what reads the input.
    pub fn fold_data(&mut self) -> Result<(), Error> {
        let Some(Data { input, mean, deviation }) = self.folding.options.data.clone() else {
            return Ok(());
        };
        let id = self.data_input(input.as_deref())?;
        let axis = self.data_axis(id, mean.len().max(deviation.len()));
        let wide = |numbers: Vec<f64>, other: usize| {
            if numbers.len() == 1 { vec![numbers[0]; other] } else { numbers }
        };
        let (mean, deviation) = (wide(mean.clone(), deviation.len()), wide(deviation, mean.len()));
        let map =
            Map::new(Formula::Data { mean: mean.clone(), deviation: deviation.clone() }, axis)?;
        let name = self.graph.values[id].name.to_string();
        let node = NodeName { makes: name.clone(), name, op: "data normalization".into() };
        let input = node.name.clone();
        let length = axis.and_then(|axis| *self.shapes.get(id)?.get(axis.front(None)?)?);
        let may_widen = axis.is_some() && length != Some(mean.len());
        let map = Map { may_widen, ..map };
        let way = walk::layers_after(&self.search(), id, &map);
        match way.and_then(|way| self.commit(node.clone(), &map, way, Side::Before)) {
            Ok(()) => {
                let axis = axis.and_then(|axis| axis.front(None)).unwrap_or(0);
                self.folding.data = Some(FoldedData { input, axis, mean, deviation });
            }
            Err(refusal) => self.folding.report.kept.push(Unfolded::new(node, refusal, None)),
        }
        Ok(())
    }

    /// The input whose data are normalized.
    fn data_input(&self, name: Option<&str>) -> Result<ValueId, Error> {
        let values = &self.graph.values;
        let inputs: Vec<ValueId> =
            (0..values.len()).filter(|id| values[*id].input_only()).collect();
        let names = || inputs.iter().map(|id| values[*id].name.to_string()).collect::<Vec<_>>();
        match (name, inputs.as_slice()) {
            (None, [only]) => Ok(*only),
            (Some(name), _) => {
                let found = inputs.iter().copied().find(|id| values[*id].name == name);
                found.ok_or_else(|| Error::NoInput { name: name.to_owned(), inputs: names() })
            }
            (None, _) => Err(Error::WhichInput { inputs: names() }),
        }
    }

    /// The axis of the data's channels: 1 if it has that length or none has, otherwise the last
    /// that has it.
    fn data_axis(&self, input: ValueId, channels: usize) -> Option<Axis> {
        let shape = self.shapes.get(input).cloned().unwrap_or_default();
        let fits = |axis: &usize| shape.get(*axis) == Some(&Some(channels));
        let axis = if fits(&1) { None } else { (2..shape.len()).rev().find(fits) };
        (channels > 1).then(|| Axis::Front(axis.unwrap_or(1)))
    }

    /// Folds γ and β of layer and RMS normalizations into the dense layers after them.
    pub fn fold_gamma_and_beta(&mut self, order: &[NodeId]) {
        for id in order {
            let Some((output, map, float)) = self.gamma_and_beta(*id) else { continue };
            if map.is_identity() {
                continue;
            }
            let way = walk::layers_after(&self.search(), output, &map);
            let (name, channels) = (node_name(self.graph, *id), map.channels.len());
            match way.and_then(|way| self.commit(name.clone(), &map, way, Side::Before)) {
                Ok(()) => self.reset.push((*id, channels, float)),
                Err(refusal) => self.folding.report.kept.push(Unfolded::new(name, refusal, None)),
            }
        }
    }

    /// The output of a layer or RMS normalization of the last axis, the map γ·x + β that it ends
    /// with, and the type of γ.
    fn gamma_and_beta(&self, id: NodeId) -> Option<(ValueId, Map, Float)> {
        let node = &self.graph.nodes[id];
        if !node.is("LayerNormalization") && !node.is("RMSNormalization") {
            return None;
        }
        let (input, output) = (node.input(0)?, node.first_output()?);
        let axis = node.integer("axis", -1);
        if axis != -1 && self.shapes.rank(input).map(|rank| rank as i64 - 1) != Some(axis) {
            return None;
        }
        let floats = |value: ValueId| self.search().scope.floats(value).ok();
        let gamma = floats(node.input(1)?).filter(|gamma| gamma.dims.len() == 1)?;
        let beta = match node.input(2) {
            None => vec![0.0; gamma.values.len()],
            Some(beta) => floats(beta)?.values.to_vec(),
        };
        let formula = Formula::ScaleShift { gamma: gamma.values.to_vec(), beta };
        Some((output, Map::new(formula, Some(Axis::Back(0))).ok()?, gamma.values.float))
    }
}
