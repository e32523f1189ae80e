//! The meaning of the axes of a tensor, one letter each.

use crate::{error::Error, shape::axis_index};

/// The meaning of each axis: N samples, C channels, T time, others such as D, H and W positions. A
/// weight has O outputs, I inputs and positions.
///
/// ```
/// use cellnorm::explain::Layout;
/// let layout = Layout::named("nhwc", 4)?;
/// assert_eq!((layout.channels(), layout.letters()), (3, &['N', 'H', 'W', 'C'][..]));
/// assert_eq!(Layout::channels_first(3)?.to_string(), "NCT");
/// assert_eq!(Layout::channels_last(3)?.to_string(), "NTC");
/// assert!(Layout::named("nhw", 4).is_err());
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    letters: Vec<char>,
    assumed: bool,
}

impl Layout {
    /// The axes by their letters, in any case.
    ///
    /// # Errors
    /// If there is not one letter for each axis, one is there twice, neither N and C nor O and I
    /// are among them, or N is not the first.
    pub fn named(letters: &str, rank: usize) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::Layout { layout: letters.to_owned(), rank, reason });
        let upper: Vec<char> = letters.chars().map(|c| c.to_ascii_uppercase()).collect();
        if !upper.iter().all(char::is_ascii_uppercase) {
            return refuse("it must be letters, such as nchw");
        }
        if upper.len() != rank {
            return refuse("give one letter for each axis, such as nc, nct, ntc, nchw or nhwc");
        }
        if (1..rank).any(|i| upper[..i].contains(&upper[i])) {
            return refuse("a letter is there twice");
        }
        let pair = |a, b| upper.contains(&a) && upper.contains(&b);
        if pair('N', 'C') == pair('O', 'I') {
            return refuse(
                "it needs n (samples) and c (channels), or for a weight o (outputs) and i (inputs)",
            );
        }
        if upper.contains(&'N') && upper[0] != 'N' {
            return refuse("the samples, n, must be the first axis, as the layers have them");
        }
        Ok(Self { letters: upper, assumed: false })
    }

    /// NC, NCT, NCHW or NCDHW, for want of a name.
    ///
    /// # Errors
    /// If there are fewer than 2 axes or more than 5.
    pub fn channels_first(rank: usize) -> Result<Self, Error> {
        Self::assumed("NC", rank)
    }

    /// NC, NTC, NHWC or NDHWC, for want of a name.
    ///
    /// # Errors
    /// As [`Layout::channels_first`].
    pub fn channels_last(rank: usize) -> Result<Self, Error> {
        Ok(Self { assumed: true, ..Self::channels_first(rank)?.channel_axis(-1)? })
    }

    /// A weight: OI, OIT, OIHW or OIDHW.
    ///
    /// # Errors
    /// As [`Layout::channels_first`].
    pub fn weight(rank: usize) -> Result<Self, Error> {
        Self::assumed("OI", rank)
    }

    fn assumed(first: &str, rank: usize) -> Result<Self, Error> {
        let positions = ["", "T", "HW", "DHW"];
        let Some(positions) = rank.checked_sub(2).and_then(|count| positions.get(count)) else {
            let reason = "without a layout named, 2 to 5 axes are understood";
            return Err(Error::Layout { layout: first.to_owned(), rank, reason });
        };
        Ok(Self { letters: first.chars().chain(positions.chars()).collect(), assumed: true })
    }

    /// The same with the channels on this axis; negative counts from the last.
    ///
    /// # Errors
    /// If there is no such axis, or it is the first, which is the samples'.
    pub fn channel_axis(mut self, axis: isize) -> Result<Self, Error> {
        let axis = match axis_index(axis, self.letters.len())? {
            0 => return Err(Error::SampleAxis { layer: "a normalization" }),
            axis => axis,
        };
        let channels = self.letters.remove(self.channels());
        self.letters.insert(axis, channels);
        self.assumed = false;
        Ok(self)
    }

    /// The letter of each axis.
    pub fn letters(&self) -> &[char] {
        &self.letters
    }

    /// The axis of the channels, or of a weight's inputs.
    pub fn channels(&self) -> usize {
        self.axis(if self.is_weight() { 'I' } else { 'C' })
    }

    /// The axis of the samples, or of a weight's outputs.
    pub fn samples(&self) -> usize {
        self.axis(if self.is_weight() { 'O' } else { 'N' })
    }

    /// The axis of the time steps, if there is one.
    pub fn time(&self) -> Option<usize> {
        self.find('T')
    }

    /// The axes of the positions, which are all others.
    pub fn positions(&self) -> Vec<usize> {
        (0..self.letters.len())
            .filter(|axis| *axis != self.channels() && *axis != self.samples())
            .collect()
    }

    /// Whether the tensor is a weight.
    pub fn is_weight(&self) -> bool {
        self.letters.contains(&'O') && self.letters.contains(&'I')
    }

    fn axis(&self, letter: char) -> usize {
        self.find(letter).expect("checked when the layout was made")
    }

    fn find(&self, letter: char) -> Option<usize> {
        self.letters.iter().position(|l| *l == letter)
    }

    /// Whether nobody named the axes.
    pub(super) fn is_assumed(&self) -> bool {
        self.assumed
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.letters.iter().try_for_each(|letter| write!(f, "{letter}"))
    }
}
