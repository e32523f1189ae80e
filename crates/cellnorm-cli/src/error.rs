//! The errors of all commands, and their exit codes.

use miette::Diagnostic;
use thiserror::Error;

use crate::compare::CompareError;
use crate::explain::ExplainError;
use crate::fold::{CheckpointError, FoldError};
use crate::inspect::InspectError;
use crate::normalize::NormalizeError;
use crate::ranks::RanksError;
use crate::semantics::SemanticsError;
use crate::stats::StatsError;

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum Error {
    #[diagnostic(transparent)]
    Compare(#[from] CompareError),
    #[diagnostic(transparent)]
    Explain(#[from] ExplainError),
    #[diagnostic(transparent)]
    Fold(#[from] FoldError),
    #[diagnostic(transparent)]
    Inspect(#[from] InspectError),
    #[diagnostic(transparent)]
    Normalize(#[from] NormalizeError),
    #[diagnostic(transparent)]
    Ranks(#[from] RanksError),
    #[diagnostic(transparent)]
    Semantics(#[from] SemanticsError),
    #[diagnostic(transparent)]
    Stats(#[from] StatsError),
}

impl Error {
    /// 2 when the user can put it right before the work begins, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Compare(CompareError::Output(error))
            | Self::Explain(ExplainError::Output(error))
            | Self::Fold(FoldError::Output(error))
            | Self::Inspect(InspectError::Output(error))
            | Self::Normalize(NormalizeError::Output(error))
            | Self::Semantics(SemanticsError::Output(error))
            | Self::Stats(StatsError::Output(error)) => error.exit_code(),
            Self::Compare(CompareError::Input(error))
            | Self::Fold(FoldError::Input(error))
            | Self::Normalize(NormalizeError::Input(error))
            | Self::Stats(StatsError::Input(error)) => error.exit_code(),
            Self::Compare(
                CompareError::Print { .. } | CompareError::Tensor(_) | CompareError::Chart(_),
            )
            | Self::Fold(
                FoldError::Check { .. } | FoldError::Checkpoint(CheckpointError::TooFar { .. }),
            )
            | Self::Stats(StatsError::Drift { .. }) => 1,
            _ => 2,
        }
    }

    /// Whether this rank only heard of an error of another one.
    pub fn is_of_another_rank(&self) -> bool {
        use cellnorm::Error::{RankFailed, RankGone};
        matches!(
            self,
            Self::Compare(CompareError::Refused(RankFailed { .. } | RankGone { .. }))
                | Self::Stats(StatsError::Refused(RankFailed { .. } | RankGone { .. }))
        )
    }
}
