//! Every interleaving of a caller of `run` and those that join it, with every value that their
//! atomics may show.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize as Count, Ordering};

use cellnorm_loom::run;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::thread::{self, ThreadId};

const ITEMS: usize = 3;

/// The memory that the threads share. Loom panics if two of them reach a cell, one to write, and
/// nothing orders one before the other.
struct Work {
    caller: ThreadId,
    /// how many took part beside the caller; std's count, which orders nothing
    joined: Count,
    next: AtomicUsize,
    /// how often each item was done
    done: [UnsafeCell<usize>; ITEMS],
    /// whether `run` has returned
    over: UnsafeCell<bool>,
}

// SAFETY: loom checks each access to a cell.
unsafe impl Sync for Work {}

impl Work {
    fn new() -> Self {
        Work {
            caller: thread::current().id(),
            joined: Count::new(0),
            next: AtomicUsize::new(0),
            done: Default::default(),
            over: UnsafeCell::new(false),
        }
    }

    /// Begins to take part, and says whether as a joiner.
    fn begin(&self) -> bool {
        // SAFETY: loom checks it.
        self.over.with(|over| assert!(!unsafe { *over }, "somebody works after `run` returned"));
        let joins = thread::current().id() != self.caller;
        self.joined.fetch_add(joins.into(), Ordering::Relaxed);
        joins
    }

    /// Does the next item, if there is one.
    fn item(&self) -> bool {
        let cell = self.done.get(self.next.fetch_add(1, Ordering::Relaxed));
        if let Some(cell) = cell {
            // SAFETY: loom checks it.
            cell.with_mut(|times| unsafe { *times += 1 });
        }
        cell.is_some()
    }

    fn end(&self) {
        // SAFETY: loom checks it.
        self.over.with_mut(|over| unsafe { *over = true });
    }

    fn joined(&self) -> usize {
        self.joined.load(Ordering::Relaxed)
    }

    /// The first `items` were done once, and no others.
    fn assert_done(&self, items: usize) {
        // SAFETY: loom checks it.
        let done = self.done.each_ref().map(|times| times.with(|times| unsafe { *times }));
        assert_eq!(done, std::array::from_fn(|item| usize::from(item < items)));
    }
}

/// The panic of a test's own making, and who panics.
#[derive(Debug, PartialEq)]
struct Meant(&'static str);

/// Panics without a message on the screen, since it happens thousands of times.
fn fail(who: &'static str) {
    resume_unwind(Box::new(Meant(who)));
}

fn who_failed(outcome: Result<(), Box<dyn Any + Send>>) -> Option<Meant> {
    outcome.err().map(|panic| *panic.downcast().expect("no other panic"))
}

/// The events that a test saw in all interleavings.
#[derive(Default)]
struct Seen {
    /// how often nobody joined, one joined, and so on
    joined: [Count; 3],
    /// parts that failed a check; nobody else hears of a joiner's panic after `run` returned
    faults: Count,
}

/// Has a caller and up to `most` others do their `part` of the work in every interleaving, and has
/// `check` look at each outcome. Each number of joiners must occur, or the test would not cover it.
fn every_interleaving(most: usize, part: fn(&Work), check: fn(&Work, Option<Meant>)) {
    for others in 1..=most {
        let seen: &Seen = Box::leak(Box::default());
        loom::model(move || {
            // leaked: a thread that works too late shall find that it is over, rather than freed
            // memory
            let work: &Work = Box::leak(Box::new(Work::new()));
            let part: &(dyn Fn() + Sync) = Box::leak(Box::new(move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| part(work))) {
                    seen.faults.fetch_add((!panic.is::<Meant>()).into(), Ordering::Relaxed);
                    resume_unwind(panic);
                }
            }));
            let outcome = catch_unwind(AssertUnwindSafe(|| run(others, part)));
            work.end();
            check(work, who_failed(outcome));
            seen.joined[work.joined()].fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(
            seen.faults.load(Ordering::Relaxed),
            0,
            "parts that failed, with {others} others"
        );
        let joined = &seen.joined[..=others];
        assert!(
            joined.iter().all(|times| times.load(Ordering::Relaxed) > 0),
            "by joiners: {joined:?}"
        );
    }
}

#[test]
fn all_items_are_done_once() {
    let part = |work: &Work| {
        work.begin();
        while work.item() {}
    };
    // one joiner: two that take all items have too many interleavings
    every_interleaving(1, part, |work, failed| {
        work.assert_done(ITEMS);
        assert_eq!(failed, None);
    });
}

#[test]
fn what_joiners_did_is_seen() {
    let part = |work: &Work| {
        work.begin();
        work.item();
    };
    every_interleaving(2, part, |work, failed| {
        work.assert_done(1 + work.joined());
        assert_eq!(failed, None);
    });
}

#[test]
fn a_panic_of_a_joiner_reaches_the_caller() {
    let part = |work: &Work| {
        if work.begin() {
            fail("joiner");
        }
    };
    every_interleaving(2, part, |work, failed| {
        assert_eq!(failed, (work.joined() > 0).then_some(Meant("joiner")));
    });
}

#[test]
fn a_caller_that_panics_waits_as_well() {
    let part = |work: &Work| {
        let joins = work.begin();
        work.item();
        if !joins {
            fail("caller");
        }
    };
    every_interleaving(2, part, |work, failed| {
        work.assert_done(1 + work.joined());
        assert_eq!(failed, Some(Meant("caller")));
    });
}
