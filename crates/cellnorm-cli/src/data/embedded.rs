//! The subset of Fashion-MNIST that comes with the program (see `data/README.md`).

/// The name of the subset in results and reports.
pub const NAME: &str = "Fashion-MNIST, balanced subset";

/// The bytes of the file with that usual name.
pub fn file(name: &'static str) -> &'static [u8] {
    match name {
        "train-images-idx3-ubyte" => include_bytes!("../../data/train-images-idx3-ubyte.gz"),
        "train-labels-idx1-ubyte" => include_bytes!("../../data/train-labels-idx1-ubyte.gz"),
        "t10k-images-idx3-ubyte" => include_bytes!("../../data/t10k-images-idx3-ubyte.gz"),
        _ => include_bytes!("../../data/t10k-labels-idx1-ubyte.gz"),
    }
}
