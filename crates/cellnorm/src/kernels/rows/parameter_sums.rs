//! The gradients of a row's parameters, Σ g x̂ and Σ g over rows, with g = dy · act′(z).
//!
//! They are added up in the computing type for a few rows, then in f64. The row's own Σ γ g · (x −
//! center) is taken of x̂ and divided by its scale in f64: where x is near the largest number, it
//! need not fit the computing type.

use super::ParameterGradients;
use crate::kernels::activation::Epilogue;
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::lines::Aligned;
use crate::kernels::pre_activation::RowPreActivation;
use crate::kernels::vectors::Vectors;
use crate::kernels::{BLOCK, Sums};
use crate::kernels::{Element, Real};

/// How many rows the parameters' gradients are added over in the computing type before they go to
/// f64.
pub(super) const ROWS: usize = 64;

/// Σ dy · x̂ and Σ dy over a few rows; empty where not asked for.
pub(super) struct ParameterSums<A> {
    gamma: Aligned<A>,
    beta: Aligned<A>,
}

impl<A: Real> ParameterSums<A> {
    pub(super) fn new(width: usize, gamma: bool, beta: bool) -> Self {
        let zeros =
            |wanted: bool| Aligned::new(if wanted { width.max(LANES) } else { 0 }, A::default());
        Self { gamma: zeros(gamma), beta: zeros(beta) }
    }

    /// Adds a row, and returns its Σ γ g and Σ γ g · (x − center).
    #[inline(always)]
    pub(super) fn add<S: Vectors, T: Element<Acc = A>, E: Epilogue>(
        &mut self,
        x: &[T],
        dy: &[T],
        through: &RowPreActivation<'_, A, E>,
    ) -> Sums {
        let zero = Lanes::<A, S>::zero();
        let RowPreActivation { affine, gamma, .. } = *through;
        let [sums_gamma, sums_beta] = [&mut *self.gamma, &mut *self.beta];
        let [center, scale, offset] = affine.map(Lanes::splat);
        let (with_gamma, with_beta) = (!sums_gamma.is_empty(), !sums_beta.is_empty());
        let mut sums = Sums::default();
        let whole = x.len() / LANES * LANES;
        let reach = |row: &[A]| row.is_empty() || row.len() >= whole;
        assert!(
            dy.len() == x.len() && gamma.len() >= whole && reach(sums_gamma) && reach(sums_beta)
        );
        let mut start = 0;
        while start < whole {
            let end = (start + BLOCK).min(whole);
            let (mut s1, mut s2) = (zero, zero);
            let mut at = start;
            while at < end {
                // SAFETY: at + 16 ≤ whole, which x, dy and γ reach, and the sums of γ and β where
                // they are there.
                let (x, dy, gamma) = unsafe {
                    (
                        Lanes::load_unchecked(x, at),
                        Lanes::load_unchecked(dy, at),
                        Lanes::load_unchecked(gamma, at),
                    )
                };
                let scaled = (x - center) * scale;
                let normalized = scaled + offset;
                let g = through.g(at, normalized, dy);
                let weighted = g * gamma;
                s1 = s1 + weighted;
                s2 = s2 + weighted * scaled;
                // SAFETY: as above.
                unsafe {
                    if with_gamma {
                        Lanes::add_unchecked(sums_gamma, at, g * normalized);
                    }
                    if with_beta {
                        Lanes::add_unchecked(sums_beta, at, g);
                    }
                }
                at += LANES;
            }
            sums = sums.plus(Sums { dy: s1.sum(), dy_x: s2.sum() });
            start = end;
        }
        for at in whole..x.len() {
            let centered = x[at].widen() - affine[0];
            let scaled = centered * affine[1];
            let normalized = scaled + affine[2];
            let g = through.g_of_one(at, normalized, dy[at].widen());
            let weighted = g * gamma[at];
            sums = sums.plus(Sums { dy: weighted.to_f64(), dy_x: (weighted * scaled).to_f64() });
            if with_gamma {
                sums_gamma[at] = sums_gamma[at] + g * normalized;
            }
            if with_beta {
                sums_beta[at] = sums_beta[at] + g;
            }
        }
        let scale = affine[1].to_f64();
        Sums { dy: sums.dy, dy_x: if scale == 0.0 { 0.0 } else { sums.dy_x / scale } }
    }

    pub(super) fn flush(&mut self, totals: &mut ParameterGradients) {
        for (total, part) in
            [(&mut totals.gamma, &mut self.gamma), (&mut totals.beta, &mut self.beta)]
        {
            for (total, part) in total.iter_mut().zip(&mut **part) {
                *total += part.to_f64();
                *part = A::default();
            }
        }
    }
}
