//! Numbers as people read them, and text as markup takes it.

/// Groups the digits by three.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes with three figures.
pub fn bytes(number: usize) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// Text that cannot become markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let numbers = [0, 999, 1000, 4000, 60_000, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "4,000", "60,000", "1,234,567"]);
    }

    #[test]
    fn names_of_folders_cannot_become_markup() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }

    #[test]
    fn bytes_have_three_figures() {
        let numbers = [0, 999, 1000, 12_544, 999_600, 3_211_264, usize::MAX].map(bytes);
        assert_eq!(
            numbers,
            ["0 B", "999 B", "1.00 KB", "12.5 KB", "1.00 MB", "3.21 MB", "18.4 EB"]
        );
    }
}
