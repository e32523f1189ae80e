//! Damaged files, loops and nothing at all: named, never a wrong number.

use std::fs;
use std::path::PathBuf;

use cellnorm_data::Error;
use cellnorm_data::files::{Format, list};
use cellnorm_data::scan::{Plan, ScanOptions};
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;

use crate::any_bytes::{as_array, as_statistics};
use crate::common::{fixture, listing, measure, read};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A folder with the grey images and one more file.
fn with(name: &str, content: &[u8]) -> (tempfile::TempDir, Statistics) {
    let folder = folder();
    for entry in fs::read_dir(fixture("grey")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(folder.path().join(name), content).unwrap();
    let statistics = measure(folder.path().to_owned(), Settings::default());
    (folder, statistics)
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_count() {
    let whole = measure(fixture("grey"), Settings::default());
    let png = fs::read(fixture("grey/03.png")).unwrap();
    let colour = fs::read(fixture("colour/0.png")).unwrap();
    let cut = &png[..png.len() / 2];
    let lying = [&fs::read(fixture("grey.npy")).unwrap()[..128], &[7; 9]].concat();
    for (name, content, problem) in [
        ("zz.png", cut, "cannot be decoded"),
        ("zz.png", b"no picture", "cannot be decoded"),
        ("zz.npy", &lying, "announces 768 bytes of numbers"),
        ("zz.npy", b"\x93NUMPY\x01\x00", "its header cannot be read"),
        (
            "zz-idx3-ubyte",
            &[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            "more than there can be",
        ),
        ("zz.csv", b"a,b\n1,2\n3,four\n", "line 3, column 2 holds \"four\""),
        ("zz.csv", b"", "it is empty"),
        ("zz.parquet", b"PAR1", "no usable Parquet file"),
        ("zz.npz", b"PK", "no usable .npz file"),
        ("zz.safetensors", &[255; 16], "no usable safetensors file"),
    ] {
        let (_folder, statistics) = with(name, content);
        let [failure] = statistics.failures.as_slice() else {
            panic!("{name}: {:?}", statistics.failures)
        };
        assert!(failure.name == name && failure.problem.contains(problem), "{failure:?}");
        assert_eq!(statistics.summaries(), whole.summaries(), "{name}");
    }
    // of another kind: as grey as the first image
    let (_folder, statistics) = with("zz.png", &colour);
    assert!(statistics.failures.is_empty() && statistics.summaries().len() == 1);
    let (_folder, statistics) = with("zz.npy", &fs::read(fixture("features.npy")).unwrap());
    assert!(
        statistics.failures[0]
            .problem
            .contains("and the first file that can be read has 1 channel of integers"),
        "{:?}",
        statistics.failures
    );
}

#[test]
fn strict_ends_at_the_first() {
    let (folder, _) = with("zz.png", b"no picture");
    let plan = Plan::new(listing(folder.path().to_owned()), Settings::default(), None).unwrap();
    let run = ScanOptions {
        threads: 2,
        shard: None,
        strict: true,
        progress: &mut |_| {},
        keep: &mut |_| Ok(()),
    };
    let error = plan.run(plan.start(), run).unwrap_err().to_string();
    assert!(error.contains("zz.png"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_loop_of_folders_ends_and_is_named() {
    let (folder, _) = with("readme.txt", b"");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    let listing = listing(folder.path().to_owned());
    assert_eq!((listing.files.len(), listing.others), (12, 1));
    assert!(
        listing.failures[0].problem.contains("leads back to its own folder"),
        "{:?}",
        listing.failures
    );
    let plan = Plan::new(listing, Settings::default(), None).unwrap();
    assert_eq!(
        read(&plan, plan.start(), 2, None).unwrap().summaries(),
        measure(fixture("grey"), Settings::default()).summaries()
    );
}

#[test]
fn nothing_to_read_is_an_error() {
    let folder = folder();
    let nothing = |path: PathBuf| {
        Plan::new(list(&[path]).unwrap(), Settings::default(), None).err().unwrap().to_string()
    };
    assert!(nothing(folder.path().to_owned()).starts_with("no image, IDX"));
    assert!(matches!(list(&["/does/not/exist".into()]), Err(Error::Read { .. })));
    fs::write(folder.path().join("a.txt"), "").unwrap();
    assert!(nothing(folder.path().to_owned()).contains("found, only others (1)"));
    let message = list(&[folder.path().join("a.txt")]).unwrap_err().to_string();
    assert!(message.contains("its name ends in none of png"), "{message}");
}

#[test]
fn what_is_not_said_is_asked_for() {
    let message = |file: &str, settings: Settings| {
        let plan = Plan::new(listing(fixture(file)), settings, None).unwrap();
        read(&plan, plan.start(), 1, None).unwrap().failures[0].problem.clone()
    };
    assert!(message("grey-packed.npz", Settings::default()).contains("name one with --key: "));
    let axes = Settings { channel_axis: Some(9), ..Settings::default() };
    assert!(
        message("first.npy", axes).contains("axis 9 does not exist in samples of shape [3, 5, 7]")
    );
    let crop = Settings { crop: Some(9), ..Settings::default() };
    assert!(message("grey", crop).contains("too few to cut out 9 × 9"));
}

#[test]
fn cut_and_flipped_files_are_refused_or_read() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let statistics = measure(fixture("features.npy"), Settings::default()).to_text().into_bytes();
    let counted = measure(fixture("grey"), Settings::default()).to_text().into_bytes();
    let [idx, npy] =
        ["grey-images-idx3-ubyte", "big-endian.npy"].map(|name| fs::read(fixture(name)).unwrap());
    for file in [&statistics, &counted, &idx, &npy] {
        for _ in 0..500 {
            let cut = &file[..random(file.len())];
            let mut flipped = file.clone();
            for _ in 0..=random(3) {
                let place =
                    if random(2) == 0 { random(file.len()) } else { random(file.len().min(64)) };
                flipped[place] ^= 1 << random(8);
            }
            for bytes in [cut, &flipped] {
                as_statistics(bytes);
                as_array(Format::Idx, bytes);
                as_array(Format::Npy, bytes);
            }
        }
    }
}
