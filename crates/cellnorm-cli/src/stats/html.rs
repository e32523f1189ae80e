//! The statistics as a page: the numbers, a histogram of each channel, and samples as they are and
//! normalized.

use cellnorm::data::{Channel, Summary, Values};
use cellnorm_data::apply::Normalization;
use cellnorm_data::files::Listing;
use cellnorm_data::preview::{Picture, pictures};
use cellnorm_data::state::Statistics;

use super::report;
use crate::format::{counted, thousands};
use crate::page::{self, escape};

const STYLE: &str = include_str!("style.css");

/// Channels with a histogram of their own; further ones are in the table.
const DRAWN: usize = 16;

const SHOWN: usize = 16;

pub fn page(statistics: &Statistics, listing: &Listing) -> String {
    let split = statistics.dataset.split.as_ref();
    let split = split.map_or(String::new(), |split| format!(", split {}", escape(split)));
    let lead = format!("<p>{}{split}.</p>", counted(statistics.dataset.files, "file"));
    let text = escape(&report::text(statistics, 0, 120));
    let sections = [
        table(statistics),
        histograms(statistics),
        samples(statistics, listing),
        page::section("As the terminal shows it", &format!("<pre>{text}</pre>\n")),
    ];
    page::render("Statistics of a data set", STYLE, &lead, &sections)
}

fn table(statistics: &Statistics) -> String {
    let full = statistics.full_scale();
    let row = |(channel, summary): (usize, Option<Summary>)| match summary {
        None => format!("<tr><th scope=\"row\">{channel}</th><td>none</td></tr>\n"),
        Some(one) => {
            let [mean, deviation, min, max] =
                [one.mean, one.deviation, one.min, one.max].map(|number| number / full);
            let sample_mean = one
                .by_sample
                .map_or(String::new(), |by| format!("{:.6}", by.mean_of_deviations / full));
            format!(
                "<tr><th scope=\"row\">{channel}</th><td>{}</td><td>{mean:.6}</td>\
                 <td>{deviation:.6}</td><td>{min:.4}</td><td>{max:.4}</td><td>{sample_mean}</td>\
                 </tr>\n",
                thousands(one.count)
            )
        }
    };
    let rows: String = statistics.summaries().into_iter().enumerate().map(row).collect();
    let heads = "<th>channel</th><th>values</th><th>mean</th><th>std</th><th>min</th><th>max</th>\
                 <th>mean of samples’ std</th>";
    page::section("Mean and standard deviation", &page::table("", heads, &rows))
}

const WIDTH: f64 = 512.0;
const HEIGHT: f64 = 140.0;

fn histograms(statistics: &Statistics) -> String {
    let channels = statistics.channels.total().unwrap_or_default();
    let colour = |place: usize| match (channels.len(), place) {
        (3, 0) => "red",
        (3, 1) => "green",
        (3, 2) => "blue",
        _ => "grey",
    };
    let full = statistics.full_scale();
    let drawn = channels.iter().enumerate().take(DRAWN);
    let drawn: String = drawn
        .filter_map(|(place, channel)| histogram(place, colour(place), channel, full))
        .collect();
    if drawn.is_empty() {
        return String::new();
    }
    let words = "How often each value occurs; the height is the root of the share, so that rare \
                 values show. The line is the mean, the band one deviation to both sides.";
    let body = format!("<p>{words}</p>\n<div class=\"charts\">\n{drawn}</div>\n");
    page::section("Values", &body)
}

fn histogram(place: usize, colour: &str, channel: &Channel, full: f64) -> Option<String> {
    let Values::Integers(histogram) = &channel.values else { return None };
    let summary = channel.summary()?;
    // 256 bars, whatever the number of values
    let width = histogram.counts().len().div_ceil(256);
    let bars: Vec<u64> =
        histogram.counts().chunks(width).map(|counts| counts.iter().sum()).collect();
    let most = bars.iter().copied().max().unwrap_or(1).max(1) as f64;
    let step = WIDTH / bars.len() as f64;
    let x = |value: f64| (value / full).clamp(0.0, 1.0) * WIDTH;
    let mut path = String::new();
    for (bar, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = HEIGHT * (*count as f64 / most).sqrt();
        let left = bar as f64 * step;
        path += &format!("M{left:.2} {HEIGHT}v-{height:.2}h{step:.2}v{height:.2}z");
    }
    let [from, to] = [summary.mean - summary.deviation, summary.mean + summary.deviation].map(x);
    Some(format!(
        "<figure class=\"chart {colour}\"><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"histogram of channel {place}\"><rect class=\"band\" x=\"{from:.1}\" y=\"0\" \
         width=\"{:.1}\" height=\"{HEIGHT}\"/><path d=\"{path}\"/><line x1=\"{mean:.1}\" \
         x2=\"{mean:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/><text x=\"0\" y=\"{y}\">0</text><text \
         x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{full}</text></svg><figcaption>channel \
         {place}: {:.4} ± {:.4}</figcaption></figure>\n",
        HEIGHT + 18.0,
        to - from,
        summary.mean / full,
        summary.deviation / full,
        mean = x(summary.mean),
        y = HEIGHT + 15.0,
    ))
}

fn samples(statistics: &Statistics, listing: &Listing) -> String {
    let full = statistics.full_scale();
    let pair = |one: Summary| {
        (one.mean / full, if one.is_constant() { 1.0 } else { one.deviation / full })
    };
    let pairs: Option<Vec<(f64, f64)>> =
        statistics.summaries().into_iter().map(|summary| summary.map(pair)).collect();
    let (mean, deviation): (Vec<f64>, Vec<f64>) = pairs.unwrap_or_default().into_iter().unzip();
    let Ok(normalization) = Normalization::new(&mean, &deviation) else { return String::new() };
    let pictures = pictures(listing, &statistics.settings, &normalization, SHOWN);
    if pictures.is_empty() {
        return String::new();
    }
    let image = |bytes: &[u8], what: &str| {
        format!("<img alt=\"{what}\" src=\"data:image/png;base64,{}\">", base64(bytes))
    };
    let pair = |picture: &Picture| {
        format!(
            "<figure title=\"{}\">{}{}</figure>\n",
            escape(&picture.name).replace('"', "&quot;"),
            image(&picture.before, "as it is"),
            image(&picture.after, "normalized")
        )
    };
    let all: String = pictures.iter().map(pair).collect();
    let words = "Left as they are, right normalized: black is three deviations below the mean, \
                 white three above.";
    let body = format!("<p>{words}</p>\n<div class=\"samples\">\n{all}</div>\n");
    page::section("Samples", &body)
}

/// Bytes in the 64 letters of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let padded = three.iter().chain(&[0, 0]).take(3);
        let bits = padded.fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let letter = |place: usize| match place <= three.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]),
            false => '=',
        };
        [0, 1, 2, 3].map(letter)
    };
    bytes.chunks(3).flat_map(four).collect()
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn bytes_are_letters_as_the_standard_shows() {
        let words =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|word| base64(word.as_bytes()));
        assert_eq!(words, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
