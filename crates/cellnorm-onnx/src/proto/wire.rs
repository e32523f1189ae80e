//! Protocol buffers as bytes: a message is a sequence of fields, each a tag (number · 8 + wire
//! type) and a value.
//!
//! Fields are read where they lie and written back as they were, known or not, so nothing is lost
//! that nobody asked to change. A message inside a message says its length first, so every piece of
//! a [`Rope`] knows its own, and none is held twice.

use std::io::{self, Write};
use std::{iter, str};

use crate::error::Malformed;

/// A field's value by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Type 0.
    Varint(u64),
    /// Type 1: eight bytes, little end first.
    Fixed64(u64),
    /// Type 2: bytes, a text, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Type 5: four bytes, little end first.
    Fixed32(u32),
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Tag and value as they lie in the file.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The bytes of a field of type 2.
    pub fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(Malformed(format!("field {} is {other:?}, not bytes", self.number))),
        }
    }

    /// The text of a field of type 2.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        str::from_utf8(self.bytes()?)
            .map_err(|_| Malformed(format!("the text of field {} is not UTF-8", self.number)))
    }

    /// The integer of a field of type 0.
    pub fn integer(&self) -> Result<i64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value as i64),
            other => Err(Malformed(format!("field {} is {other:?}, not an integer", self.number))),
        }
    }

    /// The numbers of a repeated field of integers, packed or one.
    pub fn integers(&self) -> impl Iterator<Item = Result<i64, Malformed>> + use<'a> {
        let (single, packed): (_, &'a [u8]) = match self.value {
            Value::Varint(value) => (Some(Ok(value as i64)), &[]),
            Value::Bytes(packed) => (None, packed),
            Value::Fixed32(_) | Value::Fixed64(_) => (None, &[]),
        };
        let packed = elements(packed, |rest| varint(rest).map(|value| value as i64));
        single.into_iter().chain(packed)
    }
}

/// The fields of a message, in the order of the file. It ends after the first that is damaged.
pub fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    elements(message, field)
}

/// The fields of a message that have this number, as far as none is damaged.
pub fn fields_numbered(message: &[u8], number: u32) -> impl Iterator<Item = Field<'_>> {
    fields(message).flatten().filter(move |field| field.number == number)
}

/// The last field of this number: a later one takes the place of an earlier one.
pub fn last(message: &[u8], number: u32) -> Result<Option<Field<'_>>, Malformed> {
    fields(message).try_fold(None, |last, field| {
        field.map(|field| if field.number == number { Some(field) } else { last })
    })
}

/// The bytes of the last field of this number.
pub fn bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    last(message, number)?.map(|field| field.bytes()).transpose()
}

/// The text of the last field of this number; empty if there is none.
pub fn text(message: &[u8], number: u32) -> Result<&str, Malformed> {
    last(message, number)?.map_or(Ok(""), |field| field.text())
}

/// The integer of the last field of this number; 0 if there is none.
pub fn integer(message: &[u8], number: u32) -> Result<i64, Malformed> {
    last(message, number)?.map_or(Ok(0), |field| field.integer())
}

/// Elements one after the other, each read from the start of the rest. They end after an error.
fn elements<'a, T>(
    mut rest: &'a [u8],
    read: impl Fn(&mut &'a [u8]) -> Result<T, Malformed>,
) -> impl Iterator<Item = Result<T, Malformed>> {
    iter::from_fn(move || {
        let element = (!rest.is_empty()).then(|| read(&mut rest));
        if let Some(Err(_)) = element {
            rest = &[];
        }
        element
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let whole = *rest;
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| Malformed(format!("{} is no field number", tag >> 3)))?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(*array(rest)?)),
        2 => {
            let length = varint(rest)?;
            let bytes =
                usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let left = rest.len();
            let (bytes, others) = bytes.ok_or_else(|| {
                Malformed(format!("field {number} says {length} bytes where {left} are left"))
            })?;
            *rest = others;
            Value::Bytes(bytes)
        }
        5 => Value::Fixed32(u32::from_le_bytes(*array(rest)?)),
        other => {
            let problem =
                format!("field {number} has the wire type {other}; ONNX has 0, 1, 2 and 5");
            return Err(Malformed(problem));
        }
    };
    Ok(Field { number, value, raw: &whole[..whole.len() - rest.len()] })
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    let is_cut = rest.len() < 10;
    let problem =
        if is_cut { "the file ends inside a number" } else { "a number of over 10 bytes" };
    Err(Malformed(problem.into()))
}

fn array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Malformed> {
    let cut = || Malformed("the file ends inside a number".into());
    let (value, others) = rest.split_first_chunk().ok_or_else(cut)?;
    *rest = others;
    Ok(value)
}

/// Appends a number of 7 bits a byte.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag and the length of a field of type 2, whose bytes are to follow.
pub fn put_head(out: &mut Vec<u8>, number: u32, length: u64) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length);
}

/// Appends a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(out, number, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field that is a message of two texts, a key (field 1) and its value (field 2).
pub fn put_entry(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, key.as_bytes());
    put_bytes(&mut entry, 2, value.as_bytes());
    put_bytes(out, number, &entry);
}

/// A message with one field of bytes.
pub fn message(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, number, bytes);
    message
}

/// Appends a field of an integer.
pub fn put_integer(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

/// Numbers that are computed when they are written.
pub trait Compute {
    /// How many bytes they are.
    fn length(&self) -> u64;
    /// Writes them.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()>;
}

enum Piece<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Computed(&'a dyn Compute),
}

/// Pieces one after the other.
#[derive(Default)]
pub struct Rope<'a> {
    pieces: Vec<Piece<'a>>,
    length: u64,
}

impl<'a> Rope<'a> {
    /// How many bytes it is.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends bytes that lie elsewhere.
    pub fn push_borrowed(&mut self, bytes: &'a [u8]) {
        self.length += bytes.len() as u64;
        self.pieces.push(Piece::Borrowed(bytes));
    }

    /// Appends the bytes that `write` appends to a piece.
    pub fn push_owned(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.pieces.last(), Some(Piece::Owned(_))) {
            self.pieces.push(Piece::Owned(Vec::new()));
        }
        if let Some(Piece::Owned(bytes)) = self.pieces.last_mut() {
            let length = bytes.len();
            write(bytes);
            self.length += (bytes.len() - length) as u64;
        }
    }

    /// Appends a field of bytes that are computed later.
    pub fn push_computed(&mut self, number: u32, compute: &'a dyn Compute) {
        self.push_owned(|out| put_head(out, number, compute.length()));
        self.length += compute.length();
        self.pieces.push(Piece::Computed(compute));
    }

    /// Appends a field that is a message.
    pub fn push_message(&mut self, number: u32, message: Rope<'a>) {
        self.push_owned(|out| put_head(out, number, message.length));
        self.length += message.length;
        self.pieces.extend(message.pieces);
    }

    /// Writes all of it.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Borrowed(bytes) => out.write_all(bytes)?,
                Piece::Owned(bytes) => out.write_all(bytes)?,
                Piece::Computed(compute) => compute.write_to(out)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut message = Vec::new();
        put_integer(&mut message, 1, -1);
        put_bytes(&mut message, 500, b"text");
        let read: Vec<Field> = fields(&message).collect::<Result<_, _>>().unwrap();
        assert_eq!((read[0].number, read[0].integer().unwrap()), (1, -1));
        assert_eq!((read[1].number, read[1].text().unwrap()), (500, "text"));
        assert_eq!([read[0].raw, read[1].raw].concat(), message);
    }

    #[test]
    fn packed_numbers_and_single_ones_are_the_same() {
        let packed = Field { number: 8, value: Value::Bytes(&[1, 0x80, 1]), raw: &[] };
        assert_eq!(packed.integers().collect::<Result<Vec<_>, _>>().unwrap(), [1, 128]);
        let single = Field { number: 8, value: Value::Varint(7), raw: &[] };
        assert_eq!(single.integers().collect::<Result<Vec<_>, _>>().unwrap(), [7]);
    }

    #[test]
    fn every_cut_of_a_message_is_an_error_or_whole_fields() {
        let mut message = Vec::new();
        put_integer(&mut message, 3, 300);
        put_bytes(&mut message, 4, &[9; 200]);
        message.extend_from_slice(&[5 << 3 | 5, 1, 2, 3, 4, 6 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        let ends: Vec<usize> = fields(&message).map(|field| field.unwrap().raw.len()).collect();
        let whole: Vec<usize> = (0..=ends.len()).map(|count| ends[..count].iter().sum()).collect();
        for cut in 0..=message.len() {
            assert_eq!(
                fields(&message[..cut]).all(|field| field.is_ok()),
                whole.contains(&cut),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn damage_is_named() {
        let message = |bytes: &'static [u8]| fields(bytes).next().unwrap().unwrap_err().0;
        assert_eq!(message(&[0x0a, 200, 1]), "field 1 says 200 bytes where 0 are left");
        assert_eq!(message(&[0]), "0 is no field number");
        assert_eq!(message(&[0x0b]), "field 1 has the wire type 3; ONNX has 0, 1, 2 and 5");
        assert_eq!(message(&[0xff; 11]), "a number of over 10 bytes");
    }
}
