//! Buffers that come back.
//!
//! A training step frees the outputs that the next step asks for again. Given back to the system,
//! they would be fresh pages each time, and touching those costs more than normalizing. So the
//! outputs of the fused operations return here when their tensor is gone, and wait,
//! [`keep_buffers`] bytes of each element type at most.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

use super::arranged::{self, Number};

/// Smaller buffers are left to the allocator, which keeps them itself.
const LEAST_BYTES: usize = 1 << 16;
/// The most memory that waits to be used again.
static MOST_BYTES: AtomicUsize = AtomicUsize::new(256 << 20);

/// Sets how many bytes of freed outputs of each element type wait to be used again: 256 MiB unless
/// set, none with 0.
///
/// More than this waits only until the next buffer returns. The setting is the whole program's;
/// results do not depend on it, only how often the system has to hand out fresh pages.
///
/// ```
/// cellnorm_burn::keep_buffers(0); // little memory matters more than speed
/// ```
pub fn keep_buffers(most_bytes: usize) {
    MOST_BYTES.store(most_bytes, Ordering::Relaxed);
    arranged::make_room();
}

/// Buffers of one element type that wait to be used again, the last returned last.
pub(super) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T: Number> Pool<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// An empty vector with room for `len` elements and not more than twice that; a new one where
    /// none waits.
    pub(super) fn take(&self, len: usize) -> Vec<T> {
        let mut buffer = self.waiting(len).unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// As [`take`](Self::take), but with `len` elements, whichever they were: what has waited need
    /// not be zeroed.
    pub(super) fn take_filled(&self, len: usize) -> Vec<T> {
        match self.waiting(len) {
            Some(mut buffer) => {
                buffer.resize(len, T::zeroed());
                buffer
            }
            None => vec![T::zeroed(); len],
        }
    }

    fn waiting(&self, len: usize) -> Option<Vec<T>> {
        let mut waiting = self.lock();
        let fits = |buffer: &Vec<T>| (len..=2 * len).contains(&buffer.capacity());
        waiting.iter().rposition(fits).map(|i| waiting.remove(i))
    }

    fn give_back(&self, buffer: Vec<T>) {
        let most = MOST_BYTES.load(Ordering::Relaxed);
        if (LEAST_BYTES..=most).contains(&bytes_of(&buffer)) {
            self.lock().push(buffer);
            self.make_room();
        }
    }

    /// Frees those that have waited the longest, until not too many wait.
    pub(super) fn make_room(&self) {
        let most = MOST_BYTES.load(Ordering::Relaxed);
        let mut waiting = self.lock();
        while waiting.iter().map(bytes_of).sum::<usize>() > most {
            waiting.remove(0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of<T>(buffer: &Vec<T>) -> usize {
    buffer.capacity() * size_of::<T>()
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

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        // SAFETY: the same bytes; the caller writes initialized data only (see the trait), and
        // numbers have no invalid bytes.
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
        const LEN: usize = 1 << 20;
        let most = MOST_BYTES.load(Ordering::Relaxed);
        let pool = f64::pool();
        let large = vec![1.5_f64; LEN];
        let at = large.as_ptr();
        let held = bytes(large);
        assert_eq!(bytemuck::cast_slice::<u8, f64>(&held)[7], 1.5);
        assert_eq!(pool.take(LEN).capacity(), 0, "still held");
        drop(held);
        assert!(pool.take(8).capacity() == 0, "far too large for this");
        let again = pool.take(LEN);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        drop(bytes(vec![0.0_f64; 4]));
        assert_eq!(pool.take(4).capacity(), 0);

        drop(bytes(vec![2.5_f64; LEN]));
        let filled = pool.take_filled(LEN - 3);
        assert_eq!((filled.len(), filled[LEN - 4]), (LEN - 3, 2.5), "not zeroed again");
        assert_eq!(pool.take_filled(5), [0.0; 5]);

        let kept = || pool.lock().iter().map(bytes_of).sum::<usize>();
        for _ in 0..6 {
            drop(bytes(vec![0.0_f64; most / 4 / size_of::<f64>()]));
        }
        assert!(kept() <= most, "{} bytes wait", kept());
        let half = burn::tensor::f16::pool();
        drop(bytes(vec![burn::tensor::f16::ZERO; LEN]));
        assert!(half.lock().iter().map(bytes_of).sum::<usize>() > 0);
        keep_buffers(0);
        assert_eq!(kept(), 0);
        assert_eq!(half.lock().len(), 0, "of every type");
        drop(bytes(vec![0.0_f64; LEN]));
        assert_eq!(kept(), 0);
        keep_buffers(most);
    }
}
