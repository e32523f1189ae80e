//! The progress of the command: a bar on a terminal, a line an epoch elsewhere.

use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::results::Epoch;
use crate::norm::Norm;
use crate::output::bar;

/// One network to train.
#[derive(Clone, Copy)]
pub struct Case {
    pub norm: Norm,
    pub batch_size: usize,
    pub seed: u64,
}

/// Shows how far the work has come, on standard error.
pub struct Progress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Progress over `steps` training steps.
    pub fn new(quiet: bool, steps: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let template = "{msg} {wide_bar} {percent:>3} %  {eta:>4} left";
        let bar =
            if quiet || !terminal { ProgressBar::hidden() } else { bar(template, steps as u64) };
        Self { bar, lines: !quiet && !terminal }
    }

    /// A network is about to be trained.
    pub fn start(&self, Case { norm, batch_size, seed }: Case) {
        self.bar.set_message(format!("{:8} batch {batch_size} seed {seed}", norm.name()));
    }

    /// A step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// An epoch is done.
    pub fn epoch(&self, Case { norm, batch_size, seed }: Case, epoch: &Epoch) {
        if self.lines {
            eprintln!(
                "{:8}  batch size {batch_size}  seed {seed}  epoch {}  train loss {:.4}  accuracy \
                 {:.2} %  test loss {:.4}  accuracy {:.2} %",
                norm.name(),
                epoch.epoch,
                epoch.train_loss,
                epoch.train_accuracy * 100.0,
                epoch.test_loss,
                epoch.test_accuracy * 100.0,
            );
        }
    }

    /// All is done: the bar makes room for the table.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
