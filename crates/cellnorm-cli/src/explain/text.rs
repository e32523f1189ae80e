//! The figure in the terminal: samples side by side, channels across, positions down.

use super::figure::{Figure, Item, Side};

/// How marked cells look.
pub struct Pen {
    /// The escape sequence of the colour of marked cells; None to draw without colour.
    pub color: Option<&'static str>,
}

/// Between samples, and between those of different blocks.
const SPACE: &str = "  ";
const WALL: &str = " ┃ ";

impl Pen {
    /// A piece of the drawing of `width` letters, with a sign in its middle.
    fn cell(&self, on: bool, sign: Option<char>, width: usize) -> String {
        let fill = if on { '█' } else { '░' };
        let cell: String =
            (0..width).map(|i| if i == width / 2 { sign.unwrap_or(fill) } else { fill }).collect();
        match self.color {
            Some(color) if on => format!("{color}{cell}\x1b[0m"),
            Some(_) => format!("\x1b[90m{cell}\x1b[0m"),
            None => cell,
        }
    }

    /// What the two shades mean.
    pub fn legend(&self, marked: &str, others: &str) -> String {
        format!("{} {marked}   {} {others}", self.cell(true, None, 2), self.cell(false, None, 2))
    }

    /// The lines of one figure, in no more than `width` columns if the sides allow.
    pub fn draw(&self, figure: &Figure) -> Vec<String> {
        let Some(positions) = &figure.positions else {
            return self.sheet(
                &figure.samples,
                &figure.channels,
                true,
                &format!("{} ", figure.channels.letters),
            );
        };
        let mut lines: Vec<String> = Vec::new();
        for (i, sample) in figure.samples.items.iter().enumerate() {
            let panel: Vec<String> = if sample.is_gap() {
                // its middle row says that it goes on
                (0..positions.items.len() + 2)
                    .map(|row| if row == 0 { "⋯" } else { " " }.to_owned())
                    .collect()
            } else {
                let title = title(&figure.samples, sample);
                let width = sheet_width(&figure.channels);
                // a title may be wider than a narrow sheet
                let more = " ".repeat(title.len().saturating_sub(width));
                let sheet = self.sheet_without_labels(positions, &figure.channels, sample.on);
                let sheet = sheet.into_iter().map(|line| line + &more);
                std::iter::once(format!("{title:width$}")).chain(sheet).collect()
            };
            if i == 0 {
                lines = labels(positions, &figure.channels);
            }
            for (line, part) in lines.iter_mut().zip(panel) {
                *line += if i == 0 {
                    ""
                } else if sample.border {
                    WALL
                } else {
                    SPACE
                };
                *line += &part;
            }
        }
        lines
    }

    fn sheet(&self, down: &Side, across: &Side, on: bool, corner: &str) -> Vec<String> {
        let labels = row_labels(down, corner);
        labels
            .into_iter()
            .zip(self.sheet_without_labels(down, across, on))
            .map(|(label, row)| label + &row)
            .collect()
    }

    /// A line of column labels, and a line for each row.
    fn sheet_without_labels(&self, down: &Side, across: &Side, on: bool) -> Vec<String> {
        let joint =
            |item: &Item, wall: &str| if item.border { wall.to_owned() } else { String::new() };
        let label = |item: &Item| {
            let width = cell_width(across, item);
            joint(item, " ")
                + &if item.is_gap() {
                    format!("{:^width$}", "⋯")
                } else {
                    format!("{:>width$}", item.label)
                }
        };
        let row = |row: &Item| {
            let cell = |column: &Item| {
                let sign = match (row.is_gap(), column.is_gap()) {
                    (false, false) => None,
                    (true, false) => Some('⋮'),
                    (false, true) => Some('⋯'),
                    (true, true) => Some('⋱'),
                };
                joint(column, "│")
                    + &self.cell(on && row.on && column.on, sign, cell_width(across, column))
            };
            across.items.iter().map(cell).collect::<String>()
        };
        let head = across.items.iter().map(label).collect();
        std::iter::once(head).chain(down.items.iter().map(row)).collect()
    }
}

/// The columns that a figure takes.
pub fn width(figure: &Figure) -> usize {
    let sheet = sheet_width(&figure.channels);
    let Some(positions) = &figure.positions else {
        return labels(&figure.samples, &figure.channels)[0].chars().count() + sheet;
    };
    let panel = |(i, item): (usize, &Item)| {
        let joint = if i == 0 {
            ""
        } else if item.border {
            WALL
        } else {
            SPACE
        };
        joint.chars().count()
            + if item.is_gap() { 1 } else { sheet.max(title(&figure.samples, item).len()) }
    };
    labels(positions, &figure.channels)[0].chars().count()
        + figure.samples.items.iter().enumerate().map(panel).sum::<usize>()
}

fn sheet_width(across: &Side) -> usize {
    across.items.iter().map(|item| cell_width(across, item) + usize::from(item.border)).sum()
}

fn title(samples: &Side, sample: &Item) -> String {
    format!("{} {}", samples.letters, sample.label)
}

/// As wide as the longest index, but a gap is narrow.
fn cell_width(across: &Side, item: &Item) -> usize {
    let longest = across.items.iter().map(|item| item.label.len()).max().unwrap_or(0) + 1;
    if item.is_gap() { longest.min(3) } else { longest }
}

/// What stands left of the first sample: nothing beside its title, the letters of the channels, and
/// the rows' indices.
fn labels(down: &Side, across: &Side) -> Vec<String> {
    let rows = row_labels(down, &format!("{} ", across.letters));
    std::iter::once(" ".repeat(rows[0].chars().count())).chain(rows).collect()
}

fn row_labels(down: &Side, corner: &str) -> Vec<String> {
    let first = down
        .items
        .first()
        .map_or(String::new(), |item| format!("{} {} ", down.letters, item.label));
    let text =
        |item: &Item| if item.is_gap() { "⋮ ".to_owned() } else { format!("{} ", item.label) };
    let rows = std::iter::once(first).chain(down.items.iter().skip(1).map(text));
    let labels: Vec<String> = std::iter::once(corner.to_owned()).chain(rows).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    labels.into_iter().map(|label| " ".repeat(width - label.chars().count()) + &label).collect()
}
