//! The layers on tensors of which only some values count.

use ndarray::{Array, ArrayView, CowArray, Dimension};

use super::{BatchNorm, Kind, Mode, Norm, Saved, StatisticsFrom};
use crate::element::Element;
use crate::error::Error;
use crate::tables::Mask;

impl<K: Kind> Norm<K> {
    /// As [`forward`](Self::forward), over the valid values alone: y is 0 at the others, and
    /// `backward`, which is the same as without a mask, gives 0 for their dx.
    ///
    /// A set of one valid value gives β, whatever [`one_value`](Self::one_value) says; a set of
    /// none has nothing to give.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), but for one value, and if the mask does not fit x; values
    /// that are not valid may hold anything.
    ///
    /// ```
    /// use cellnorm::{LayerNormConfig, tables::Mask};
    /// let x = ndarray::array![[1.0, 3.0, f64::NAN], [4.0, 6.0, 8.0]];
    /// let layer = LayerNormConfig::new(&[3]).init()?;
    /// let (y, _) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 3], 1))?;
    /// assert!((y[[0, 1]] - 1.0).abs() < 1e-5);
    /// assert_eq!(y[[0, 2]], 0.0);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn forward_masked<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        mask: &Mask,
    ) -> Result<(Array<T, D>, Saved), Error> {
        let roles = self.roles(x.shape())?;
        let shape = self.kind.parameter_shape();
        let (y, saved, _) =
            self.run(&shape).forward_masked(CowArray::from(x), &roles, mask, None)?;
        Ok((y, saved))
    }
}

impl BatchNorm {
    /// As [`forward`](Self::forward), over the valid values alone: y is 0 at the others, and
    /// `backward`, which is the same as without a mask, gives 0 for their dx.
    ///
    /// A channel of one valid value gives β, whatever [`one_value`](Self::one_value) says, and
    /// moves its running variance only as [`RunningVariance::moves`](super::RunningVariance::moves)
    /// says. The running statistics of a channel without any stay; the unbiased variance is by the
    /// number of valid values.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), but for one value, and if the mask does not fit x; values
    /// that are not valid may hold anything.
    pub fn forward_masked<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: &Mask,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check_running()?;
        self.momentum.check()?;
        let roles = self.kind.roles(x.shape(), true)?;
        let Mode { statistics, update, .. } = self.mode;
        let fixed = (statistics == StatisticsFrom::Running).then(|| self.running());
        let shape = [self.kind.channels];
        let run = self.run(&shape);
        let (y, saved, values) =
            run.forward_masked(CowArray::from(x.view()), &roles, mask, fixed.as_ref())?;
        if update {
            let batch = match fixed {
                None => saved.statistics.clone(),
                Some(_) => run.forward_masked(CowArray::from(x), &roles, mask, None)?.1.statistics,
            };
            self.follow(&batch, &values);
        }
        Ok((y, saved))
    }

    /// As [`infer`](Self::infer), with 0 at the values that are not valid.
    ///
    /// # Errors
    /// As [`infer`](Self::infer), if the mask does not fit x, or if a valid value is NaN or
    /// infinite: here the cells are summed.
    pub fn infer_masked<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
        mask: &Mask,
    ) -> Result<Array<T, D>, Error> {
        let x = x.into();
        self.check_running()?;
        let roles = self.kind.roles(x.shape(), true)?;
        let shape = [self.kind.channels];
        Ok(self.run(&shape).forward_masked(x, &roles, mask, Some(&self.running()))?.0)
    }
}
