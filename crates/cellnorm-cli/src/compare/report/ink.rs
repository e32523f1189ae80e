//! Colours that follow the reader's theme.
//!
//! Charts are drawn with placeholder colours, one for each meaning. In the finished drawing each
//! placeholder becomes a class, to which the style sheet gives a colour for light, one for dark,
//! and a pattern of dashes that tells lines apart without colour.

use plotters::style::RGBColor;

use crate::norm::Norm;

/// The meaning of a line or an area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ink {
    /// Words and numbers.
    Text,
    /// Lines to read values from.
    Grid,
    /// A normalization.
    Norm(Norm),
    /// A normalization, in a line too busy for a pattern of dashes.
    Solid(Norm),
}

impl Ink {
    fn all() -> impl Iterator<Item = Self> {
        let norms = Norm::ALL.iter().copied();
        [Self::Text, Self::Grid]
            .into_iter()
            .chain(norms.clone().map(Self::Norm))
            .chain(norms.map(Self::Solid))
    }

    /// The placeholder.
    pub fn color(self) -> RGBColor {
        let number = Self::all().take_while(|ink| *ink != self).count();
        RGBColor(0xfe, 0xdc, number as u8)
    }

    fn class(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Norm(norm) => format!("dashed {}", norm.name()),
            Self::Solid(norm) => norm.name().to_owned(),
        }
    }
}

/// Makes a drawing part of the page: placeholders become classes, the fixed size becomes that of
/// the column, and `title` is what a screen reader says.
pub fn inline(svg: &str, title: &str) -> String {
    let body = svg.split_once('>').map_or(svg, |(_, body)| body);
    let mut body = body.to_owned();
    for ink in Ink::all() {
        let RGBColor(r, g, b) = ink.color();
        for (attribute, role) in [("stroke", "line"), ("fill", "area")] {
            body = body.replace(
                &format!("{attribute}=\"#{r:02X}{g:02X}{b:02X}\""),
                &format!("class=\"{role} {}\"", ink.class()),
            );
        }
    }
    let view_box = svg
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(view_box, _)| view_box);
    format!("<svg viewBox=\"{view_box}\" role=\"img\" aria-label=\"{title}\">{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_has_a_color_of_its_own() {
        let colors: Vec<RGBColor> = Ink::all().map(Ink::color).collect();
        assert_eq!(colors.len(), 2 + 2 * Norm::ALL.len());
        for (i, color) in colors.iter().enumerate() {
            assert!(!colors[..i].contains(color));
        }
    }

    #[test]
    fn a_drawing_loses_its_size_and_takes_the_theme() {
        let svg = "<svg width=\"8\" height=\"6\" viewBox=\"0 0 8 6\" xmlns=\"x\">\n<line \
                   stroke=\"#FEDC03\"/><text fill=\"#FEDC00\">a</text></svg>\n";
        assert_eq!(
            inline(svg, "Loss"),
            "<svg viewBox=\"0 0 8 6\" role=\"img\" aria-label=\"Loss\">\n<line class=\"line \
             dashed batch\"/><text class=\"area text\">a</text></svg>\n"
        );
    }
}
