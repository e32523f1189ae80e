//! The cost of a layer's exchanges at many ranks, on paper ([model]).
//!
//! `cargo run -p cellnorm-mpi --example cost -- docs/ranks-cost.svg 1.5:3.0:2.5 30:1.1:2.5` draws
//! one pair of lines for each latency in microseconds, bandwidth in GB/s, and GB/s at which tables
//! are handled, as `cargo bench -p cellnorm-mpi --features mpi --bench latency` measures them, and
//! prints the numbers.

use std::error::Error;

use model::Machine;
use plotters::prelude::*;

mod model;

const CHANNELS: [usize; 2] = [64, 2048];
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or(
        "name the file to draw to, then LATENCY_US:GB_PER_S:HANDLED_GB_PER_S of each link",
    )?;
    let machine = |word: String| -> Result<Machine, Box<dyn Error>> {
        let numbers = word.split(':').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [latency, bandwidth, handled] = numbers[..] else {
            return Err("a link is LATENCY_US:GB_PER_S:HANDLED_GB_PER_S, such as 30:1.1:2.5".into());
        };
        Ok(Machine { latency, bandwidth: bandwidth * 1e3, handled: handled * 1e3 })
    };
    let machines = words.map(machine).collect::<Result<Vec<Machine>, _>>()?;
    let ranks: Vec<u32> = (1..=10).map(|power| 1 << power).collect();

    let area = SVGBackend::new(&path, (760, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption(
            "Synchronized batch normalization: exchanges of one layer, forward and backward",
            ("sans-serif", 15),
        )
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((2_u32..1024_u32).log_scale().base(2.0), (1.0_f64..1e6).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("ranks")
        .y_desc("microseconds")
        .x_labels(10)
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    println!(
        "{:>34} {}",
        "µs",
        ranks.iter().map(|ranks| format!("{ranks:>9}")).collect::<String>()
    );
    let lines = machines.iter().flat_map(|machine| CHANNELS.map(|channels| (*machine, channels)));
    for ((machine, channels), colour) in lines.zip(COLOURS) {
        let name = format!(
            "{channels} channels, {} µs, {} GB/s",
            machine.latency,
            machine.bandwidth / 1e3
        );
        let both = |ranks: &u32| 2.0 * machine.exchange(*ranks as usize, channels);
        let points: Vec<(u32, f64)> = ranks.iter().map(|ranks| (*ranks, both(ranks))).collect();
        println!(
            "{name:>34} {}",
            points.iter().map(|(_, time)| format!("{time:>9.0}")).collect::<String>()
        );
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .draw()?;
    area.present()?;
    Ok(())
}
