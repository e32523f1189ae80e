//! Gradients of replicas, added up.

use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};
use cellnorm::Error;
use cellnorm::ranks::{Communicator, exchange};

/// The sums over ranks of the gradients of a module's parameters, the same bits on every rank. A
/// parameter that only some ranks have a gradient of counts as 0 on the others.
///
/// # Errors
/// If a rank has another module, or is gone.
///
/// ```
/// use burn::{
///     optim::GradientsParams,
///     tensor::{Device, Tensor},
/// };
/// use cellnorm_burn::{
///     LayerNormConfig,
///     ranks::{Alone, sum_gradients},
/// };
/// let device = Device::flex().autodiff();
/// let layer = LayerNormConfig::new(3).init(&device);
/// let loss = layer.forward(Tensor::<2>::ones([2, 3], &device)).sum();
/// let gradients =
///     sum_gradients(&layer, GradientsParams::from_grads(loss.backward(), &layer), &Alone)?;
/// let beta = layer.beta.as_ref().unwrap().id;
/// assert_eq!(
///     gradients.get::<1>(beta).unwrap().into_data().to_vec::<f32>().unwrap(),
///     [2.0; 3]
/// );
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
pub fn sum_gradients<M: Module>(
    module: &M,
    gradients: GradientsParams,
    over: &dyn Communicator,
) -> Result<GradientsParams, Error> {
    let mut there = There { gradients: &gradients, flags: vec![], shapes: vec![] };
    module.visit(&mut there);
    let There { flags, shapes, .. } = there;
    let request = format!("the sum of the gradients of parameters {shapes:?}");
    let all = exchange::<Error>(over, &request, Ok(flags))?;
    let somewhere =
        (0..shapes.len()).map(|parameter| all.iter().any(|flags| flags[parameter] > 0.0)).collect();
    let mut sums = Sums {
        gradients,
        somewhere,
        over,
        failed: None,
        piece: vec![],
        parameter: 0,
        done: HashSet::new(),
    };
    module.visit(&mut sums);
    match sums.failed {
        Some(error) => Err(error),
        None => Ok(sums.gradients),
    }
}

/// Which parameters have a gradient on this rank: 1 for each that has.
struct There<'a> {
    gradients: &'a GradientsParams,
    flags: Vec<f64>,
    shapes: Vec<Vec<usize>>,
}

impl ModuleVisitor for There<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes.push(param.val().dims().to_vec());
        self.flags.push(f64::from(u8::from(self.gradients.get::<D>(param.id).is_some())));
    }
}

/// Numbers that are summed at once: few enough for their memory to be used again by the next, which
/// the system does not have to clear.
const PIECE: usize = 1 << 15;

/// Puts sums in the place of gradients.
struct Sums<'a> {
    gradients: GradientsParams,
    /// For each parameter, whether any rank has a gradient.
    somewhere: Vec<bool>,
    over: &'a dyn Communicator,
    failed: Option<Error>,
    piece: Vec<f64>,
    /// The number of the next one.
    parameter: usize,
    /// The parameters already summed: a module may have one in two places.
    done: HashSet<ParamId>,
}

impl Sums<'_> {
    /// The sums of what these are on all ranks; `len` zeros where this one has none.
    fn of(
        &mut self,
        own: Option<&TensorData>,
        len: usize,
        mut sum: impl FnMut(&[f64]),
    ) -> Result<(), Error> {
        let single = own.and_then(|own| own.as_slice::<f32>().ok());
        let mut wide = own.filter(|_| single.is_none()).map(|own| own.iter::<f64>());
        for start in (0..len).step_by(PIECE) {
            let end = (start + PIECE).min(len);
            self.piece.clear();
            match (single, &mut wide) {
                (Some(own), _) => {
                    self.piece.extend(own[start..end].iter().map(|value| f64::from(*value)))
                }
                (None, Some(own)) => self.piece.extend(own.take(end - start)),
                (None, None) => self.piece.resize(end - start, 0.0),
            }
            self.over.sum(&mut self.piece)?;
            sum(&self.piece);
        }
        Ok(())
    }
}

impl ModuleVisitor for Sums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let somewhere = self.somewhere[self.parameter];
        self.parameter += 1;
        if !somewhere || self.failed.is_some() || !self.done.insert(param.id) {
            return;
        }
        let (value, own) =
            (param.val(), self.gradients.remove::<D>(param.id).map(Tensor::into_data));
        let (shape, dtype) = (value.shape(), value.dtype());
        let len = shape.num_elements();
        let single = if dtype == DType::F32 { len } else { 0 };
        let (mut single, mut wide) = (Vec::with_capacity(single), Vec::with_capacity(len - single));
        let summed = self.of(own.as_ref(), len, |piece| match dtype {
            DType::F32 => single.extend(piece.iter().map(|sum| *sum as f32)),
            _ => wide.extend_from_slice(piece),
        });
        if let Err(error) = summed {
            self.failed = Some(error);
            return;
        }
        let data = if dtype == DType::F32 {
            TensorData::new(single, shape)
        } else {
            TensorData::new(wide, shape)
        };
        let sum = Tensor::<D>::from_data(data, (&value.device().inner(), dtype));
        self.gradients.register(param.id, sum);
    }
}
