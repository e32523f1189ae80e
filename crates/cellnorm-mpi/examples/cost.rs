//! What an exchange costs at many ranks, on paper: latency and bandwidth of a link, and how an all-gather goes over it.
//!
//! `cargo run -p cellnorm-mpi --example cost -- docs/ranks-cost.svg 1.5:3.0 30:1.1` draws one pair of lines for each latency in microseconds and bandwidth
//! in GB/s, as `cargo bench -p cellnorm-mpi --features mpi` measures them (its last lines), and prints the numbers.
//!
//! A message takes latency + bytes / bandwidth. Short tables are gathered by doubling, in ⌈log₂ R⌉ rounds; either way each rank receives
//! those of the R − 1 others: t(m) = ⌈log₂ R⌉ · latency + (R − 1) · m / bandwidth, with m bytes from each. The first message of an exchange has 2 KB,
//! a table that does not fit it follows in a second one. Forward a channel has 3 numbers, backward 3.

use std::error::Error;

use plotters::prelude::*;

const FIRST: f64 = 2048.0;
const HEADER: f64 = 24.0;
const CHANNELS: [u32; 2] = [64, 2048];
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// A link: microseconds, and bytes in one.
#[derive(Clone, Copy)]
struct Link {
    latency: f64,
    bandwidth: f64,
}

impl Link {
    fn gather(self, ranks: u32, bytes: f64) -> f64 {
        let rounds = f64::from(ranks.next_power_of_two().ilog2());
        rounds * self.latency + f64::from(ranks - 1) * bytes / self.bandwidth
    }

    /// Forward and backward of one layer, in microseconds.
    fn layer(self, ranks: u32, channels: u32) -> f64 {
        let rest = f64::from(channels) * 3.0 * 8.0 - (FIRST - HEADER);
        2.0 * (self.gather(ranks, FIRST) + if rest > 0.0 { self.gather(ranks, rest) } else { 0.0 })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or("name the file to draw to, then LATENCY_US:GB_PER_S of each link")?;
    let link = |word: String| -> Result<Link, Box<dyn Error>> {
        let (latency, gigabytes) = word.split_once(':').ok_or("a link is LATENCY_US:GB_PER_S, such as 30:1.1")?;
        Ok(Link { latency: latency.parse()?, bandwidth: gigabytes.parse::<f64>()? * 1e3 })
    };
    let links = words.map(link).collect::<Result<Vec<Link>, _>>()?;
    let ranks: Vec<u32> = (1..=10).map(|power| 1 << power).collect();

    let area = SVGBackend::new(&path, (760, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption("Synchronized batch normalization: exchanges of one layer, forward and backward", ("sans-serif", 15))
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((2_u32..1024_u32).log_scale().base(2.0), (1.0_f64..1e6).log_scale())?;
    chart.configure_mesh().x_desc("ranks").y_desc("microseconds").x_labels(10).light_line_style(WHITE).draw()?;
    println!("{:>28} {}", "µs", ranks.iter().map(|ranks| format!("{ranks:>9}")).collect::<String>());
    let lines = links.iter().flat_map(|link| CHANNELS.map(|channels| (*link, channels)));
    for ((link, channels), colour) in lines.zip(COLOURS) {
        let name = format!("{channels} channels, {} µs, {} GB/s", link.latency, link.bandwidth / 1e3);
        let points: Vec<(u32, f64)> = ranks.iter().map(|ranks| (*ranks, link.layer(*ranks, channels))).collect();
        println!("{name:>28} {}", points.iter().map(|(_, time)| format!("{time:>9.0}")).collect::<String>());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.9)).draw()?;
    area.present()?;
    Ok(())
}
