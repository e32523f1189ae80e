//! Any bytes as a model, for the test of damage and for the fuzz target: an error in one line or a
//! model, never a panic, and while reading never more memory than twice the file and 64 MB.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use cellnorm_onnx::fold::{Options, fold};
use cellnorm_onnx::proto::{Externals, Model};

/// The system's allocator, counting.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads and folds what may be a model.
pub fn any_bytes(file: &[u8]) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let model = Model::parse(file, &Externals::new());
    let most = MOST.load(Ordering::Relaxed) - before;
    assert!(most <= 2 * file.len() + (64 << 20), "{most} bytes for a file of {}", file.len());
    match model {
        Err(error) => assert!(!error.to_string().is_empty() && !error.to_string().contains('\n')),
        Ok(model) => match fold(model, &Options::default()) {
            Ok(folded) => {
                assert!(folded.report.after.batch_norms <= folded.report.before.batch_norms)
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        },
    }
}
