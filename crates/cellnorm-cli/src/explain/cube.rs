//! A tensor as a cube whose three sides are its samples, channels and positions.
//!
//! The set of one value is marked. A long side is drawn with gaps: cells are left out only between
//! two cells that are both in the set or both outside it, and never across the border of a block.

use std::ops::Range;

use cellnorm::explain::{Along, Explanation, Layout, Sharing};

use crate::format::join;

/// The cube, with the set of one value of a statistic marked.
pub struct Cube {
    /// The samples, or the outputs of a weight.
    pub samples: Side,
    /// The channels, or the inputs of a weight.
    pub channels: Side,
    /// The positions; None for a tensor that has none.
    pub positions: Option<Side>,
}

/// About how many cells there may be along each side.
pub struct Lengths {
    pub samples: usize,
    pub channels: usize,
    pub positions: usize,
}

pub struct Side {
    /// Its axes and their lengths: "H × W = 28 × 28 (axes 2, 3)".
    pub title: String,
    /// The letters of its axes: "h,w".
    pub letters: String,
    pub items: Vec<Item>,
}

/// One cell along a side, or several that are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its index; empty where cells are left out.
    pub label: String,
    /// Whether it belongs to the marked set.
    pub marked: bool,
    /// Whether a block begins here, after another.
    pub border: bool,
}

impl Item {
    /// Whether it stands for cells that are left out.
    pub fn is_gap(&self) -> bool {
        self.label.is_empty()
    }
}

impl Cube {
    pub fn new(explanation: &Explanation, sharing: &Sharing, lengths: &Lengths) -> Self {
        let layout = &explanation.layout;
        let set = sharing.set(&marked(sharing));
        let side = |axes: &[usize], length| Side::new(layout, sharing, &set, axes, length);
        let positions = layout.positions();
        Self {
            samples: side(&[layout.samples()], lengths.samples),
            channels: side(&[layout.channels()], lengths.channels),
            positions: (!positions.is_empty()).then(|| side(&positions, lengths.positions)),
        }
    }
}

/// The index of the value whose set is marked: 0 along each axis, the middle where windows slide.
pub fn marked(sharing: &Sharing) -> Vec<usize> {
    let index = |(along, len): (&Along, &usize)| {
        if matches!(along, Along::Window { .. }) { len / 2 } else { 0 }
    };
    sharing.along.iter().zip(&sharing.shape).map(index).collect()
}

impl Side {
    fn new(
        layout: &Layout,
        sharing: &Sharing,
        set: &[Range<usize>],
        axes: &[usize],
        length: usize,
    ) -> Self {
        let letters = || axes.iter().map(|axis| layout.letters()[*axis]);
        let lengths = axes.iter().map(|axis| sharing.shape[*axis]);
        let word = if axes.len() == 1 { "axis" } else { "axes" };
        Self {
            title: format!(
                "{} = {} ({word} {})",
                join(letters(), " × "),
                join(lengths, " × "),
                join(axes, ", ")
            ),
            letters: join(letters(), ",").to_lowercase(),
            items: side_items(sharing, set, axes, length),
        }
    }
}

/// The cells along some axes: axes that share alike as one, row-major; others one inside the other.
fn side_items(sharing: &Sharing, set: &[Range<usize>], axes: &[usize], length: usize) -> Vec<Item> {
    let long: Vec<usize> = axes.iter().copied().filter(|axis| sharing.shape[*axis] > 1).collect();
    let alike = long.windows(2).all(|pair| sharing.along[pair[0]] == sharing.along[pair[1]]);
    let name = |index: usize| {
        let mut rest = index;
        let mut parts = vec![0; axes.len()];
        for (part, axis) in parts.iter_mut().zip(axes).rev() {
            *part = rest % sharing.shape[*axis];
            rest /= sharing.shape[*axis];
        }
        join(parts, ",")
    };
    if alike {
        let len = axes.iter().map(|axis| sharing.shape[*axis]).product();
        let (range, block) = match long.as_slice() {
            [axis] => (set[*axis].clone(), block(sharing.along[*axis])),
            _ => (0..axes.iter().map(|axis| set[*axis].len()).product(), None),
        };
        return items(len, range, block, length, &name);
    }
    let [outer, inner] = [&axes[..1], &axes[1..]].map(|axes| side_items(sharing, set, axes, 3));
    let pair = |(outer, inner): (&Item, &Item)| Item {
        label: match outer.is_gap() || inner.is_gap() {
            true => String::new(),
            false => format!("{},{}", outer.label, inner.label),
        },
        marked: outer.marked && inner.marked,
        border: false,
    };
    let mut pairs: Vec<Item> = outer
        .iter()
        .flat_map(|outer| inner.iter().map(move |inner| (outer, inner)))
        .map(pair)
        .collect();
    // several gaps in a row become one
    pairs.dedup_by(|b, a| a.is_gap() && b.is_gap() && a.marked == b.marked);
    pairs
}

fn block(along: Along) -> Option<usize> {
    match along {
        Along::Blocks(size) => Some(size),
        _ => None,
    }
}

/// The cells of an axis: stretches that end where the set or a block does, with gaps inside them.
fn items(
    len: usize,
    set: Range<usize>,
    block: Option<usize>,
    length: usize,
    name: &dyn Fn(usize) -> String,
) -> Vec<Item> {
    let stretches: Vec<(Range<usize>, bool)> = match block {
        Some(size) => blocks(len.div_ceil(size), length)
            .into_iter()
            .map(|(blocks, left_out)| (blocks.start * size..(blocks.end * size).min(len), left_out))
            .collect(),
        None => [0..set.start, set.start..set.end, set.end..len]
            .into_iter()
            .filter(|stretch| !stretch.is_empty())
            .map(|stretch| (stretch, false))
            .collect(),
    };
    let single =
        stretches.iter().filter(|(stretch, left_out)| stretch.len() == 1 || *left_out).count();
    let share = length.saturating_sub(single) / (stretches.len() - single).max(1);
    let mut items = Vec::new();
    for (stretch, left_out) in stretches {
        let marked = set.contains(&stretch.start);
        // where room is short, what comes after the set begins with its gap; elsewhere a gap hides
        // three cells or more
        let short = length <= 4;
        let share =
            share.max(if short && block.is_none() && !marked && stretch.start > 0 { 2 } else { 3 });
        let most = if short { share } else { share + 2 };
        let first = items.len();
        let mut add = |label: String| items.push(Item { label, marked, border: false });
        if left_out {
            add(String::new());
        } else if stretch.len() <= most {
            stretch.clone().for_each(|i| add(name(i)));
        } else {
            (stretch.start..stretch.start + share - 2).for_each(|i| add(name(i)));
            add(String::new());
            add(name(stretch.end - 1));
        }
        items[first].border = block.is_some() && first > 0;
    }
    items
}

/// All blocks where they are few, else the first, the second if it fits, one gap, and the last.
fn blocks(count: usize, length: usize) -> Vec<(Range<usize>, bool)> {
    let first = if length < 6 { 1 } else { 2 };
    if count <= (length / 2).max(first + 1) {
        return (0..count).map(|i| (i..i + 1, false)).collect();
    }
    let mut blocks: Vec<(Range<usize>, bool)> = (0..first).map(|i| (i..i + 1, false)).collect();
    blocks.extend([(first..count - 1, true), (count - 1..count, false)]);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(len: usize, range: Range<usize>, block: Option<usize>, length: usize) -> String {
        let mut text = String::new();
        for item in items(len, range, block, length, &|i| i.to_string()) {
            text += if item.border { "|" } else { " " };
            text += if item.is_gap() { "…" } else { &item.label };
            text += if item.marked { "*" } else { "" };
        }
        text
    }

    #[test]
    fn short_sides_are_drawn_whole() {
        assert_eq!(drawn(4, 0..4, None, 8), " 0* 1* 2* 3*");
        assert_eq!(drawn(4, 0..2, Some(2), 8), " 0* 1*|2 3");
        assert_eq!(drawn(1, 0..1, None, 8), " 0*");
    }

    #[test]
    fn long_sides_keep_their_ends_and_the_ends_of_the_set() {
        assert_eq!(drawn(32, 0..1, None, 8), " 0* 1 2 3 4 5 … 31");
        assert_eq!(drawn(32, 0..32, None, 8), " 0* 1* 2* 3* 4* 5* …* 31*");
        assert_eq!(drawn(32, 14..19, None, 8), " 0 … 13 14* 15* 16* 17* 18* 19 … 31");
        assert_eq!(drawn(32, 4..20, None, 8), " 0 1 2 3 4* …* 19* 20 … 31");
        assert_eq!(drawn(32, 0..1, None, 3), " 0* … 31");
    }

    #[test]
    fn blocks_keep_their_borders() {
        assert_eq!(drawn(32, 0..8, Some(8), 8), " 0* …* 7*|8 … 15|16 … 23|24 … 31");
        assert_eq!(drawn(512, 0..16, Some(16), 8), " 0* …* 15*|16 … 31|…|496 … 511");
        assert_eq!(drawn(16, 0..4, Some(4), 3), " 0* …* 3*|…|12 … 15");
        assert_eq!(drawn(6, 0..1, Some(1), 8), " 0*|1|…|5");
    }
}
