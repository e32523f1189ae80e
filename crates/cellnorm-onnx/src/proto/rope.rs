//! Bytes to be written, from pieces: of the file as they are, made anew, or computed while they are
//! written.
//!
//! A message inside a message says its length first, so every piece knows its own, and none is held
//! twice.

use std::io::{self, Write};

use super::wire;

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

/// Pieces one behind the other.
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
    pub fn borrowed(&mut self, bytes: &'a [u8]) {
        self.length += bytes.len() as u64;
        self.pieces.push(Piece::Borrowed(bytes));
    }

    /// Appends bytes made by `make`.
    pub fn made(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        let before = self.pieces.pop();
        let mut bytes = match before {
            Some(Piece::Owned(bytes)) => bytes,
            Some(other) => {
                self.pieces.push(other);
                Vec::new()
            }
            None => Vec::new(),
        };
        let length = bytes.len();
        make(&mut bytes);
        self.length += (bytes.len() - length) as u64;
        self.pieces.push(Piece::Owned(bytes));
    }

    /// Appends a field of bytes that are computed later.
    pub fn computed(&mut self, number: u32, compute: &'a dyn Compute) {
        self.made(|out| wire::put_head(out, number, compute.length()));
        self.length += compute.length();
        self.pieces.push(Piece::Computed(compute));
    }

    /// Appends a field that is a message.
    pub fn message(&mut self, number: u32, message: Rope<'a>) {
        self.made(|out| wire::put_head(out, number, message.length));
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
