//! The pages of all commands: their frame, their colours, and text as markup takes it.

use crate::norm::Norm;

const STYLE: &str = include_str!("style.css");

/// A whole page; `style` is added to the common style sheet. `title`, the paragraphs of `lead`
/// under it, and the sections are markup.
pub fn render(title: &str, style: &str, lead: &str, sections: &[String]) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{}{style}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n{lead}\n\
         </header>\n{}</main>\n</body>\n</html>\n",
        common_style(),
        sections.concat()
    )
}

/// A section of a page; `title` and `body` are markup.
pub fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

/// A table that scrolls where it is wider than the page; heads and rows are markup.
pub fn table(attributes: &str, heads: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\"><table{attributes}>\n<thead><tr>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// The section that tells how the numbers of the page came about.
pub fn conditions(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let row = |(term, text): (&str, String)| format!("<dt>{term}</dt><dd>{text}</dd>\n");
    let list: String = rows.into_iter().map(row).collect();
    section("How this was made", &format!("<dl>\n{list}</dl>\n"))
}

/// Text that cannot become markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A colour of the style sheet: of a normalization by its name, or of `paper`, `card`, `words`,
/// `quiet` and `rule`.
pub fn palette(name: &str, dark: bool) -> &'static str {
    // the light theme comes first
    let color = |before: String| {
        let (at, before) = STYLE.match_indices(&before).nth(usize::from(dark))?;
        STYLE[at + before.len()..].get(..7)
    };
    color(format!(".{name} {{ --ink: "))
        .or_else(|| color(format!("--{name}: ")))
        .unwrap_or("#808080")
}

/// The style sheet, with a colour and dashes for each normalization that it does not name: hues a
/// golden angle apart, which keeps neighbours distinct however many there are.
fn common_style() -> String {
    let names = Norm::ALL.iter().map(|norm| norm.name());
    let unnamed = names.filter(|name| !STYLE.contains(&format!(".{name} {{")));
    let rule = |(i, name): (usize, &str)| {
        let hue = (20.0 + 137.5 * i as f64) % 360.0;
        let dashes = format!("{} {} 8 {}", 14 + 9 * (i % 5), 10 + 4 * (i % 3), 10 + 4 * (i % 3));
        format!(
            ".{name} {{ --ink: light-dark(hsl({hue} 65% 36%), hsl({hue} 65% 70%)); }}\n\
             .dashed.{name} {{ stroke-dasharray: {dashes}; }}\n"
        )
    };
    STYLE.to_owned() + "\n" + &unnamed.enumerate().map(rule).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_of_folders_cannot_become_markup() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
