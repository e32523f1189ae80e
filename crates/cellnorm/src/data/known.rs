//! Statistics that are used everywhere, by name, with what they are.

/// Means and deviations of numbers between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// The name.
    pub name: &'static str,
    /// The mean of each channel.
    pub mean: &'static [f64],
    /// The standard deviation of each channel.
    pub deviation: &'static [f64],
    /// Where they come from.
    pub source: &'static str,
}

/// ImageNet, as torchvision's models want it.
pub const IMAGENET: Known = Known {
    name: "imagenet",
    mean: &[0.485, 0.456, 0.406],
    deviation: &[0.229, 0.224, 0.225],
    source: "torchvision's constants: means of the deviations of single images, of a random part \
             of the training set that was not kept; all pixels together deviate about 19 % more",
};

/// ImageNet, all pixels together.
pub const IMAGENET_POOLED: Known = Known {
    name: "imagenet-pooled",
    mean: &[0.4845, 0.4541, 0.4025],
    deviation: &[0.2724, 0.2637, 0.2761],
    source: "all pixels of ImageNet's training set after Resize(256) and CenterCrop(224), \
             torchvision pull request 1965",
};

/// MNIST.
pub const MNIST: Known = Known {
    name: "mnist",
    mean: &[0.1306604763],
    deviation: &[0.3081078039],
    source: "all pixels of the training images; usually written 0.1307 and 0.3081",
};

/// Fashion-MNIST.
pub const FASHION_MNIST: Known = Known {
    name: "fashion-mnist",
    mean: &[0.2860405970],
    deviation: &[0.3530242445],
    source: "all pixels of the training images",
};

/// CIFAR-10.
pub const CIFAR10: Known = Known {
    name: "cifar10",
    mean: &[0.4914, 0.4822, 0.4465],
    deviation: &[0.2470, 0.2435, 0.2616],
    source: "all pixels of the training images, as commonly published",
};

/// From 0 and 1 to −1 and 1.
pub const HALF: Known = Known {
    name: "half",
    mean: &[0.5],
    deviation: &[0.5],
    source: "not of any data: it maps 0 to -1 and 1 to 1",
};

/// All of them.
pub const ALL: [Known; 6] = [IMAGENET, IMAGENET_POOLED, MNIST, FASHION_MNIST, CIFAR10, HALF];

/// The statistics of a name.
///
/// ```
/// use cellnorm::data::known::{MNIST, known};
/// assert_eq!(known("mnist"), Some(&MNIST));
/// assert_eq!(known("cifar"), None);
/// ```
pub fn known(name: &str) -> Option<&'static Known> {
    const NAMED: &[Known] = &ALL;
    NAMED.iter().find(|known| known.name == name)
}
