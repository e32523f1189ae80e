//! `ValueInfoProto`: the name of a value, and what is known of its shape.

use super::wire;
use crate::error::Malformed;

/// A shape as far as it is known: `None` for a length that the model leaves open.
pub type Shape = Vec<Option<usize>>;

/// The product of lengths; `None` if it is more than a machine counts.
pub fn product(lengths: impl IntoIterator<Item = usize>) -> Option<usize> {
    lengths.into_iter().try_fold(1_usize, |product, length| product.checked_mul(length))
}

/// The type and shape that a model states for a value.
#[derive(Debug, Default)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// ONNX's number of the type of its elements; 0 if it is no tensor.
    pub element: i32,
    /// Its shape; `None` if not even the number of axes is said.
    pub shape: Option<Shape>,
}

/// The content of a `ValueInfoProto`.
pub fn value_info(message: &[u8]) -> Result<Described<'_>, Malformed> {
    let mut described = Described::default();
    for field in wire::fields(message) {
        let field = field?;
        match field.number {
            1 => described.name = field.text()?,
            2 => {
                let Some(tensor) = inner_message(field.bytes()?, 1)? else { continue };
                described.shape = inner_message(tensor, 2)?.map(dimensions).transpose()?;
                let element = wire::fields_numbered(tensor, 1).next();
                described.element = element.map_or(Ok(0), |element| element.integer())? as i32;
            }
            _ => {}
        }
    }
    Ok(described)
}

/// The message that is the first field of this number.
fn inner_message(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    for field in wire::fields(message) {
        let field = field?;
        if field.number == number {
            return field.bytes().map(Some);
        }
    }
    Ok(None)
}

fn dimensions(message: &[u8]) -> Result<Shape, Malformed> {
    let mut shape = Shape::new();
    for field in wire::fields(message) {
        let field = field?;
        if field.number == 1 {
            let mut numbers = wire::fields_numbered(field.bytes()?, 1);
            let length = numbers.find_map(|field| field.integer().ok());
            // some exporters write 0 or -1 for a length left open
            let length = length.and_then(|length| usize::try_from(length).ok());
            shape.push(length.filter(|length| *length > 0));
        }
    }
    Ok(shape)
}
