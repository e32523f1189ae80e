//! `TensorProto`: a constant of a graph.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::wire::{self, Value};
use super::{Float, Values};
use crate::error::Malformed;

/// The contents of side files, by the name that tensors give.
pub type Externals<'a> = BTreeMap<&'a str, &'a [u8]>;

/// The product of lengths; `None` if it is more than a machine counts.
pub fn product(lengths: impl IntoIterator<Item = usize>) -> Option<usize> {
    lengths.into_iter().try_fold(1_usize, |product, length| product.checked_mul(length))
}

/// A tensor, its numbers where they lie.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Its name; empty in attributes.
    pub name: &'a str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// ONNX's number of the type of its elements.
    pub data_type: i32,
    /// The message.
    pub message: &'a [u8],
    /// The bytes of `raw_data`, in the file or beside it.
    raw: Option<&'a [u8]>,
    /// The side file that the numbers are in.
    pub location: Option<&'a str>,
}

impl<'a> Tensor<'a> {
    /// The tensor that a message is. `externals` are the side files; a tensor in one that is not
    /// there has no numbers.
    pub fn parse(message: &'a [u8], externals: &Externals<'a>) -> Result<Self, Malformed> {
        let mut tensor =
            Self { name: "", dims: Vec::new(), data_type: 0, message, raw: None, location: None };
        let (mut external, mut entries) = (false, Vec::new());
        for field in wire::fields(message) {
            let field = field?;
            match field.number {
                1 => {
                    let negative = |_| Malformed("a tensor has a negative length".into());
                    for length in field.integers() {
                        tensor.dims.push(usize::try_from(length?).map_err(negative)?);
                    }
                }
                2 => tensor.data_type = field.integer()? as i32,
                8 => tensor.name = field.text()?,
                9 => tensor.raw = Some(field.bytes()?),
                13 => {
                    let entry = field.bytes()?;
                    entries.push((wire::text(entry, 1)?, wire::text(entry, 2)?));
                }
                14 => external = field.integer()? == 1,
                _ => {}
            }
        }
        if tensor.elements().is_none() {
            let Self { name, dims, .. } = tensor;
            let problem = format!("the tensor {name:?} of shape {dims:?} has too many elements");
            return Err(Malformed(problem));
        }
        if external {
            tensor.find_external(&entries, externals)?;
        }
        Ok(tensor)
    }

    /// Finds the bytes that lie in a side file.
    fn find_external(
        &mut self,
        entries: &[(&'a str, &'a str)],
        externals: &Externals<'a>,
    ) -> Result<(), Malformed> {
        let entry = |key| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let damaged = |place: String| Malformed(format!("the tensor {:?} lies {place}", self.name));
        let number = |key| {
            let wrong = |text| damaged(format!("at the {key} {text:?} of a side file"));
            let parse = |text: &str| text.parse::<usize>().map_err(|_| wrong(text.to_owned()));
            entry(key).map(parse).transpose()
        };
        let location = entry("location");
        let location = location.ok_or_else(|| damaged("in a side file without a name".into()))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let part = externals.get(location).map(|bytes| {
            let end = length.map_or(Some(bytes.len()), |length| offset.checked_add(length));
            let part = end.and_then(|end| bytes.get(offset..end));
            part.ok_or_else(|| damaged(format!("beyond the end of the side file {location:?}")))
        });
        self.raw = part.transpose()?;
        self.location = Some(location);
        Ok(())
    }

    /// The number of elements, unless it is more than a machine can count in bytes.
    fn elements(&self) -> Option<usize> {
        let elements = product(self.dims.iter().copied())?;
        elements.checked_mul(16).map(|_| elements)
    }

    /// Its numbers, if they are floats and all there.
    pub fn floats(&self) -> Option<Values<'a>> {
        let float = Float::from_onnx(self.data_type)?;
        let bytes = match self.raw {
            Some(bytes) => Cow::Borrowed(bytes),
            None if self.location.is_some() => return None,
            None => self.listed(float).ok()?,
        };
        let is_whole = Some(bytes.len()) == self.elements()?.checked_mul(float.size());
        is_whole.then(|| Values::from_bytes(float, bytes))
    }

    /// The numbers of the typed fields: of f32 and f64 as they lie, of the 16-bit types one integer
    /// each.
    fn listed(&self, float: Float) -> Result<Cow<'a, [u8]>, Malformed> {
        let number = match float {
            Float::F32 => 4,
            Float::F64 => 10,
            Float::F16 | Float::Bf16 => 5,
        };
        let mut found: Cow<'a, [u8]> = Cow::Borrowed(&[]);
        for field in wire::fields_numbered(self.message, number) {
            match (float, field.value) {
                (Float::F16 | Float::Bf16, _) => {
                    for bits in field.integers() {
                        found.to_mut().extend_from_slice(&(bits? as u16).to_le_bytes());
                    }
                }
                (_, Value::Bytes(bytes)) if found.is_empty() => found = Cow::Borrowed(bytes),
                (_, Value::Bytes(bytes)) => found.to_mut().extend_from_slice(bytes),
                (_, Value::Fixed32(bits)) => found.to_mut().extend_from_slice(&bits.to_le_bytes()),
                (_, Value::Fixed64(bits)) => found.to_mut().extend_from_slice(&bits.to_le_bytes()),
                (_, Value::Varint(_)) => return Err(Malformed("floats stored as integers".into())),
            }
        }
        Ok(found)
    }

    /// Its numbers, if they are integers of 32 or 64 bits or truth values, and all there.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let elements = self.elements()?;
        let values: Vec<i64> = match (self.data_type, self.raw) {
            (7, Some(bytes)) => {
                bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
            }
            (6, Some(bytes)) => {
                bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()
            }
            (9, Some(bytes)) => bytes.iter().map(|byte| (*byte).into()).collect(),
            (6 | 7 | 9, None) if self.location.is_none() => {
                let number = if self.data_type == 7 { 7 } else { 5 };
                let lists = wire::fields_numbered(self.message, number);
                lists.flat_map(|field| field.integers()).collect::<Result<_, _>>().ok()?
            }
            _ => return None,
        };
        (values.len() == elements).then_some(values)
    }
}
