//! The progress of the command: a bar on a terminal, a line an epoch elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::results::Epoch;
use crate::norm::Norm;

/// One network to train.
#[derive(Clone, Copy)]
pub struct Case {
    pub norm: Norm,
    pub batch_size: usize,
    pub seed: u64,
}

/// Shows how far the work has come, on standard error.
pub enum Progress {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

impl Progress {
    /// Progress over `steps` training steps.
    pub fn new(quiet: bool, steps: usize) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %  {eta:>4} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::new(steps as u64).with_style(style))
    }

    /// A network is about to be trained.
    pub fn start(&self, Case { norm, batch_size, seed }: Case) {
        if let Self::Bar(bar) = self {
            bar.set_message(format!("{:8} batch {batch_size} seed {seed}", norm.name()));
        }
    }

    /// A step is done.
    pub fn step(&self) {
        if let Self::Bar(bar) = self {
            bar.inc(1);
        }
    }

    /// An epoch is done.
    pub fn epoch(&self, Case { norm, batch_size, seed }: Case, epoch: &Epoch) {
        if let Self::Lines = self {
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
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
