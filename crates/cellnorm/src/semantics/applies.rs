//! The inputs that a preset is for, where its framework has two layers of one name.

use super::Semantics;
use crate::normalization::Normalization;

impl Semantics {
    /// The inputs and options that these semantics are for; None where they are for all.
    ///
    /// ```
    /// use cellnorm::{Normalization, Semantics};
    /// let of = |preset| -> Result<_, cellnorm::Error> {
    ///     Ok(Semantics::preset(preset, Normalization::Batch)?.applies_to())
    /// };
    /// assert!(of("tf-keras-2-fused")?.unwrap().starts_with("input of 4 axes"));
    /// assert!(of("tf-keras-2")?.unwrap().contains("fused=False"));
    /// assert_eq!(of("keras-3")?, None);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn applies_to(&self) -> Option<&'static str> {
        match (self.framework(), self.normalization) {
            ("tf-keras-2-fused", Normalization::Batch) => Some(
                "input of 4 axes with the channels on axis 1 or 3, or of 5 axes with them on axis \
                 1 or 4, in f16, bf16 or f32; for all else see tf-keras-2",
            ),
            ("tf-keras-2", Normalization::Batch) => Some(
                "input of 2 or 3 axes, f64, several axes, and any with fused=False, renorm, \
                 virtual_batch_size or synchronized; for all else see tf-keras-2-fused",
            ),
            _ => None,
        }
    }
}
