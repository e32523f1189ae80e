//! The handling of γ and β besides the gradient: how they start, what is added to the loss, what
//! they must keep to, how fast they learn.
//!
//! | | when | named after |
//! |---|---|---|
//! | [`Initializer`] | when the layer is made | Keras `gamma_initializer` |
//! | [`Regularizer`] | in the loss and its gradient | Keras `gamma_regularizer` |
//! | [`Constraint`] | after the optimizer's step | Keras `gamma_constraint` |
//! | [`Rules::rate`](crate::rule::Rules::rate) | as a factor of the learning rate | MXNet `lr_mult` |
//!
//! A layer knows only its initializers. The rest are
//! [`ParameterRules`](crate::rule::ParameterRules) beside the layer, for its optimizer.

mod constraint;
mod initializer;
mod regularizer;

pub use constraint::Constraint;
pub use initializer::Initializer;
pub use regularizer::Regularizer;
