//! The networks and their sizes, which are the same in both frameworks.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    Burn,
    Candle,
}

impl Framework {
    pub const ALL: [Framework; 2] = [Framework::Burn, Framework::Candle];

    pub fn name(self) -> &'static str {
        match self {
            Framework::Burn => "burn",
            Framework::Candle => "candle",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Resnet18,
    Convnext,
    Transformer,
    Unet,
}

impl Network {
    pub const ALL: [Network; 4] =
        [Network::Resnet18, Network::Convnext, Network::Transformer, Network::Unet];

    pub fn name(self) -> &'static str {
        match self {
            Network::Resnet18 => "resnet18",
            Network::Convnext => "convnext",
            Network::Transformer => "transformer",
            Network::Unet => "unet",
        }
    }

    pub fn normalization(self) -> &'static str {
        match self {
            Network::Resnet18 => "batch",
            Network::Convnext | Network::Transformer => "layer",
            Network::Unet => "group",
        }
    }
}

/// Whose layers normalize.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// The framework's own.
    Theirs,
    /// Cellnorm's.
    Ours,
}

impl Norms {
    pub const ALL: [Norms; 2] = [Norms::Theirs, Norms::Ours];
}

/// The epsilon of all layers, which is the default of both frameworks' and of ours.
pub const EPSILON: f64 = 1e-5;
/// Large enough that a step shows in the loss, small enough that training is stable.
pub const LEARNING_RATE: f64 = 0.01;
/// Classes of the networks that classify.
pub const CLASSES: usize = 10;

/// ResNet-18 for images of CIFAR's size: a 3×3 convolution and no pooling at the start.
pub mod resnet18 {
    pub const BATCH: usize = 16;
    pub const SIDE: usize = 32;
    pub const WIDTHS: [usize; 4] = [64, 128, 256, 512];
    /// Blocks of a stage.
    pub const DEPTH: usize = 2;
}

/// A small ConvNeXt, without layer scale and stochastic depth.
pub mod convnext {
    pub const BATCH: usize = 16;
    pub const SIDE: usize = 64;
    pub const WIDTHS: [usize; 4] = [40, 80, 160, 320];
    pub const DEPTHS: [usize; 4] = [2, 2, 4, 2];
    /// The side of a patch that the stem makes one position of.
    pub const PATCH: usize = 4;
    /// The side of the kernel of each channel.
    pub const KERNEL: usize = 7;
    /// Times as wide inside a block.
    pub const EXPANSION: usize = 4;
}

/// A transformer encoder that normalizes before attention and before the perceptron.
pub mod transformer {
    pub const BATCH: usize = 8;
    pub const LENGTH: usize = 128;
    pub const SYMBOLS: usize = 1024;
    pub const WIDTH: usize = 256;
    pub const HEADS: usize = 4;
    pub const BLOCKS: usize = 6;
    /// Times as wide inside a perceptron.
    pub const EXPANSION: usize = 4;
}

/// A U-Net of two levels and a bottom.
pub mod unet {
    pub const BATCH: usize = 8;
    pub const SIDE: usize = 64;
    /// Of the two levels and the bottom.
    pub const WIDTHS: [usize; 3] = [32, 64, 128];
    pub const GROUPS: usize = 8;
}
