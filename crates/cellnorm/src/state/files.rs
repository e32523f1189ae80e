//! Checkpoints as files: safetensors, and NumPy's npz.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Tensors, npz, safetensors};
use crate::error::Error;

/// How a format is read and written.
struct Format {
    extension: &'static str,
    decode: fn(&[u8]) -> Result<Tensors, Error>,
    encode: fn(&Tensors) -> Result<Vec<u8>, Error>,
}

const FORMATS: [Format; 2] = [
    Format { extension: "safetensors", decode: safetensors::decode, encode: safetensors::encode },
    Format { extension: "npz", decode: npz::decode, encode: npz::encode },
];

/// Reads all tensors of a `.safetensors` or `.npz` file, as f64 with their own type noted.
///
/// # Errors
/// If the file cannot be read, has another extension, is damaged, or holds a type other than those of
/// [`DType`](super::DType).
pub fn read(path: impl AsRef<Path>) -> Result<Tensors, Error> {
    let path = path.as_ref();
    let decode = format(path)?.decode;
    let bytes = fs::read(path).map_err(|error| failed(path, error))?;
    decode(&bytes).map_err(|error| failed(path, error))
}

/// Writes tensors, each in its own type, as `.safetensors` or `.npz`: beside the file first, which is replaced when all is
/// written.
///
/// # Errors
/// If the extension is another one, a value does not fit its type, npz does not have the type (bfloat16), or the file cannot be
/// written. Then a file that was there is as it was.
///
/// ```
/// use cellnorm::state::{self, DType, Tensor, Tensors};
/// let path = std::env::temp_dir().join(format!("cellnorm-{}.safetensors", std::process::id()));
/// let tensors: Tensors = [("bn.weight".into(), Tensor::new(ndarray::array![1.0, 0.5].into_dyn(), DType::F16))].into();
/// state::write(&path, &tensors)?;
/// assert_eq!(state::read(&path)?, tensors);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn write(path: impl AsRef<Path>, tensors: &Tensors) -> Result<(), Error> {
    let path = path.as_ref();
    let bytes = (format(path)?.encode)(tensors).map_err(|error| failed(path, error))?;
    // no two writes share a file, whichever process or thread they are of
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}-{}.partial", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|error| {
        // the error at hand is the one to tell
        let _ = fs::remove_file(&beside);
        failed(path, error)
    })
}

fn format(path: &Path) -> Result<&'static Format, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    FORMATS
        .iter()
        .find(|format| extension == Some(format.extension))
        .ok_or_else(|| failed(path, "the name must end in .safetensors or .npz"))
}

fn failed(path: &Path, problem: impl ToString) -> Error {
    Error::File { path: path.display().to_string(), problem: problem.to_string() }
}
