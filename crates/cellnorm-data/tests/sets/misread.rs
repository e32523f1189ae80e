//! Data that are easily misread: read as they are meant, or named.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellnorm_data::files::list;
use cellnorm_data::scan::Plan;
use cellnorm_data::settings::{Alpha, Per, Settings};
use cellnorm_data::state::Statistics;

use crate::common::{expected, fixture, listing, measure, numbers, read};

/// A `.npy` file of little-endian numbers.
fn npy(path: &Path, descr: &str, shape: &str, bytes: &[u8]) {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    fs::write(path, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat())
        .unwrap();
}

fn means(statistics: &Statistics) -> Vec<f64> {
    statistics.summaries().into_iter().map(|one| one.unwrap().mean).collect()
}

fn problem(path: PathBuf, settings: Settings) -> String {
    let statistics = measure(path, settings);
    let [failure] = statistics.failures.as_slice() else { panic!("{:?}", statistics.failures) };
    failure.problem.clone()
}

#[test]
fn a_cut_jpeg_is_no_grey_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = (folder.path().join("a.jpg"), fs::read(fixture("jpeg/flat.jpg")).unwrap());
    for length in whole.len() / 3..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            problem(path.clone(), Settings::default()).contains("it cannot be decoded"),
            "{length}"
        );
    }
    // what follows the end is no matter
    fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    assert_eq!(
        means(&measure(path, Settings::default())),
        means(&measure(fixture("jpeg"), Settings::default()))
    );
}

#[test]
fn tall_and_transparent_images_shrink_as_pillow_s() {
    for (alpha, name) in [(Alpha::Ignore, "tall"), (Alpha::Channel, "tall-alpha")] {
        let settings = Settings { resize: Some(5), crop: Some(5), alpha, ..Settings::default() };
        let found = means(&measure(fixture("tall"), settings));
        for (ours, theirs) in found.iter().zip(numbers(&expected(name)["mean"])) {
            assert!((ours - theirs).abs() < 1e-12 * theirs, "{name}: {ours} {theirs}");
        }
    }
}

#[test]
fn columns_are_what_their_types_say() {
    let found = means(&measure(fixture("odd.parquet"), Settings::default()));
    let theirs = numbers(&expected("odd")["mean"]);
    assert_eq!(found.len(), theirs.len(), "a time is no feature");
    for (ours, theirs) in found.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-15 * theirs, "{ours} {theirs}");
    }
    let asked = Settings { key: vec!["when".into()], ..Settings::default() };
    assert!(problem(fixture("odd.parquet"), asked).contains("no column \"when\" of numbers"));
    assert!(problem(fixture("ragged.parquet"), Settings::default()).contains("2 and 1 numbers"));
    let flags = measure(fixture("flags.safetensors"), Settings::default());
    assert_eq!((means(&flags), flags.full_scale()), (vec![0.75], 1.0));
}

#[test]
fn a_first_row_of_numbers_is_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "1,2,setosa\n3,4,setosa\n").unwrap();
    let some = Settings { key: vec!["0".into(), "1".into()], ..Settings::default() };
    assert_eq!(means(&measure(path.clone(), some)), [2.0, 3.0]);
    fs::write(&path, "?,100\n1,2\n").unwrap();
    assert!(problem(path, Settings::default()).contains("line 1, column 1 holds \"?\""));
}

#[test]
fn the_first_file_says_what_all_are_whatever_thread_is_faster() {
    let folder = tempfile::tempdir().unwrap();
    for (name, from) in [("a.png", "deep/0.png"), ("b.png", "grey/00.png"), ("c.png", "deep/1.png")]
    {
        fs::copy(fixture(from), folder.path().join(name)).unwrap();
    }
    let plan = Plan::new(listing(folder.path().to_owned()), Settings::default(), None).unwrap();
    let one = read(&plan, plan.start(), 1, None).unwrap();
    assert!(one.failures.len() == 1 && one.failures[0].name == "b.png", "{:?}", one.failures);
    for threads in 2..5 {
        assert_eq!(read(&plan, plan.start(), threads, None).unwrap(), one);
    }
    let mut shards =
        [2, 3, 1].map(|shard| read(&plan, plan.start(), 1, Some(plan.shard(shard, 3))).unwrap());
    let [all, others @ ..] = &mut shards;
    others.iter().for_each(|other| all.merge(other.clone()).unwrap());
    assert_eq!(*all, one);
    // labels beside images
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("grey-images-idx3-ubyte"), folder.path().join("train-images-idx3-ubyte"))
        .unwrap();
    fs::write(folder.path().join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 7, 9])
        .unwrap();
    let problem = problem(folder.path().to_owned(), Settings::default());
    assert!(
        problem.contains("in samples of 0 axes, and the first file that can be read has 1 channel"),
        "{problem}"
    );
}

#[test]
fn a_missing_value_is_rounded_like_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let values = [1.0_f32, -9999.9, 3.0, -9999.9];
    npy(&path, "<f4", "(4,)", &values.map(f32::to_le_bytes).concat());
    assert_eq!(
        means(&measure(path, Settings { ignore: Some(-9999.9), ..Settings::default() })),
        [2.0]
    );
}

#[test]
fn values_too_far_apart_for_squares_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    npy(&path, "<f8", "(2,)", &[1e200_f64, -1e200].map(f64::to_le_bytes).concat());
    assert!(problem(path, Settings::default()).contains("scale them first"));
}

#[test]
fn samples_are_drawn_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let values: Vec<u8> = (0..200_000_u32).map(|place| (place / 1000) as u8).collect();
    npy(&path, "|u1", "(200000,)", &values);
    let drawn = |path: PathBuf, count, seed| {
        measure(path, Settings { sample: Some((count, seed)), ..Settings::default() })
    };
    let mut found = Vec::new();
    for seed in 0..20 {
        let one = drawn(path.clone(), 1000, seed).summaries()[0].unwrap();
        assert_eq!(one.count, 1000);
        found.push(one.mean);
    }
    // sorted values: 1,000 drawn alike have a mean of 99.5 ± 57.7/√1000, twenty of them within 4.5
    // deviations
    assert!(
        found.iter().all(|mean| (mean - 99.5).abs() < 4.5 * 57.74 / 1000_f64.sqrt()),
        "{found:?}"
    );
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(drawn(path, 1 << 40, 1).summaries()[0].unwrap().count, 200_000);
    for (set, values) in
        [("grey", 64), ("grey.npy", 64), ("grey-images.parquet", 64), ("features.parquet", 1)]
    {
        let count = drawn(fixture(set), 7, 1).summaries()[0].unwrap().count;
        assert_eq!(count, 7 * values, "{set}");
    }
    let some = Settings { sample: Some((7, 1)), ..Settings::default() };
    let error = Plan::new(listing(fixture("features.csv")), some, None).err().unwrap().to_string();
    assert!(error.contains("leave out --sample"), "{error}");
}

#[test]
fn a_file_counts_once() {
    let error = list(&[fixture("grey"), fixture("grey/00.png")]).unwrap_err().to_string();
    assert!(error.contains("00.png: its files would count twice"), "{error}");
    let again = list(&[fixture("grey"), fixture("grey/../grey")]).unwrap_err().to_string();
    assert!(again.contains("count twice"), "{again}");
    assert_eq!(list(&[fixture("grey"), fixture("deep")]).unwrap().files.len(), 15);
}

#[test]
fn brackets_in_a_header_take_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for bracket in ["{", "(", "[", "{(["] {
        npy(&path, "<f4", &bracket.repeat(60), &[]);
        let start = Instant::now();
        assert!(problem(path.clone(), Settings::default()).contains("none of an array of numbers"));
        assert!(start.elapsed().as_secs() < 60, "parsing them one in the other would take years");
    }
}

#[test]
fn many_channels_of_16_bits_are_not_counted_value_by_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    npy(&path, "<u2", "(2, 8, 8)", &(0..128_u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let found = measure(path, Settings { per: Per::Place, ..Settings::default() });
    assert!(!found.layout.as_ref().unwrap().counted);
    assert_eq!((means(&found)[0], found.full_scale()), (32.0, 65_535.0));
}

#[test]
fn the_mean_of_a_file_cannot_be_changed_unseen() {
    let text = measure(fixture("features.npy"), Settings::default()).to_text();
    let mean = &text[text.find("\"mean\":[").unwrap() + 8..][..5];
    assert!(
        Statistics::parse(text.replacen(mean, "12345", 1).as_bytes())
            .unwrap_err()
            .contains("was changed")
    );
}
