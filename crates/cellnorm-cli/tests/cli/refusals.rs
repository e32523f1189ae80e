//! Bad input is refused with exit code 2, a message that says what would be right, and nothing
//! left behind.

use std::fs;

use crate::common::{IMAGES, LABELS, Workplace, compare, entries, gzip, idx, plain};

/// Expects that the command refuses `flags` for all the reasons in `messages`, and that it
/// leaves nothing behind.
fn refuses(workplace: &Workplace, flags: &[&str], messages: &[&str]) {
    let output = workplace.compare(flags).output().unwrap();
    let stderr = plain(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for message in messages {
        assert!(stderr.contains(message), "{message:?} is not in {stderr:?}");
    }
    assert!(output.stdout.is_empty());
    assert_eq!(entries(&workplace.out()), [""; 0]);
}

#[test]
fn a_missing_file() {
    let workplace = Workplace::new();
    workplace.take("t10k-labels-idx1-ubyte");
    refuses(&workplace, &[], &["holds no t10k-labels-idx1-ubyte", "with or without .gz"]);
}

#[test]
fn a_missing_folder() {
    let workplace = Workplace::new();
    for name in entries(&workplace.data()) {
        workplace.take(&name);
    }
    fs::remove_dir(workplace.data()).unwrap();
    refuses(&workplace, &[], &["data holds no train-images-idx3-ubyte"]);
}

#[test]
fn a_file_cut_off() {
    let workplace = Workplace::new();
    let [(name, images), ..] = Workplace::files();
    workplace.put(name, &images[..1000]);
    refuses(
        &workplace,
        &[],
        &[
            "train-images-idx3-ubyte is not usable",
            "its header announces 7,840 values, but 984 follow",
            "cut off or damaged",
        ],
    );
    workplace.put(name, &images[..10]);
    refuses(&workplace, &[], &["it holds 10 bytes, fewer than the 16 of its header"]);
}

#[test]
fn a_gzipped_file_cut_off() {
    let workplace = Workplace::new();
    let [(name, images), ..] = Workplace::files();
    let packed = gzip(&images);
    workplace.put(name, &packed[..packed.len() / 2]);
    refuses(
        &workplace,
        &[],
        &["cannot read", "train-images-idx3-ubyte", "check that the file is complete"],
    );
}

#[test]
fn a_wrong_magic_number() {
    let workplace = Workplace::new();
    let [_, (_, labels), ..] = Workplace::files();
    workplace.put("t10k-images-idx3-ubyte", &labels);
    refuses(
        &workplace,
        &[],
        &[
            "t10k-images-idx3-ubyte is not usable",
            "it starts with 0x00000801 instead of 0x00000803",
            "check that the file has the right name",
        ],
    );
}

#[test]
fn images_of_another_size() {
    let workplace = Workplace::new();
    let images = idx(&[IMAGES, 10, 32, 32], &[0; 10 * 32 * 32]);
    workplace.put("train-images-idx3-ubyte", &images);
    refuses(&workplace, &[], &["its images have 32 × 32 pixels instead of 28 × 28"]);
}

#[test]
fn labels_of_other_images() {
    let workplace = Workplace::new();
    workplace.put("train-labels-idx1-ubyte", &idx(&[LABELS, 9], &[0; 9]));
    refuses(&workplace, &[], &["holds 9 labels for the 10 images", "each image needs one label"]);
}

#[test]
fn a_label_out_of_range() {
    let workplace = Workplace::new();
    let labels = idx(&[LABELS, 4], &[1, 2, 10, 3]);
    workplace.put("t10k-labels-idx1-ubyte", &labels);
    refuses(&workplace, &[], &["its label number 3 is 10", "labels must be between 0 and 9"]);
}

#[test]
fn an_unknown_normalization() {
    refuses(
        &Workplace::new(),
        &["--norms", "none,instanse"],
        &[
            "'instanse'",
            "none, batch, layer, instance, group, rms",
            "similar value exists: 'instance'",
        ],
    );
}

#[test]
fn counts_of_zero() {
    let workplace = Workplace::new();
    refuses(
        &workplace,
        &["--batch-sizes", "4,0"],
        &["'0' for '--batch-sizes <SIZES>'", "at least 1"],
    );
    let output = compare(&["--epochs", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = plain(&output.stderr);
    assert!(stderr.contains("'0' for '--epochs <N>': it must be a whole number of at least 1"));
}

#[test]
fn a_batch_larger_than_the_training_set() {
    refuses(
        &Workplace::new(),
        &["--batch-sizes", "4,11"],
        &["batch size 11 is larger than the training set of 10 images", "between 1 and 10"],
    );
}

#[test]
fn an_output_folder_that_cannot_be_made() {
    let workplace = Workplace::new();
    fs::write(workplace.out(), "in the way").unwrap();
    let output = workplace.compare(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = plain(&output.stderr);
    assert!(stderr.contains("cannot write to the output folder"), "{stderr}");
    assert!(!stderr.contains("epoch 1"), "refused before training");
    assert_eq!(fs::read_to_string(workplace.out()).unwrap(), "in the way");
}

#[test]
fn a_folder_where_a_result_should_go() {
    let workplace = Workplace::new();
    fs::create_dir_all(workplace.out().join("report.html")).unwrap();
    let output = workplace.compare(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(plain(&output.stderr).contains("report.html in it is a folder"));
    assert_eq!(entries(&workplace.out()), ["report.html"]);
}
