//! Numbers that begin at a line of memory: a vector of them never lies across two lines, which
//! would cost its load or its store twice.

use std::ops::{Deref, DerefMut};

use super::stores::LINE;

/// A slice of its own memory, whose first number is the first of a line.
pub(super) struct Aligned<A> {
    memory: Vec<A>,
    start: usize,
    len: usize,
}

impl<A: Copy> Aligned<A> {
    /// No numbers.
    pub(super) const NONE: Self = Self { memory: vec![], start: 0, len: 0 };

    /// `len` times `value`.
    pub(super) fn new(len: usize, value: A) -> Self {
        if len == 0 {
            return Self::NONE;
        }
        let memory = vec![value; len + LINE / size_of::<A>()];
        let start = memory.as_ptr().align_offset(LINE).min(memory.len() - len);
        Self { memory, start, len }
    }
}

impl<A> Deref for Aligned<A> {
    type Target = [A];

    #[inline(always)]
    fn deref(&self) -> &[A] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<A> DerefMut for Aligned<A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [A] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
