//! Gradients of replicas, added up.

use std::collections::HashSet;
use std::vec;

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
    let somewhere: Vec<bool> =
        (0..shapes.len()).map(|parameter| all.iter().any(|flags| flags[parameter] > 0.0)).collect();
    let (somewhere, done) = (somewhere.into_iter(), HashSet::new());
    let mut sums = Sums { gradients, somewhere, over, failed: None, piece: vec![], done };
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
    /// For each parameter from the next one on, whether any rank has a gradient.
    somewhere: vec::IntoIter<bool>,
    over: &'a dyn Communicator,
    failed: Option<Error>,
    piece: Vec<f64>,
    /// The parameters already summed: a module may have one in two places.
    done: HashSet<ParamId>,
}

impl Sums<'_> {
    /// The sums of what these are on all ranks, of `len` zeros where this one has none; each as
    /// `narrow` makes it.
    fn all<T>(
        &mut self,
        own: Option<&TensorData>,
        len: usize,
        narrow: impl Fn(f64) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut sums = Vec::with_capacity(len);
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
            sums.extend(self.piece.iter().map(|sum| narrow(*sum)));
        }
        Ok(sums)
    }
}

impl ModuleVisitor for Sums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let somewhere = self.somewhere.next() == Some(true);
        if !somewhere || self.failed.is_some() || !self.done.insert(param.id) {
            return;
        }
        let (value, own) =
            (param.val(), self.gradients.remove::<D>(param.id).map(Tensor::into_data));
        let (shape, dtype) = (value.shape(), value.dtype());
        let len = shape.num_elements();
        let own = own.as_ref();
        let data = match dtype {
            DType::F32 => {
                self.all(own, len, |sum| sum as f32).map(|sums| TensorData::new(sums, shape))
            }
            _ => self.all(own, len, |sum| sum).map(|sums| TensorData::new(sums, shape)),
        };
        let device = value.device().inner();
        let sum = data.map(|data| Tensor::<D>::from_data(data, (&device, dtype)));
        match sum {
            Ok(sum) => self.gradients.register(param.id, sum),
            Err(error) => self.failed = Some(error),
        }
    }
}
