//! Small datasets on disk, and ways to read what the command says.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

pub const IMAGES: u32 = 0x803;
pub const LABELS: u32 = 0x801;

/// `cellnorm compare` with `flags`.
pub fn compare(flags: &[&str]) -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("cellnorm");
    command.arg("compare").args(flags);
    command
}

/// An IDX file of those words and bytes.
pub fn idx(words: &[u32], values: &[u8]) -> Vec<u8> {
    let header = words.iter().flat_map(|word| word.to_be_bytes());
    header.chain(values.iter().copied()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder for data and one for output, which does not exist yet.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// With 10 images to train on and 4 to test on.
    pub fn new() -> Self {
        let workplace = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(workplace.data()).unwrap();
        for (name, bytes) in Self::files() {
            workplace.put(name, &bytes);
        }
        workplace
    }

    /// The four files, under their usual names.
    pub fn files() -> [(&'static str, Vec<u8>); 4] {
        let labels = |n: u8| -> Vec<u8> { (0..n).map(|i| i % 10).collect() };
        // Each class is a bar of its own, with a little that differs between images.
        let pixels = |n: u8| -> Vec<u8> {
            let pixel = |i: usize, p: usize| match p / 78 == i % 10 {
                true => 255,
                false => (17 * i + p) % 50,
            };
            (0..usize::from(n)).flat_map(|i| (0..784).map(move |p| pixel(i, p) as u8)).collect()
        };
        let images_file = |n: u8| idx(&[IMAGES, n.into(), 28, 28], &pixels(n));
        let labels_file = |n: u8| idx(&[LABELS, n.into()], &labels(n));
        [
            ("train-images-idx3-ubyte", images_file(10)),
            ("train-labels-idx1-ubyte", labels_file(10)),
            ("t10k-images-idx3-ubyte", images_file(4)),
            ("t10k-labels-idx1-ubyte", labels_file(4)),
        ]
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Puts a file into the data folder.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.data().join(name), bytes).unwrap();
    }

    /// Takes a file out of the data folder.
    pub fn take(&self, name: &str) {
        fs::remove_file(self.data().join(name)).unwrap();
    }

    /// `cellnorm compare` on this data: one epoch of batches of 4, unless `flags` say more.
    pub fn compare(&self, flags: &[&str]) -> Command {
        let mut command = compare(&["--epochs", "1"]);
        command.arg("--data").arg(self.data());
        command.arg("--out").arg(self.out());
        if !flags.contains(&"--batch-sizes") {
            command.args(["--batch-sizes", "4"]);
        }
        command.args(flags);
        command
    }
}

/// The content of `results.json`.
pub fn results(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap()
}

/// Removes every object named `timing`.
pub fn remove_timing(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("timing");
                map.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

/// The text without the line breaks and rules that lay it out.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let words = text.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

/// The names of all files in a folder; none if there is no folder.
pub fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
