//! An axis of a chart: what range it covers, and which places on it are labelled.

/// A range with its labelled places.
pub struct Axis {
    from: f64,
    to: f64,
    /// Whether equal ratios, not equal differences, take equal room.
    logarithmic: bool,
    /// Places and their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from `from` to `to`, labelled at `ticks` alone.
    pub fn new(from: f64, to: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { from, to, logarithmic: false, ticks }
    }

    /// One label for each of `names`, at 0, 1, 2 and so on.
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = (0u32..).map(f64::from).zip(names).collect();
        Self::new(-0.2, ticks.len() as f64 - 0.8, ticks)
    }

    /// Whole numbers from 0 to `to`.
    pub fn counts(to: usize) -> Self {
        let to = to as f64;
        let step = round_step(to / 5.0).max(1.0);
        Self::new(0.0, to, ticks(0.0, to, step))
    }

    /// An axis with room for all `values`, labelled at round numbers.
    pub fn values(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
        let (from, to) = (low - margin, high + margin);
        Self::new(from, to, ticks(from, to, round_step((to - from) / 5.0)))
    }

    /// A logarithmic axis with room for all positive `values`, labelled at powers of ten and, if
    /// these are few, between them.
    pub fn ratios(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = range(positive).unwrap_or((0.1, 1.0));
        let (from, to) = (low / 1.1, high * 1.1);
        let digits: &[f64] = match to / from {
            ratio if ratio < 100.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let powers = from.log10().floor() as i32..=to.log10().floor() as i32;
        let ticks = powers
            .flat_map(|power| digits.iter().map(move |digit| (digit * 10f64.powi(power), power)))
            .filter(|(place, _)| (from..=to).contains(place))
            .map(|(place, power)| {
                let decimals = -power.min(0) as usize;
                (place, format!("{place:.decimals$}"))
            });
        Self { logarithmic: true, ..Self::new(from, to, ticks.collect()) }
    }

    /// The coordinate of a value, on an axis drawn between two coordinates.
    pub fn map(&self, value: f64, (start, end): (i32, i32)) -> i32 {
        let [value, from, to] = [value, self.from, self.to]
            .map(|place| if self.logarithmic { place.log10() } else { place });
        // a loss of 0 is infinitely far down a logarithmic axis: it leaves the chart, and that is
        // all
        let share = ((value - from) / (to - from)).clamp(-1.0, 2.0);
        start + (share * f64::from(end - start)).round() as i32
    }
}

/// The smallest and the largest of the finite `values`.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .map(|value| (value, value))
        .reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
}

/// The multiples of `step` between `from` and `to`.
fn ticks(from: f64, to: f64, step: f64) -> Vec<(f64, String)> {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    ((from / step).ceil() as i64..=(to / step).floor() as i64)
        .map(|i| i as f64 * step)
        .map(|place| (place, format!("{place:.decimals$}")))
        .collect()
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= step).unwrap_or(10.0);
    digit * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn values_are_labelled_at_round_numbers_within_the_axis() {
        let axis = Axis::values([66.5, 87.7]);
        assert_eq!(labels(&axis), ["70", "75", "80", "85"]);
        assert!(axis.from < 66.5 && axis.to > 87.7);
        assert_eq!(labels(&Axis::values([0.31, 0.34, f64::NAN])), ["0.31", "0.32", "0.33", "0.34"]);
        assert_eq!(labels(&Axis::values([-0.1, 0.1])), ["-0.10", "-0.05", "0.00", "0.05", "0.10"]);
    }

    #[test]
    fn one_value_or_none_still_gives_an_axis() {
        for values in [vec![], vec![0.0], vec![3.0, 3.0]] {
            let axis = Axis::values(values);
            assert!(axis.from < axis.to && !axis.ticks.is_empty());
        }
    }

    #[test]
    fn values_are_mapped_between_the_ends() {
        let axis = Axis::new(2.0, 4.0, Vec::new());
        let upwards = (100, 0);
        assert_eq!([2.0, 2.5, 4.0].map(|v| axis.map(v, upwards)), [100, 75, 0]);
    }

    #[test]
    fn ratios_are_labelled_at_powers_of_ten() {
        assert_eq!(labels(&Axis::ratios([0.0012, 1.0])), ["0.01", "0.1", "1"]);
        assert_eq!(labels(&Axis::ratios([0.3, 2.5])), ["0.5", "1", "2"]);
        let axis = Axis::ratios([1.1, 10.0]);
        assert_eq!([1.0, 11.0].map(|v| axis.map(v, (0, 100))), [0, 100]);
        assert_eq!(axis.map(11f64.sqrt(), (0, 100)), 50);
        assert_eq!([0.0, f64::INFINITY].map(|v| axis.map(v, (300, 400))), [200, 500]);
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(labels(&Axis::counts(375)), ["0", "100", "200", "300"]);
        assert_eq!(labels(&Axis::counts(9000)), ["0", "2000", "4000", "6000", "8000"]);
        assert_eq!(labels(&Axis::counts(2)), ["0", "1", "2"]);
    }
}
