//! Semantics as a table to read.

use std::fmt;

use super::Semantics;
use super::diff::text;
use crate::normalization::Normalization;

/// A line for each field that says something about the layer.
///
/// ```
/// use cellnorm::{Normalization, Semantics};
/// let keras = Semantics::preset("keras-3", Normalization::Batch)?.to_string();
/// assert!(keras.starts_with("keras-3 batch\n  epsilon           0.001, InsideRoot\n"));
/// # Ok::<(), cellnorm::Error>(())
/// ```
impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        let mut row = |field: &str, value: String| write!(f, "\n  {field:<17} {value}");
        row("epsilon", format!("{}, {:?}", text(self.epsilon), self.epsilon_at))?;
        row("channel_axis", text(self.channel_axis))?;
        row("scale", text(self.scale))?;
        row("center", text(self.center))?;
        row("stores_fixed", text(self.stores_fixed))?;
        row("one_value", text(self.one_value))?;
        if self.normalization == Normalization::Group {
            row("group_parameters", text(self.group_parameters))?;
        }
        if self.normalization == Normalization::Batch {
            row("momentum", text(self.momentum))?;
            row("running_variance", text(self.running_variance))?;
            row("frozen", text(self.frozen))?;
        }
        row(
            "names",
            self.names().into_iter().filter_map(|(_, name)| name).collect::<Vec<_>>().join(", "),
        )
    }
}
