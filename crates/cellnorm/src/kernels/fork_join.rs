//! A fork-join that does not wait for workers that have not started.
//!
//! A scope of rayon ends when everything spawned in it has run. A thread that sleeps takes tens of
//! microseconds to wake, more in a virtual machine: a small tensor is done by then, and its caller
//! would wait for a thread that finds nothing left to do. Here the caller waits only for workers
//! that have started:
//!
//! ```text
//! caller                                   each worker
//! spawn the workers                        unless CLOSED: workers += 1, else return
//! work()                                   work()
//! set CLOSED, so that no worker starts     workers -= 1
//! wait until workers = 0
//! pass on the first panic
//! ```
//!
//! CLOSED and the number of workers are one atomic word, so no worker starts after the caller has
//! seen that none is at work.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{self, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::sync::{AtomicUsize, Mutex, current_num_threads, hint, spawn, thread};

/// The bit of the state that says that no worker may start any more; the other bits count the
/// workers.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often the caller checks whether the workers have finished before it yields the processor,
/// and before it sleeps.
const SPINS: usize = 1 << 10;
const YIELDS: usize = 1 << 11;

/// How many spawned jobs may wait for each thread. While all threads are busy with other work, no
/// job starts.
const JOBS: usize = 4;

/// The jobs that have not started yet: std's count, since it orders nothing.
static WAITING: atomic::AtomicUsize = atomic::AtomicUsize::new(0);

/// Runs `work` on this thread and on up to `others` more, and returns when all that started have
/// finished. `work` must share out what there is to do, and return when nothing is left.
///
/// # Panics
/// If `work` does, on any thread.
pub(super) fn run(others: usize, work: &(dyn Fn() + Sync)) {
    if others == 0 {
        return work();
    }
    // SAFETY: only the lifetime is changed. The pointer is followed in `join` alone, between
    // `enter` and leaving, and the guard below lets this function end, or unwind, only after the
    // state was closed and every worker that had entered has left.
    let erased: *const (dyn Fn() + Sync + 'static) =
        unsafe { mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(work) };
    let fork = Arc::new(Fork { state: AtomicUsize::new(0), work: erased, panic: Mutex::new(None) });
    let guard = Guard(&fork);
    let most = JOBS * current_num_threads();
    for _ in 0..others {
        // relaxed: a job too many does no harm
        if WAITING.load(Ordering::Relaxed) >= most {
            break;
        }
        WAITING.fetch_add(1, Ordering::Relaxed);
        let fork = Arc::clone(&fork);
        spawn(move || fork.join());
    }
    work();
    drop(guard);
    let panic = fork.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

struct Fork {
    state: AtomicUsize,
    work: *const (dyn Fn() + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: what `work` points to may be called from any thread (`Sync`), and everything else is made
// for sharing.
unsafe impl Send for Fork {}
// SAFETY: as above.
unsafe impl Sync for Fork {}

impl Fork {
    /// Works too, unless it is too late.
    fn join(&self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        if !self.enter() {
            return;
        }
        // SAFETY: the state was not closed on entering, so the reference lives until this thread
        // has left.
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

/// Closes the state and waits for the workers, however the caller's own part ends.
struct Guard<'a>(&'a Fork);

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
            run(3, &|| {
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
    fn a_started_worker_is_waited_for() {
        for _ in 0..200 {
            let (here, begun, ended) =
                (thread::current().id(), AtomicUsize::new(0), AtomicUsize::new(0));
            run(1, &|| {
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
        let on_caller =
            catch_unwind(|| run(2, &|| assert!(thread::current().id() != here, "on the caller")));
        assert!(on_caller.is_err());
        let began = AtomicUsize::new(0);
        let elsewhere = catch_unwind(AssertUnwindSafe(|| {
            run(1, &|| {
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
