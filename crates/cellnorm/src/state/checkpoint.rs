//! A checkpoint as it is stored: what nobody asks for stays bit for bit, whatever its type.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::bytes::from_bytes;
use super::{DType, Tensor, Tensors, files, missing};
use crate::error::Error;

/// A tensor as its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Little end first, in row-major order.
    pub bytes: Vec<u8>,
}

/// The types that are read as numbers.
const TYPES: [(Dtype, DType); 7] = [
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::Bf16),
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::U8, DType::U8),
    (Dtype::I32, DType::I32),
    (Dtype::I64, DType::I64),
];

/// The tensors of a file, read as numbers one by one when asked for.
///
/// ```
/// use cellnorm::state::{Checkpoint, DType, Tensor};
/// use ndarray::array;
/// let mut checkpoint = Checkpoint::default();
/// checkpoint.metadata.insert("format".into(), "pt".into());
/// checkpoint.insert("bn.weight", &Tensor::new(array![1.0, 0.5].into_dyn(), DType::F16))?;
/// assert_eq!(checkpoint.shape("bn.weight"), Some(&[2][..]));
/// assert_eq!(checkpoint.tensor("bn.weight")?.values, array![1.0, 0.5].into_dyn());
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The file's description of itself: the `__metadata__` of safetensors.
    pub metadata: BTreeMap<String, String>,
    pub(super) stored: BTreeMap<String, Stored>,
}

impl Checkpoint {
    /// Reads a `.safetensors` or `.npz` file, with the feature `pytorch` `.pth` and `.pt`, too.
    ///
    /// # Errors
    /// If it cannot be read, has another extension or is damaged.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        files::read_stored(path.as_ref())
    }

    /// Writes a `.safetensors` file, or an `.npz` file, which has no place for
    /// [`metadata`](Self::metadata): beside it first, then in its place.
    ///
    /// # Errors
    /// As [`write`](super::write).
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::write_stored(path.as_ref(), self)
    }

    /// The names, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    /// The shape of a tensor; `None` if there is none of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.stored.get(name).map(|stored| stored.shape.as_slice())
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// If there is none of this name, or its type is none of [`DType`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let stored = self.stored.get(name).ok_or_else(|| missing(name, self.names()))?;
        let Some((_, dtype)) = TYPES.iter().find(|(theirs, _)| *theirs == stored.dtype) else {
            let problem = format!("has the type {}, which is not read here", stored.dtype);
            return Err(Error::tensor(name, problem));
        };
        from_bytes(name, *dtype, &stored.shape, &stored.bytes)
    }

    /// The numbers of all tensors.
    pub(super) fn tensors(&self) -> Result<Tensors, Error> {
        self.names().map(|name| Ok((name.to_owned(), self.tensor(name)?))).collect()
    }

    /// Puts a tensor of this name, in the place of one that is there.
    ///
    /// # Errors
    /// If its type does not hold one of its values.
    pub fn insert(&mut self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        let (dtype, _) =
            TYPES.iter().find(|(_, ours)| *ours == tensor.dtype).expect("every type has its own");
        let (shape, bytes) = (tensor.values.shape().to_vec(), tensor.to_bytes(name)?);
        self.stored.insert(name.to_owned(), Stored { dtype: *dtype, shape, bytes });
        Ok(())
    }

    /// Takes a tensor out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.stored.remove(name).is_some()
    }
}
