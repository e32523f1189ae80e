//! The errors of all commands.

use miette::Diagnostic;
use thiserror::Error;

use crate::compare::CompareError;
use crate::explain::ExplainError;
use crate::fold::FoldError;
use crate::inspect::InspectError;
use crate::normalize::NormalizeError;
use crate::ranks::RanksError;
use crate::semantics::SemanticsError;
use crate::stats::StatsError;

macro_rules! errors {
    ($($command:ident($error:ident)),*) => {
        /// The error of a command.
        #[derive(Debug, Error, Diagnostic)]
        pub enum Error {
            $(
                #[error(transparent)]
                #[diagnostic(transparent)]
                $command(#[from] $error),
            )*
        }

        impl Error {
            /// 2 when the user can put it right before the work begins, 1 otherwise.
            pub fn exit_code(&self) -> u8 {
                match self {
                    $(Self::$command(error) => error.exit_code(),)*
                }
            }
        }
    };
}

errors!(
    Compare(CompareError),
    Explain(ExplainError),
    Fold(FoldError),
    Inspect(InspectError),
    Normalize(NormalizeError),
    Ranks(RanksError),
    Semantics(SemanticsError),
    Stats(StatsError)
);

impl Error {
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
