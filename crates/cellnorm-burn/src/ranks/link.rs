//! The link through which a batch normalization shares its statistics.

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

    /// Maps a module, in which every link becomes one to these ranks.
    pub(super) fn convert<M: Module>(module: M, ranks: Arc<dyn Communicator>) -> M {
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
