//! The normalizations whose cells share one mean and one variance, as a rule: for tensors under a
//! mask.
//!
//! The same formula as the closed form of [`Plan::forward`](crate::Plan::forward), which serves
//! tensors without a mask.

use super::{Coefficients, Figure, Given, Labels, Rule, Sharing, Slot, Table, Tracked};
use crate::arrays::Roles;
use crate::error::Error;
use crate::norms::Kind;
use crate::standardize::About;

/// What the axes of one tensor are for.
#[derive(Clone, Debug)]
pub struct Standard {
    /// The role of each axis.
    pub roles: Roles,
    /// What the values of a set are measured from.
    pub about: About,
}

impl Standard {
    /// The normalization of this kind, for tensors of this shape.
    ///
    /// # Errors
    /// If the shape does not suit the kind.
    pub fn new<K: Kind>(kind: &K, shape: &[usize], affine: bool) -> Result<Self, Error> {
        Ok(Self { roles: kind.roles(shape, affine)?, about: K::ABOUT })
    }

    /// The γ and β of each cell, row-major over the axes that carry them.
    fn channels<V: Table>(&self, figure: &Figure<'_, V>) -> Labels {
        let carries = |axis| self.roles.carries(axis);
        let Some((split, groups)) = self.roles.split().filter(|_| self.roles.per_group()) else {
            return figure.over(carries);
        };
        let size = figure.shape[split] / groups;
        let group = figure.over(|axis| axis == split).map(groups, |channel| channel / size);
        let before = figure.over(|axis| axis < split && carries(axis));
        before.and(&group).and(&figure.over(|axis| axis > split && carries(axis)))
    }
}

impl Rule for Standard {
    const NAME: &'static str = "normalization";

    fn slots(&self) -> Vec<Slot> {
        vec![]
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let along = self.roles.along(shape);
        Ok(vec![Sharing {
            name: Self::NAME,
            measure: self.about.into(),
            shape: shape.to_vec(),
            along,
        }])
    }

    fn numbered(&self, shape: &[usize]) -> Result<Vec<bool>, Error> {
        self.roles.check_groups(shape)?;
        Ok((0..shape.len())
            .map(|axis| !self.roles.shared(axis) || self.roles.carries(axis))
            .collect())
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let sets = &figure.sets[0];
        let channels = self.channels(figure);
        let (mean, variance) = match self.about {
            About::Mean => {
                let of = given.statistics(figure, sets).take(sets);
                (figure.center.clone() - of.mean, of.variance)
            }
            About::Zero => (figure.center.clone(), figure.mean_square(sets).take(sets)),
        };
        let r = given.rstd(variance);
        given.affine(r.clone(), r * mean, &channels)
    }

    fn tracked<V: Table>(
        &self,
        figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        let merged = Tracked::merged(figure, &figure.sets[0]);
        Some(match self.about {
            About::Mean => merged,
            About::Zero => Tracked {
                mean: merged.mean.times(0.0),
                variance: figure.mean_square(&figure.sets[0]),
                ..merged
            },
        })
    }
}
