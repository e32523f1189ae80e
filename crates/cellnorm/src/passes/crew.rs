//! Work that other threads join if they come in time.
//!
//! A scope of rayon ends when all that was spawned in it has run. A thread that sleeps takes tens
//! of microseconds to wake, more in a virtual machine: a small tensor is done by then, and its
//! caller would wait for a thread that finds nothing left to do. Here the caller waits for those
//! that have begun, and no others.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{self, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::sync::{AtomicUsize, Mutex, current_num_threads, hint, spawn, thread};

/// The bit of a crew's state that says that nobody may join any more; the others count who is at
/// work.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often to look whether the others have finished before the processor is given to somebody
/// else, and before it rests.
const SPINS: usize = 1 << 10;
const YIELDS: usize = 1 << 11;

/// How many calls for help may wait for each thread. While all threads are busy with other work,
/// nobody comes.
const CALLS: usize = 4;

/// The calls for help that nobody has heard yet: std's count, since it orders nothing.
static UNHEARD: atomic::AtomicUsize = atomic::AtomicUsize::new(0);

/// Runs `work` on this thread and on up to `others` more, and returns when all that began have
/// finished. `work` must share out what there is to do, and return when nothing is left.
///
/// # Panics
/// If `work` does, on any thread.
pub(super) fn together(others: usize, work: &(dyn Fn() + Sync)) {
    if others == 0 {
        return work();
    }
    // SAFETY: only the lifetime is changed. The pointer is followed in `join` alone, between
    // `enter` and leaving, and the guard below lets this function end, or unwind, only after the
    // crew was closed and everyone who had entered has left.
    let erased: *const (dyn Fn() + Sync + 'static) =
        unsafe { mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(work) };
    let crew = Arc::new(Crew { state: AtomicUsize::new(0), work: erased, panic: Mutex::new(None) });
    let guard = Guard(&crew);
    let most = CALLS * current_num_threads();
    for _ in 0..others {
        // relaxed: a call too many does no harm
        if UNHEARD.load(Ordering::Relaxed) >= most {
            break;
        }
        UNHEARD.fetch_add(1, Ordering::Relaxed);
        let crew = Arc::clone(&crew);
        spawn(move || crew.join());
    }
    work();
    drop(guard);
    let panic = crew.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

struct Crew {
    state: AtomicUsize,
    work: *const (dyn Fn() + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: what `work` points to may be called from any thread (`Sync`), and everything else is made
// for sharing.
unsafe impl Send for Crew {}
// SAFETY: as above.
unsafe impl Sync for Crew {}

impl Crew {
    /// Takes part, unless it is too late.
    fn join(&self) {
        UNHEARD.fetch_sub(1, Ordering::Relaxed);
        if !self.enter() {
            return;
        }
        // SAFETY: the crew was not closed on entering, so the reference lives until this thread has
        // left.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*self.work)() }));
        if let Err(panic) = done {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match *first {
                None => *first = Some(panic),
                // to drop it could panic again
                Some(_) => mem::forget(panic),
            }
        }
        // release: whoever sees it also sees what was written here
        self.state.fetch_sub(1, Ordering::Release);
    }

    fn enter(&self) -> bool {
        let one_more = |state| (state & CLOSED == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok()
    }
}

/// Closes a crew and waits for those at work, however the caller's own part ends.
struct Guard<'a>(&'a Crew);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut at_work = self.0.state.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED;
        for spin in 0_usize.. {
            if at_work == 0 {
                break;
            }
            match spin {
                ..SPINS => hint::spin_loop(),
                SPINS..YIELDS => thread::yield_now(),
                _ => thread::sleep(Duration::from_micros(50)),
            }
            at_work = self.0.state.load(Ordering::Acquire) & !CLOSED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once() {
        for items in [0, 1, 7, 100] {
            let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
            together(3, &|| {
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= items {
                        break;
                    }
                    sum.fetch_add(item + 1, Ordering::Relaxed);
                }
            });
            assert_eq!(sum.into_inner(), items * (items + 1) / 2);
        }
    }

    #[test]
    fn who_has_begun_is_waited_for() {
        for _ in 0..200 {
            let (here, begun, ended) =
                (thread::current().id(), AtomicUsize::new(0), AtomicUsize::new(0));
            together(1, &|| {
                begun.fetch_add(1, Ordering::SeqCst);
                if thread::current().id() != here {
                    thread::yield_now();
                }
                ended.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(begun.into_inner(), ended.into_inner());
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let here = thread::current().id();
        let on_caller = catch_unwind(|| {
            together(2, &|| assert!(thread::current().id() != here, "on the caller"))
        });
        assert!(on_caller.is_err());
        let began = AtomicUsize::new(0);
        let elsewhere = catch_unwind(AssertUnwindSafe(|| {
            together(1, &|| {
                if thread::current().id() != here {
                    began.fetch_add(1, Ordering::SeqCst);
                    panic!("elsewhere");
                }
                // long enough for another thread to wake
                let start = std::time::Instant::now();
                while began.load(Ordering::SeqCst) == 0 && start.elapsed().as_secs() < 5 {
                    thread::yield_now();
                }
            });
        }));
        assert_eq!(elsewhere.is_err(), began.into_inner() > 0);
    }
}
