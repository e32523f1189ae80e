//! Batch normalizations that share their statistics, each through a link.

use std::cell::RefCell;
use std::sync::Arc;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;
use cellnorm::ranks::Communicator;

thread_local! {
    static CONVERTING: RefCell<Option<Arc<dyn Communicator>>> = const { RefCell::new(None) };
}

/// The other ranks that a layer shares statistics with; none unless it was converted. It is no part
/// of records.
///
/// Burn shows mappers a module's tensors and nothing else, so a link looks for itself whether a
/// conversion is on its way through the module that it is in.
#[derive(Clone, Debug, Default)]
pub struct Link(Option<Arc<dyn Communicator>>);

impl Link {
    /// To these ranks.
    pub fn over(ranks: Arc<dyn Communicator>) -> Self {
        Self(Some(ranks))
    }

    /// The communicator that carries tables to the others.
    pub fn ranks(&self) -> Option<&Arc<dyn Communicator>> {
        self.0.as_ref()
    }
}

impl Module for Link {
    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        CONVERTING.with_borrow(|ranks| match ranks {
            Some(ranks) => Self(Some(ranks.clone())),
            None => self,
        })
    }

    fn to_device(self, _device: &Device) -> Self {
        self
    }

    fn fork(self, _device: &Device) -> Self {
        self
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn train(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Link {
    fn content(&self, content: Content) -> Option<Content> {
        let ranks =
            self.0.as_ref().map_or("alone".into(), |ranks| format!("{} ranks", ranks.size()));
        content.add_formatted(&ranks).optional()
    }
}

impl ModuleDisplay for Link {}

/// The same module, whose batch normalizations ([`BatchNorm`](crate::BatchNorm)) take the
/// statistics of training from all ranks together. What PyTorch calls
/// `SyncBatchNorm.convert_sync_batch_norm`; here the layer stays what it is, and so do its records.
///
/// Then every rank must run the same layers in the same order, with the same settings: a rank that
/// fails ends all of them, with a panic that says why. Parts may be of any size, and one value a
/// channel is only too few if there is no other on any rank. In inference nothing is exchanged. The
/// gradients of γ and β are a rank's share, as those of all parameters:
/// [`sum_gradients`](super::sum_gradients).
///
/// Make each rank's network on its own thread: clones share the leaves of Burn's graph, whose lock
/// one rank would hold while it waits for another. With `OneValue::UseRunning`, the running
/// statistics normalize a single value over all ranks, and stay. NaN or infinity in x, on any rank,
/// ends all of them with a panic.
///
/// Layers of other kinds, Burn's own batch normalization among them, stay alone. It runs on the CPU
/// backend Flex.
///
/// [`recalibrate`](crate::recalibrate) of such a module is over all ranks, too: each runs equally
/// many batches of its own, and finds the statistics of all of them.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::{
///     BatchNormConfig,
///     ranks::{Communicator, Threads, convert_sync_batch_norm},
/// };
/// use std::{sync::Arc, thread};
/// let rank = |over: Threads| {
///     let values = [[1.0, 3.0], [5.0, 7.0]][over.rank()];
///     let device = Device::flex().autodiff();
///     let layer =
///         convert_sync_batch_norm(BatchNormConfig::new(1).init(&device), Arc::new(over));
///     layer.forward(Tensor::<1>::from_floats(values, &device).reshape([2, 1]));
///     layer.running_mean.value_sync().into_scalar::<f32>()
/// };
/// let means = thread::scope(|scope| {
///     let ranks: Vec<_> = Threads::split(2)
///         .into_iter()
///         .map(|over| scope.spawn(move || rank(over)))
///         .collect();
///     ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<f32>>()
/// });
/// assert_eq!(means, [0.4, 0.4]); // a tenth of the mean of 1, 3, 5, 7
/// ```
pub fn convert_sync_batch_norm<M: Module>(module: M, ranks: Arc<dyn Communicator>) -> M {
    /// However the mapping ends.
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            CONVERTING.set(None);
        }
    }
    struct AsItIs;
    impl ModuleMapper for AsItIs {}
    CONVERTING.set(Some(ranks));
    let _done = Done;
    module.map(&mut AsItIs)
}
