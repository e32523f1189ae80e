//! `ValueInfoProto`: the name of a value, and what is known of its shape.

use super::wire;
use crate::error::Malformed;

/// A shape as far as it is known: `None` for a length that the model leaves open.
pub type Shape = Vec<Option<usize>>;

/// What a model says of a value.
#[derive(Debug, Default)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// ONNX's number of the type of its elements; 0 if it is no tensor.
    pub element: i32,
    /// Its shape; `None` if not even the number of axes is said.
    pub shape: Option<Shape>,
}

/// What a `ValueInfoProto` says.
pub fn value_info(message: &[u8]) -> Result<Described<'_>, Malformed> {
    let mut described = Described::default();
    for field in wire::fields(message) {
        let field = field?;
        match field.number {
            1 => described.name = field.text()?,
            2 => {
                let Some(tensor) = find(field.bytes()?, &[1])? else { continue };
                described.shape = find(tensor, &[2])?.map(dimensions).transpose()?;
                let element = wire::fields(tensor).flatten().find(|field| field.number == 1);
                described.element = element.map_or(Ok(0), |element| element.integer())? as i32;
            }
            _ => {}
        }
    }
    Ok(described)
}

/// The message inside messages by their numbers.
fn find<'a>(message: &'a [u8], path: &[u32]) -> Result<Option<&'a [u8]>, Malformed> {
    let [number, rest @ ..] = path else { return Ok(Some(message)) };
    for field in wire::fields(message) {
        let field = field?;
        if field.number == *number {
            return find(field.bytes()?, rest);
        }
    }
    Ok(None)
}

fn dimensions(message: &[u8]) -> Result<Shape, Malformed> {
    let mut shape = Shape::new();
    for field in wire::fields(message) {
        let field = field?;
        if field.number == 1 {
            let length = wire::fields(field.bytes()?).find_map(|field| match field {
                Ok(field) if field.number == 1 => field.integer().ok(),
                _ => None,
            });
            // some exporters write 0 or -1 for a length left open
            shape.push(
                length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0),
            );
        }
    }
    Ok(shape)
}
