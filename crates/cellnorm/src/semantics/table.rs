//! The frameworks' semantics, as a table: read in the source of each at the version named, and run.
//!
//! A row says how it differs from the framework's first row, so what one framework says everywhere
//! is written once.

use super::GroupParameters::{PerChannel, PerGroup};
use super::Unlearned::{Absent, Applied, Ignored};
use super::{EpsilonAt, ParameterNames, Semantics};
use crate::momentum::OneValue::{self, AlwaysError, Beta};
use crate::momentum::{Frozen, Momentum, RunningVariance};
use crate::normalization::Normalization::{Batch, Group, Instance, Layer, Rms};
use crate::shape::Excluded;

impl ParameterNames {
    const fn new(
        gamma: &'static str,
        beta: &'static str,
        mean: &'static str,
        variance: &'static str,
    ) -> Self {
        Self { gamma, beta, mean, variance, steps: None, former: None }
    }

    const PYTORCH: Self = Self {
        steps: Some("num_batches_tracked"),
        ..Self::new("weight", "bias", "running_mean", "running_var")
    };
    /// Layers of BERT's first checkpoints, which were TensorFlow's.
    const PYTORCH_LAYER: Self = Self { former: Some(["gamma", "beta"]), ..Self::PYTORCH };
    const CANDLE: Self = Self::new("weight", "bias", "running_mean", "running_var");
    const KERAS: Self = Self::new("gamma", "beta", "moving_mean", "moving_variance");
    const KERAS_RMS: Self = Self { gamma: "scale", ..Self::KERAS };
    /// The symbol operator; Gluon's blocks have running statistics instead.
    const MXNET: Self = Self::new("gamma", "beta", "moving_mean", "moving_var");
    const GLUON: Self = Self::new("gamma", "beta", "running_mean", "running_var");
    const FLAX: Self = Self::new("scale", "bias", "mean", "var");
    const BURN: Self = Self::GLUON;
    const ONNX: Self = Self::new("scale", "B", "input_mean", "input_var");
    /// Batch normalization before opset 14.
    const ONNX_BATCH_1: Self = Self { mean: "mean", variance: "var", ..Self::ONNX };
    const ONNX_LAYER: Self = Self { gamma: "Scale", ..Self::ONNX };
    const ONNX_GROUP: Self = Self { beta: "bias", ..Self::ONNX };
}

/// PyTorch 2.15. Group normalization refuses one value a statistic only in a batch of one sample.
/// `InstanceNorm*d` has no γ and β unless asked for. The ε of `RMSNorm` is that of f32 where none
/// is given (in f64 that of f64).
const PYTORCH: Semantics = Semantics {
    name: "pytorch-2 batch",
    normalization: Batch,
    epsilon: 1e-5,
    epsilon_at: EpsilonAt::InsideRoot,
    channel_axis: 1,
    scale: true,
    center: true,
    unlearned_gamma: Absent,
    unlearned_beta: Absent,
    one_value: OneValue::Error,
    group_parameters: PerChannel,
    momentum: Momentum::Step(0.1),
    running_statistics: true,
    running_variance: RunningVariance::Unbiased,
    frozen: Frozen::ParametersOnly,
    renorm_momentum: None,
    ghost_interleaved: None,
    excluded: Excluded::Zero,
    names: ParameterNames::PYTORCH,
};

/// Keras 3.12 to 3.16. Its instance normalization is group normalization with `groups=-1`.
const KERAS: Semantics = Semantics {
    name: "keras-3 batch",
    epsilon: 1e-3,
    channel_axis: -1,
    one_value: Beta,
    momentum: Momentum::Keep(0.99),
    running_variance: RunningVariance::Biased,
    frozen: Frozen::Inference,
    excluded: Excluded::Normalized,
    names: ParameterNames::KERAS,
    ..PYTORCH
};

/// tf.keras 2.15 and Keras 2.15, layers that run on TensorFlow's fused operation: tensors of rank
/// 4, and of rank 5 with one axis.
const TF_FUSED: Semantics = Semantics {
    name: "tf-keras-2-fused batch",
    running_variance: RunningVariance::Unbiased,
    ..KERAS
};

/// MXNet 1.9.1's operators, on the CPU, with the `fix_gamma` they have by default: of what is not
/// learned, batch normalization's γ alone counts as 1; all else is applied as it is stored.
const MXNET: Semantics = Semantics {
    name: "mxnet-1.9-operator batch",
    channel_axis: 1,
    scale: false,
    unlearned_gamma: Ignored,
    unlearned_beta: Applied,
    momentum: Momentum::Keep(0.9),
    frozen: Frozen::ParametersOnly,
    excluded: Excluded::Zero,
    names: ParameterNames::MXNET,
    ..KERAS
};

/// MXNet 1.9.1's Gluon blocks, on the CPU.
const GLUON: Semantics = Semantics {
    name: "mxnet-1.9-gluon batch",
    epsilon: 1e-5,
    scale: true,
    names: ParameterNames::GLUON,
    ..MXNET
};

/// Flax 0.12.8, linen and nnx. Its fast variance, E[x²] − E[x]², is not part of this table: here it
/// is always exact.
const FLAX: Semantics = Semantics {
    name: "flax-0.12 batch",
    epsilon: 1e-5,
    frozen: Frozen::ParametersOnly,
    names: ParameterNames::FLAX,
    ..KERAS
};

/// burn-nn 0.22.
const BURN: Semantics = Semantics {
    name: "burn-0.22 batch",
    one_value: Beta,
    running_variance: RunningVariance::Biased,
    frozen: Frozen::Inference,
    names: ParameterNames::BURN,
    ..PYTORCH
};

/// candle-nn 0.11. One value a channel turns its running variance into NaN; here that is an error.
/// ε of group and RMS normalization has no default there.
const CANDLE: Semantics =
    Semantics { name: "candle-0.11 batch", names: ParameterNames::CANDLE, ..PYTORCH };

/// ONNX, whose operators have no γ or β that is absent, except layer normalization's bias.
const ONNX: Semantics = Semantics {
    name: "onnx-15 batch",
    epsilon: 1e-5,
    channel_axis: 1,
    unlearned_gamma: Applied,
    unlearned_beta: Applied,
    momentum: Momentum::Keep(0.9),
    excluded: Excluded::Zero,
    names: ParameterNames::ONNX,
    ..KERAS
};

/// Each framework's layers; ONNX's operators in the order of the opsets from which their rows hold.
pub(super) static TABLE: [Semantics; 50] = [
    PYTORCH,
    Semantics {
        name: "pytorch-2 layer",
        normalization: Layer,
        running_statistics: false,
        names: ParameterNames::PYTORCH_LAYER,
        channel_axis: -1,
        one_value: Beta,
        ..PYTORCH
    },
    Semantics {
        name: "pytorch-2 instance",
        normalization: Instance,
        running_statistics: false,
        scale: false,
        center: false,
        one_value: AlwaysError,
        ..PYTORCH
    },
    Semantics {
        name: "pytorch-2 group",
        normalization: Group,
        running_statistics: false,
        one_value: AlwaysError,
        ..PYTORCH
    },
    Semantics {
        name: "pytorch-2 rms",
        normalization: Rms,
        running_statistics: false,
        channel_axis: -1,
        epsilon: f32::EPSILON as f64,
        center: false,
        one_value: Beta,
        ..PYTORCH
    },
    Semantics { renorm_momentum: Some(Momentum::Keep(0.99)), ..KERAS },
    Semantics { name: "keras-3 layer", normalization: Layer, running_statistics: false, ..KERAS },
    Semantics {
        name: "keras-3 instance",
        normalization: Instance,
        running_statistics: false,
        ..KERAS
    },
    Semantics { name: "keras-3 group", normalization: Group, running_statistics: false, ..KERAS },
    Semantics {
        name: "keras-3 rms",
        normalization: Rms,
        running_statistics: false,
        epsilon: 1e-6,
        center: false,
        names: ParameterNames::KERAS_RMS,
        ..KERAS
    },
    TF_FUSED,
    Semantics {
        name: "tf-keras-2 batch",
        renorm_momentum: Some(Momentum::Keep(0.99)),
        ghost_interleaved: Some(true),
        ..KERAS
    },
    Semantics {
        name: "tf-keras-2 layer",
        normalization: Layer,
        running_statistics: false,
        ..KERAS
    },
    Semantics {
        name: "tf-keras-2 instance",
        normalization: Instance,
        running_statistics: false,
        ..KERAS
    },
    Semantics {
        name: "tf-keras-2 group",
        normalization: Group,
        running_statistics: false,
        ..KERAS
    },
    Semantics {
        name: "keras-2.3 batch",
        running_variance: RunningVariance::KerasLegacy,
        frozen: Frozen::BatchStatistics,
        ..KERAS
    },
    Semantics {
        name: "tfa-0.23 instance",
        normalization: Instance,
        running_statistics: false,
        ..KERAS
    },
    Semantics { name: "tfa-0.23 group", normalization: Group, running_statistics: false, ..KERAS },
    MXNET,
    Semantics {
        name: "mxnet-1.9-operator layer",
        normalization: Layer,
        running_statistics: false,
        unlearned_gamma: Applied,
        epsilon: 1e-5,
        channel_axis: -1,
        scale: true,
        ..MXNET
    },
    Semantics {
        name: "mxnet-1.9-operator instance",
        normalization: Instance,
        running_statistics: false,
        unlearned_gamma: Applied,
        scale: true,
        ..MXNET
    },
    Semantics {
        name: "mxnet-1.9-operator group",
        normalization: Group,
        running_statistics: false,
        unlearned_gamma: Applied,
        epsilon: 1e-5,
        scale: true,
        group_parameters: PerGroup,
        ..MXNET
    },
    GLUON,
    Semantics {
        name: "mxnet-1.9-gluon layer",
        normalization: Layer,
        running_statistics: false,
        unlearned_gamma: Applied,
        channel_axis: -1,
        ..GLUON
    },
    Semantics {
        name: "mxnet-1.9-gluon instance",
        normalization: Instance,
        running_statistics: false,
        unlearned_gamma: Applied,
        scale: false,
        ..GLUON
    },
    Semantics {
        name: "mxnet-1.9-gluon group",
        normalization: Group,
        running_statistics: false,
        unlearned_gamma: Applied,
        group_parameters: PerGroup,
        ..GLUON
    },
    FLAX,
    Semantics {
        name: "flax-0.12 layer",
        normalization: Layer,
        running_statistics: false,
        epsilon: 1e-6,
        ..FLAX
    },
    Semantics {
        name: "flax-0.12 instance",
        normalization: Instance,
        running_statistics: false,
        epsilon: 1e-6,
        ..FLAX
    },
    Semantics {
        name: "flax-0.12 group",
        normalization: Group,
        running_statistics: false,
        epsilon: 1e-6,
        ..FLAX
    },
    Semantics {
        name: "flax-0.12 rms",
        normalization: Rms,
        running_statistics: false,
        epsilon: 1e-6,
        center: false,
        ..FLAX
    },
    BURN,
    Semantics {
        name: "burn-0.22 layer",
        normalization: Layer,
        running_statistics: false,
        channel_axis: -1,
        ..BURN
    },
    Semantics {
        name: "burn-0.22 instance",
        normalization: Instance,
        running_statistics: false,
        ..BURN
    },
    Semantics { name: "burn-0.22 group", normalization: Group, running_statistics: false, ..BURN },
    Semantics {
        name: "burn-0.22 rms",
        normalization: Rms,
        running_statistics: false,
        channel_axis: -1,
        center: false,
        ..BURN
    },
    CANDLE,
    Semantics {
        name: "candle-0.11 layer",
        normalization: Layer,
        running_statistics: false,
        channel_axis: -1,
        one_value: Beta,
        ..CANDLE
    },
    Semantics {
        name: "candle-0.11 group",
        normalization: Group,
        running_statistics: false,
        one_value: Beta,
        ..CANDLE
    },
    Semantics {
        name: "candle-0.11 rms",
        normalization: Rms,
        running_statistics: false,
        channel_axis: -1,
        center: false,
        one_value: Beta,
        ..CANDLE
    },
    Semantics { name: "onnx-1 batch", names: ParameterNames::ONNX_BATCH_1, ..ONNX },
    Semantics {
        name: "onnx-1 instance",
        normalization: Instance,
        running_statistics: false,
        ..ONNX
    },
    Semantics { name: "onnx-9 batch", names: ParameterNames::ONNX_BATCH_1, ..ONNX },
    Semantics { name: "onnx-14 batch", ..ONNX },
    ONNX,
    Semantics {
        name: "onnx-17 layer",
        normalization: Layer,
        running_statistics: false,
        channel_axis: -1,
        names: ParameterNames::ONNX_LAYER,
        ..ONNX
    },
    Semantics {
        name: "onnx-18 group",
        normalization: Group,
        running_statistics: false,
        group_parameters: PerGroup,
        names: ParameterNames::ONNX_GROUP,
        ..ONNX
    },
    Semantics {
        name: "onnx-21 group",
        normalization: Group,
        running_statistics: false,
        names: ParameterNames::ONNX_GROUP,
        ..ONNX
    },
    Semantics {
        name: "onnx-22 instance",
        normalization: Instance,
        running_statistics: false,
        ..ONNX
    },
    Semantics {
        name: "onnx-23 rms",
        normalization: Rms,
        running_statistics: false,
        channel_axis: -1,
        center: false,
        unlearned_beta: Absent,
        ..ONNX
    },
];
