//! The proof as bars: for each layer, what share of the difference that rounding explains was
//! found.

use std::fmt::Write;

use crate::fold::Story;
use crate::numbers::escape;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 160.0;
const BASE: f64 = 130.0;
const LEFT: f64 = 40.0;

/// The figure and its words.
pub fn section(story: &Story<'_>) -> String {
    let Some(certificate) = story.certificate.filter(|certificate| !certificate.proofs.is_empty())
    else {
        return String::new();
    };
    let proofs = &certificate.proofs;
    let step = (WIDTH - LEFT) / proofs.len() as f64;
    let mut bars = String::new();
    for (place, proof) in proofs.iter().enumerate() {
        let height = 100.0 * proof.share.min(1.2);
        let class = if proof.share <= 1.0 { "holds" } else { "stays" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            bars,
            "<rect class=\"{class}\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" \
             height=\"{:.2}\"><title>{}: {:.3}</title></rect>",
            LEFT + step * place as f64,
            BASE - height,
            (step * 0.8).min(40.0),
            height.max(0.5),
            escape(&proof.layer.name),
            proof.share
        );
    }
    let line = |share: f64, class: &str| {
        let y = BASE - 100.0 * share;
        format!(
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/><text \
             x=\"4\" y=\"{}\">{share}</text>\n",
            y + 4.0
        )
    };
    format!(
        "<section>\n<h2>The proof</h2>\n<p>Each of the {} changed layers was computed in 64 bits \
         on random numbers: as it was, followed or preceded by its normalizations, and as it was \
         written. A bar is the difference as a share of what rounding the weights explains; at 1 \
         or below the layer is proven.</p>\n<svg class=\"proof\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"the share of each layer\">\n{}{}{}{bars}</svg>\n</section>\n",
        proofs.len(),
        line(0.0, "axis"),
        line(0.5, "axis"),
        line(1.0, "limit")
    )
}
