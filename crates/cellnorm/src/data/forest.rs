//! Parts of a data set under their places: neighbours become one as soon as both are there, in
//! pairs as in a tournament.
//!
//! Floats do not add up to the same bits in another order. Here the order is that of the places and
//! nothing else: a node covers 2ˡ places from a multiple of 2ˡ on, and two such halves make the
//! next. So any number of threads, any order and any split into shards give the same bits, and what
//! is there says which parts are done.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Error;

/// A value of a part of a data set that can be merged with that of the part after it.
pub trait Merge {
    /// Of both; `self` is of what comes first.
    fn merge(self, later: &Self) -> Self;
}

impl<T: Merge> Merge for Vec<T> {
    /// One by one.
    ///
    /// # Panics
    /// If there are not equally many.
    fn merge(self, later: &Self) -> Self {
        assert_eq!(self.len(), later.len(), "the parts of one data set have the same channels");
        self.into_iter().zip(later).map(|(a, b)| a.merge(b)).collect()
    }
}

/// Parts of a data set, merged as far as they are neighbours.
///
/// ```
/// use cellnorm::Moments;
/// use cellnorm::data::Forest;
/// let parts = [0.1, 0.2, 0.3].map(|x| Moments::of(&[x]));
/// let (mut one, mut other) = (Forest::default(), Forest::default());
/// for place in [0, 1, 2] {
///     one.insert(place, 0, parts[place as usize])?;
/// }
/// for place in [2, 0, 1] {
///     other.insert(place, 0, parts[place as usize])?;
/// }
/// assert_eq!(one.total(), other.total());
/// assert!(one.insert(1, 0, parts[1]).is_err(), "it is there already");
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Forest<T> {
    nodes: BTreeMap<u64, (u32, T)>,
}

impl<T> Default for Forest<T> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new() }
    }
}

impl<T> Forest<T> {
    /// The nodes in order: the first place, the level ˡ, and what is there.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, u32, &T)> {
        self.nodes.iter().map(|(start, (level, part))| (*start, *level, part))
    }

    /// Whether a place is covered.
    pub fn contains(&self, place: u64) -> bool {
        self.overlap(place..place.saturating_add(1)).is_some()
    }

    /// How many places are covered.
    pub fn places(&self) -> u64 {
        self.nodes.values().map(|(level, _)| 1_u64 << level).sum()
    }

    /// The first place of a range that is covered already.
    fn overlap(&self, range: Range<u64>) -> Option<u64> {
        let (start, (level, _)) = self.nodes.range(..range.end).next_back()?;
        // of nodes that do not overlap the last one reaches farthest
        (start + (1 << level) > range.start).then_some(range.start.max(*start))
    }
}

impl<T: Merge> Forest<T> {
    /// Adds what covers 2^`level` places from `start` on.
    ///
    /// # Errors
    /// If `start` is no multiple of 2^`level`, the level is above 62, or a place is covered.
    pub fn insert(&mut self, start: u64, level: u32, part: T) -> Result<(), Error> {
        if level > 62
            || !start.is_multiple_of(1 << level)
            || start.checked_add(1 << level).is_none()
        {
            return Err(Error::Place { start, level });
        }
        if let Some(place) = self.overlap(start..start + (1 << level)) {
            return Err(Error::PlaceTwice { place });
        }
        let (mut start, mut level, mut part) = (start, level, part);
        while level < 62 {
            let sibling = start ^ 1 << level;
            match self.nodes.get(&sibling) {
                Some((other, _)) if *other == level => {}
                _ => break,
            }
            let Some((_, other)) = self.nodes.remove(&sibling) else { break };
            part = if sibling < start { other.merge(&part) } else { part.merge(&other) };
            start = start.min(sibling);
            level += 1;
        }
        self.nodes.insert(start, (level, part));
        Ok(())
    }

    /// Adds all of another forest.
    ///
    /// # Errors
    /// If both cover a place.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        let twice =
            other.nodes().find_map(|(start, level, _)| self.overlap(start..start + (1 << level)));
        if let Some(place) = twice {
            return Err(Error::PlaceTwice { place });
        }
        let mut nodes = other.nodes.into_iter();
        nodes.try_for_each(|(start, (level, part))| self.insert(start, level, part))
    }

    /// All together, in the order of the places; `None` if there is nothing.
    pub fn total(&self) -> Option<T>
    where
        T: Clone,
    {
        let mut parts = self.nodes.values().map(|(_, part)| part);
        let first = parts.next()?.clone();
        Some(parts.fold(first, |all, part| all.merge(part)))
    }
}

/// Merges places in the order in which a forest merges a power of two of them; `None` for none.
pub(super) fn tournament<T: Merge>(
    places: Range<usize>,
    of: &mut impl FnMut(usize) -> T,
) -> Option<T> {
    if places.len() < 2 {
        return places.map(of).next();
    }
    let half = places.start + places.len().next_power_of_two() / 2;
    let first = tournament(places.start..half, of)?;
    Some(first.merge(&tournament(half..places.end, of)?))
}

impl Merge for crate::moments::Moments {
    fn merge(self, later: &Self) -> Self {
        Self::merge(self, *later)
    }
}
