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
        self.push_owned(|out| wire::put_head(out, number, compute.length()));
        self.length += compute.length();
        self.pieces.push(Piece::Computed(compute));
    }

    /// Appends a field that is a message.
    pub fn push_message(&mut self, number: u32, message: Rope<'a>) {
        self.push_owned(|out| wire::put_head(out, number, message.length));
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
