//! Checkpoints as files: safetensors, and NumPy's npz.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::SafeTensorError;
use safetensors::tensor::{SafeTensors, TensorView, serialize};

use super::checkpoint::Stored;
use super::{Checkpoint, Tensors, npz};
use crate::error::Error;

/// How a checkpoint becomes a file's bytes.
type Encode = fn(&Checkpoint) -> Result<Vec<u8>, Error>;

/// How a format is read, and how written, if it is.
struct Format {
    extension: &'static str,
    read: fn(&Path) -> Result<Checkpoint, Error>,
    encode: Option<Encode>,
}

const FORMATS: &[Format] = &[
    Format {
        extension: "safetensors",
        read: |path| decode_safetensors(&all(path)?),
        encode: Some(encode_safetensors),
    },
    Format { extension: "npz", read: |path| npz::decode(&all(path)?), encode: Some(npz::encode) },
    #[cfg(feature = "pytorch")]
    Format { extension: "pth", read: super::pytorch::read, encode: None },
    #[cfg(feature = "pytorch")]
    Format { extension: "pt", read: super::pytorch::read, encode: None },
];

/// Reads all tensors of a `.safetensors` or `.npz` file, and with the feature `pytorch` of a `.pth`
/// or `.pt` file, as f64 with their own type noted.
///
/// # Errors
/// If the file cannot be read, has another extension, is damaged, or holds a type other than those
/// of [`DType`](super::DType).
pub fn read(path: impl AsRef<Path>) -> Result<Tensors, Error> {
    let path = path.as_ref();
    Checkpoint::read(path)?.tensors().map_err(|error| failed(path, error))
}

/// Writes tensors, each in its own type, as `.safetensors` or `.npz`: beside the file first, which
/// is replaced when all is written.
///
/// # Errors
/// If the extension is another one, a value does not fit its type, npz does not have the type
/// (bfloat16), or the file cannot be written. Then a file that was there is as it was.
///
/// ```
/// use cellnorm::state::{self, DType, Tensor, Tensors};
/// let path =
///     std::env::temp_dir().join(format!("cellnorm-{}.safetensors", std::process::id()));
/// let tensors: Tensors =
///     [("bn.weight".into(), Tensor::new(ndarray::array![1.0, 0.5].into_dyn(), DType::F16))]
///         .into();
/// state::write(&path, &tensors)?;
/// assert_eq!(state::read(&path)?, tensors);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn write(path: impl AsRef<Path>, tensors: &Tensors) -> Result<(), Error> {
    let path = path.as_ref();
    let mut checkpoint = Checkpoint::default();
    for (name, tensor) in tensors {
        checkpoint.insert(name, tensor).map_err(|error| failed(path, error))?;
    }
    checkpoint.write(path)
}

/// Reads a checkpoint as it is stored.
pub(super) fn read_stored(path: &Path) -> Result<Checkpoint, Error> {
    (format(path, |_| true)?.read)(path).map_err(|error| match error {
        named @ Error::File { .. } => named,
        error => failed(path, error),
    })
}

/// Writes a checkpoint as it is stored: beside the file first, then in its place.
pub(super) fn write_stored(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    let format = format(path, |format| format.encode.is_some())?;
    let bytes = format.encode.map_or(Ok(Vec::new()), |encode| encode(checkpoint));
    let bytes = bytes.map_err(|error| failed(path, error))?;
    // no two writes share a file, whichever process or thread they are of
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut beside = path.as_os_str().to_owned();
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    beside.push(format!(".{}-{number}.partial", std::process::id()));
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

/// The format of a file's extension, of those that will do.
fn format(path: &Path, will_do: fn(&Format) -> bool) -> Result<&'static Format, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let mut possible = FORMATS.iter().filter(|format| will_do(format));
    possible.clone().find(|format| extension == Some(format.extension)).ok_or_else(|| {
        let last = possible.next_back().map_or("", |format| format.extension);
        let first: Vec<String> = possible.map(|format| format!(".{}", format.extension)).collect();
        failed(path, format!("the name must end in {} or .{last}", first.join(", ")))
    })
}

fn all(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, problem: impl ToString) -> Error {
    Error::File { path: path.display().to_string(), problem: problem.to_string() }
}

fn decode_safetensors(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let stored = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name, Stored { dtype, shape, bytes })
    };
    Ok(Checkpoint {
        metadata: header.metadata().clone().into_iter().flatten().collect(),
        stored: file.tensors().into_iter().map(stored).collect(),
    })
}

fn encode_safetensors(checkpoint: &Checkpoint) -> Result<Vec<u8>, Error> {
    let views = checkpoint.stored.iter().map(|(name, stored)| {
        let view =
            TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).map_err(damaged)?;
        Ok((name, view))
    });
    let metadata = &checkpoint.metadata;
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    serialize(views.collect::<Result<Vec<_>, Error>>()?, metadata).map_err(damaged)
}

fn damaged(error: SafeTensorError) -> Error {
    Error::tensor("safetensors", error)
}
