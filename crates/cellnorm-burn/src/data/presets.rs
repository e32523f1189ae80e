//! Means and deviations of well-known data sets, for pixels in \[0, 1\].

use cellnorm::data::known::{CIFAR10, FASHION_MNIST, IMAGENET, IMAGENET_POOLED, Known, MNIST};

use super::NormalizeConfig;

impl NormalizeConfig {
    /// Statistics of a name, which say where they come from.
    pub fn known(known: &Known) -> Self {
        Self::new(known.mean.to_vec(), known.deviation.to_vec())
    }

    /// ImageNet, red, green, blue: mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225.
    ///
    /// The numbers that torchvision's models are trained with. The deviations are means of the
    /// deviations within single images of a subset; those of all pixels together are about 19 %
    /// larger ([`imagenet_pooled`](Self::imagenet_pooled)). A network that was trained with the
    /// former needs them.
    pub fn imagenet() -> Self {
        Self::known(&IMAGENET)
    }

    /// ImageNet, all pixels together: deviation 0.2724, 0.2637, 0.2761.
    pub fn imagenet_pooled() -> Self {
        Self::known(&IMAGENET_POOLED)
    }

    /// MNIST: mean 0.1306604763, deviation 0.3081078039; usually written 0.1307 and 0.3081.
    pub fn mnist() -> Self {
        Self::known(&MNIST)
    }

    /// Fashion-MNIST: mean 0.2860405970, deviation 0.3530242445.
    pub fn fashion_mnist() -> Self {
        Self::known(&FASHION_MNIST)
    }

    /// CIFAR-10, red, green, blue: mean 0.4914, 0.4822, 0.4465, deviation 0.2470, 0.2435, 0.2616.
    pub fn cifar10() -> Self {
        Self::known(&CIFAR10)
    }

    /// \[0, 1\] to \[−1, 1\]: mean 0.5 and deviation 0.5 for each of so many channels.
    ///
    /// ```
    /// use cellnorm_burn::data::NormalizeConfig;
    /// let ends = NormalizeConfig::half(1).pixels(0)?.data(&[0, 255], &[1, 2])?;
    /// assert_eq!(ends.try_to_vec::<f32>().unwrap(), [-1.0, 1.0]);
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    pub fn half(channels: usize) -> Self {
        Self::new(vec![0.5; channels], vec![0.5; channels])
    }
}
