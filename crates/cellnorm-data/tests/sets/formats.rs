//! Every format, against NumPy on the arrays that the files were made of.

use cellnorm::data::Summary;
use cellnorm_data::settings::{Alpha, Colour, Per, Settings};
use cellnorm_data::state::Statistics;

use crate::common::{expected, fixture, measure, numbers};

fn close(what: &str, ours: f64, theirs: f64, bound: f64) {
    assert!((ours - theirs).abs() <= bound * theirs.abs(), "{what}: {ours:e} against {theirs:e}");
}

fn check(what: &str, statistics: &Statistics, name: &str, bound: f64) {
    assert!(
        statistics.failures.is_empty() && statistics.is_complete(),
        "{what}: {:?}",
        statistics.failures
    );
    let expected = expected(name);
    let summaries: Vec<Summary> = statistics.summaries().into_iter().map(Option::unwrap).collect();
    let each = |key: &str, of: &dyn Fn(&Summary) -> f64| {
        let theirs = numbers(&expected[key]);
        assert_eq!(theirs.len(), summaries.len(), "{what}: channels");
        for (channel, (summary, theirs)) in summaries.iter().zip(theirs).enumerate() {
            close(&format!("{what}, {key} of channel {channel}"), of(summary), theirs, bound);
        }
    };
    each("mean", &|one| one.mean);
    each("deviation", &|one| one.deviation);
    each("sample_deviation", &|one| one.sample_deviation.unwrap());
    each("min", &|one| one.min);
    each("max", &|one| one.max);
    if summaries[0].by_sample.is_some() {
        each("mean_of_deviations", &|one| one.by_sample.unwrap().mean_of_deviations);
    }
    assert!(
        summaries.iter().all(|one| Some(one.count) == expected["count"].as_u64()),
        "{what}: count"
    );
}

fn keyed(key: &str) -> Settings {
    Settings { key: vec![key.into()], ..Settings::default() }
}

#[test]
fn grey_images_are_the_same_numbers_in_every_container() {
    let mut all = Vec::new();
    for (file, settings) in [
        ("grey", Settings::default()),
        ("grey.npy", Settings::default()),
        ("grey-stored.npz", Settings::default()),
        ("grey-packed.npz", keyed("images")),
        ("grey-images-idx3-ubyte", Settings::default()),
        ("grey-images-idx3-ubyte.gz", Settings::default()),
        ("grey.safetensors", Settings::default()),
        ("grey-lists.parquet", Settings { shape: Some(vec![8, 8]), ..Settings::default() }),
        ("grey-images.parquet", Settings::default()),
    ] {
        let statistics = measure(fixture(file), settings);
        check(file, &statistics, "grey", 1e-14);
        all.push((file, statistics.channels.total().unwrap()));
    }
    for (file, channels) in &all[1..] {
        assert_eq!(channels, &all[0].1, "{file}: other bits than the images");
    }
}

#[test]
fn integers_are_exact() {
    let total = measure(fixture("grey"), Settings::default()).channels.total().unwrap();
    let cellnorm::data::Values::Integers(histogram) = &total[0].values else { panic!("counted") };
    let theirs = expected("grey");
    assert_eq!(histogram.sum(), u128::from(theirs["sum"].as_u64().unwrap()));
    assert_eq!(histogram.sum_of_squares(), u128::from(theirs["sum_of_squares"].as_u64().unwrap()));
}

#[test]
fn images_of_16_bits_colour_and_transparency() {
    check("16-bit PNG", &measure(fixture("deep"), Settings::default()), "deep", 1e-14);
    check("16-bit TIFF", &measure(fixture("deep-tiff"), Settings::default()), "deep", 1e-14);
    check("colour", &measure(fixture("colour"), Settings::default()), "colour", 1e-14);
    check("WebP", &measure(fixture("webp"), Settings::default()), "webp", 1e-14);
    // a decoder of JPEG may differ by one in a value
    check("JPEG", &measure(fixture("jpeg"), Settings::default()), "jpeg", 0.02);
    let grey = Settings { colour: Colour::Grey, ..Settings::default() };
    check("luma", &measure(fixture("colour"), grey), "colour-grey", 1e-14);
    let mask = Settings { alpha: Alpha::Mask, ..Settings::default() };
    check("mask", &measure(fixture("colour"), mask), "colour-mask", 1e-14);
    let with_alpha =
        measure(fixture("colour"), Settings { alpha: Alpha::Channel, ..Settings::default() });
    assert_eq!(with_alpha.summaries().len(), 4);
}

#[test]
fn resizing_and_cropping_are_torchvision_s() {
    let settings = Settings { resize: Some(6), crop: Some(5), ..Settings::default() };
    check("resized", &measure(fixture("colour"), settings), "colour-6-5", 1e-14);
}

#[test]
fn features_far_from_zero_keep_twelve_digits() {
    for file in ["features.npy", "features.csv", "features.parquet"] {
        let statistics = measure(fixture(file), Settings::default());
        check(file, &statistics, "features", 1e-12);
    }
}

#[test]
fn channels_are_found_on_either_side_and_any_axes_can_be_kept() {
    for file in ["first.npy", "last.npy"] {
        check(file, &measure(fixture(file), Settings::default()), "volumes", 1e-13);
    }
    check(
        "big endian",
        &measure(fixture("big-endian.npy"), Settings::default()),
        "big-endian",
        1e-13,
    );
    let kept = measure(
        fixture("first.npy"),
        Settings { per: Per::Axes(vec![1, 3]), ..Settings::default() },
    );
    let theirs = expected("volumes-1-3");
    let summaries = kept.summaries();
    assert_eq!(summaries.len(), 21);
    for (place, one) in summaries.iter().enumerate() {
        let one = one.unwrap();
        close("mean", one.mean, numbers(&theirs["mean"])[place], 1e-13);
        close("deviation", one.deviation, numbers(&theirs["deviation"])[place], 1e-13);
    }
}

#[test]
fn what_is_no_number_is_counted_and_left_out() {
    let summaries = measure(fixture("holes.npy"), Settings::default()).summaries();
    let means = numbers(&expected("holes")["mean"]);
    let irregular: Vec<(u64, u64)> =
        summaries.iter().map(|one| one.map(|one| (one.nan, one.infinite)).unwrap()).collect();
    assert_eq!(irregular, [(0, 0), (1, 1), (0, 0), (0, 0), (0, 1)]);
    for (one, mean) in summaries.iter().zip(means) {
        close("mean", one.unwrap().mean, mean, 1e-14);
    }
    // a value that stands for a missing one
    let without =
        measure(fixture("grey.npy"), Settings { ignore: Some(0.0), ..Settings::default() });
    let one = without.summaries()[0].unwrap();
    assert!(one.min > 0.0 && one.count < 768);
}
