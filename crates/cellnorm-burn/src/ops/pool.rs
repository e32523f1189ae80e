//! Large buffers that come back.
//!
//! A training step frees the outputs that the next step asks for again. Given back to the system, they would be fresh pages each
//! time, and touching those costs more than normalizing. So the outputs of the fused operations return here when their tensor
//! is gone, and wait, 256 MiB of each element type at most.

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use burn::backend::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

use super::arranged::Number;

/// Smaller buffers are left to the allocator, which keeps them itself.
const LEAST_BYTES: usize = 1 << 20;
/// The most memory that waits to be used again.
const MOST_BYTES: usize = 256 << 20;

/// Buffers of one element type that wait to be used again, the last returned last.
pub(super) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T: Number> Pool<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// An empty vector with room for `len` elements and not more than twice that; a new one where none waits.
    pub(super) fn take(&self, len: usize) -> Vec<T> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<T>| (len..=2 * len).contains(&buffer.capacity());
        waiting.iter().rposition(fits).map(|i| waiting.remove(i)).unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<T>) {
        buffer.clear();
        let bytes = |buffer: &Vec<T>| buffer.capacity() * size_of::<T>();
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes(&buffer)) {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(buffer);
        while waiting.iter().map(bytes).sum::<usize>() > MOST_BYTES {
            waiting.remove(0);
        }
    }
}

/// The bytes of a vector; it returns to its pool with the last tensor that holds them.
pub(super) fn bytes<T: Number>(buffer: Vec<T>) -> Bytes {
    let len = size_of_val(buffer.as_slice());
    // SAFETY: the controller's memory is the vector's `len` bytes, all of them initialized numbers.
    unsafe { Bytes::from_controller(Box::new(Pooled(buffer)), len) }
}

struct Pooled<T: Number>(Vec<T>);

impl<T: Number> Drop for Pooled<T> {
    fn drop(&mut self) {
        T::pool().give_back(std::mem::take(&mut self.0));
    }
}

impl<T: Number> AllocationController for Pooled<T> {
    fn alloc_align(&self) -> usize {
        align_of::<T>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _policy: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        // SAFETY: the same bytes; the caller writes initialized data only (see the trait), and numbers have no invalid bytes.
        Ok(unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.0);
        // SAFETY: the same bytes; initialized ones are valid where they need not be.
        Ok(unsafe { &*(std::ptr::from_ref(bytes) as *const [MaybeUninit<u8>]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: the pool is shared by all of them.
    #[test]
    fn a_large_buffer_comes_back_and_a_small_one_does_not() {
        let pool = f64::pool();
        let large = vec![1.5_f64; LEAST_BYTES];
        let at = large.as_ptr();
        let held = bytes(large);
        assert_eq!(bytemuck::cast_slice::<u8, f64>(&held)[7], 1.5);
        assert_eq!(pool.take(LEAST_BYTES).capacity(), 0, "still held");
        drop(held);
        assert!(pool.take(8).capacity() == 0, "far too large for this");
        let again = pool.take(LEAST_BYTES);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        drop(bytes(vec![0.0_f64; 4]));
        assert_eq!(pool.take(4).capacity(), 0);
        for _ in 0..6 {
            drop(bytes(vec![0.0_f64; MOST_BYTES / 4 / size_of::<f64>()]));
        }
        let kept = pool.0.lock().expect("not poisoned").iter().map(|b| b.capacity() * size_of::<f64>()).sum::<usize>();
        assert!(kept <= MOST_BYTES, "{kept} bytes wait");
    }
}
