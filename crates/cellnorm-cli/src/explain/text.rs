//! The cube in the terminal: samples side by side, channels across, positions down.

use super::cube::{Cube, Item, Side};

pub struct Colors {
    /// The escape sequence of the colour of marked cells; None to draw without colour.
    pub marked: Option<&'static str>,
}

/// Between samples, and between samples of different blocks.
const SPACE: &str = "  ";
const WALL: &str = " ┃ ";

impl Colors {
    /// A piece of the drawing of `width` letters, with a sign in its middle.
    fn cell(&self, marked: bool, sign: Option<char>, width: usize) -> String {
        let fill = if marked { '█' } else { '░' };
        let cell: String =
            (0..width).map(|i| if i == width / 2 { sign.unwrap_or(fill) } else { fill }).collect();
        match self.marked {
            Some(color) if marked => format!("{color}{cell}\x1b[0m"),
            Some(_) => format!("\x1b[90m{cell}\x1b[0m"),
            None => cell,
        }
    }

    pub fn legend(&self, marked: &str, others: &str) -> String {
        format!("{} {marked}   {} {others}", self.cell(true, None, 2), self.cell(false, None, 2))
    }

    /// The lines of one cube.
    pub fn draw(&self, cube: &Cube) -> Vec<String> {
        let Some(positions) = &cube.positions else {
            let labels = row_labels(&cube.samples, &cube.channels);
            let sheet = self.sheet(&cube.samples, &cube.channels, true);
            return labels.into_iter().zip(sheet).map(|(label, row)| label + &row).collect();
        };
        let mut lines: Vec<String> = Vec::new();
        for (i, sample) in cube.samples.items.iter().enumerate() {
            let panel: Vec<String> = if sample.is_gap() {
                // a sign beside the title says that samples are left out
                (0..positions.items.len() + 2)
                    .map(|row| if row == 0 { "⋯" } else { " " }.to_owned())
                    .collect()
            } else {
                let title = title(&cube.samples, sample);
                let width = sheet_width(&cube.channels);
                // a title may be wider than a narrow sheet
                let more = " ".repeat(title.len().saturating_sub(width));
                let sheet = self.sheet(positions, &cube.channels, sample.marked);
                let sheet = sheet.into_iter().map(|line| line + &more);
                std::iter::once(format!("{title:width$}")).chain(sheet).collect()
            };
            if i == 0 {
                lines = labels(positions, &cube.channels);
            }
            for (line, part) in lines.iter_mut().zip(panel) {
                *line += joint(i, sample);
                *line += &part;
            }
        }
        lines
    }

    /// A line of column labels, and a line for each row.
    fn sheet(&self, down: &Side, across: &Side, marked: bool) -> Vec<String> {
        let wall = |item: &Item, sign: &str| sign.repeat(usize::from(item.border));
        let label = |item: &Item| {
            let width = cell_width(across, item);
            wall(item, " ")
                + &match item.is_gap() {
                    true => format!("{:^width$}", "⋯"),
                    false => format!("{:>width$}", item.label),
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
                wall(column, "│")
                    + &self.cell(
                        marked && row.marked && column.marked,
                        sign,
                        cell_width(across, column),
                    )
            };
            across.items.iter().map(cell).collect::<String>()
        };
        let head = across.items.iter().map(label).collect();
        std::iter::once(head).chain(down.items.iter().map(row)).collect()
    }
}

/// The text before the sample of index `i`.
fn joint(i: usize, sample: &Item) -> &'static str {
    match (i, sample.border) {
        (0, _) => "",
        (_, true) => WALL,
        (_, false) => SPACE,
    }
}

/// The columns that a drawing takes.
pub fn width(cube: &Cube) -> usize {
    let sheet = sheet_width(&cube.channels);
    let Some(positions) = &cube.positions else {
        return labels(&cube.samples, &cube.channels)[0].chars().count() + sheet;
    };
    let panel = |(i, item): (usize, &Item)| {
        let title = title(&cube.samples, item).len();
        joint(i, item).chars().count() + if item.is_gap() { 1 } else { sheet.max(title) }
    };
    labels(positions, &cube.channels)[0].chars().count()
        + cube.samples.items.iter().enumerate().map(panel).sum::<usize>()
}

fn sheet_width(across: &Side) -> usize {
    across.items.iter().map(|item| cell_width(across, item) + usize::from(item.border)).sum()
}

fn title(samples: &Side, sample: &Item) -> String {
    format!("{} {}", samples.letters, sample.label)
}

/// The width of the longest index; a gap is narrower.
fn cell_width(across: &Side, item: &Item) -> usize {
    let longest = across.items.iter().map(|item| item.label.len()).max().unwrap_or(0) + 1;
    if item.is_gap() { longest.min(3) } else { longest }
}

/// The text left of the first sample: nothing beside its title, then the labels of the rows.
fn labels(down: &Side, across: &Side) -> Vec<String> {
    let rows = row_labels(down, across);
    std::iter::once(" ".repeat(rows[0].chars().count())).chain(rows).collect()
}

/// The letters of the channels, then the index of each row.
fn row_labels(down: &Side, across: &Side) -> Vec<String> {
    let label = |(i, item): (usize, &Item)| match (i, item.is_gap()) {
        (0, _) => format!("{} {} ", down.letters, item.label),
        (_, true) => "⋮ ".to_owned(),
        (_, false) => format!("{} ", item.label),
    };
    let labels: Vec<String> = std::iter::once(format!("{} ", across.letters))
        .chain(down.items.iter().enumerate().map(label))
        .collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    labels.into_iter().map(|label| format!("{label:>width$}")).collect()
}
