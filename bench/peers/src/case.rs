//! One normalization of one tensor: the plan, built once, and the three passes over it that are
//! timed.

use cellnorm::kernels::Buffers;
use cellnorm::kernels::rows::ParameterGradients;
use cellnorm::rule::ClosedForm;
use cellnorm::{
    Element,
    kernels::Parameters,
    rule::Statistics,
    shape::{Axis, Centering, Plan},
};

/// The values that share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    Batch,
    Group { groups: usize },
    Instance,
    Layer,
    Rms,
}

/// How the memory of a tensor of logical shape [N, C, ...] is arranged. Layer and RMS take rows,
/// which have no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    First,
    Last,
}

/// A normalization with its parameters, ready to run.
pub struct Case {
    plan: Plan,
    centering: Centering,
    epsilon: f64,
    gamma: Option<Vec<f64>>,
    beta: Option<Vec<f64>>,
    /// The number of elements.
    pub len: usize,
}

impl Case {
    /// None where the library has no plan for the case.
    pub fn new(norm: Norm, layout: Layout, shape: &[usize], epsilon: f64) -> Option<Case> {
        let centering = if norm == Norm::Rms { Centering::Zero } else { Centering::Mean };
        let plan = Plan::new(&axes(norm, layout, shape))?;
        Some(Case {
            plan,
            centering,
            epsilon,
            gamma: None,
            beta: None,
            len: shape.iter().product(),
        })
    }

    /// With γ and β, each as long as [`Case::channels`].
    pub fn with_parameters(self, gamma: Option<Vec<f64>>, beta: Option<Vec<f64>>) -> Case {
        Case { gamma, beta, ..self }
    }

    /// The number of values of γ.
    pub fn channels(&self) -> usize {
        self.plan.channels()
    }

    fn form(&self) -> ClosedForm<'_> {
        let (gamma, beta) = (self.gamma.as_deref(), self.beta.as_deref());
        let parameters = Parameters { gamma, beta, ..Parameters::default() };
        ClosedForm { centering: self.centering, epsilon: self.epsilon, parameters }
    }

    /// y, with the statistics of x.
    pub fn forward<T: Element>(&self, x: &[T], y: &mut [T]) -> Statistics {
        self.plan.forward(Buffers::Apart(x, y), self.form())
    }

    /// y, then dx and the gradients of γ and β.
    pub fn train<T: Element>(
        &self,
        x: &[T],
        dy: &[T],
        y: &mut [T],
        dx: &mut [T],
    ) -> ParameterGradients {
        let statistics = self.forward(x, y);
        self.plan.backward(x, Buffers::Apart(dy, dx), &statistics, self.form(), false)
    }

    /// y, with given statistics.
    pub fn infer<T: Element>(&self, x: &[T], y: &mut [T], statistics: &Statistics) {
        self.plan.forward_fixed(Buffers::Apart(x, y), statistics, self.form());
    }
}

/// The axes of the tensor, in logical order, with the strides of its layout.
fn axes(norm: Norm, layout: Layout, shape: &[usize]) -> Vec<Axis> {
    let last = shape.len() - 1;
    let role = |axis: usize| match norm {
        Norm::Batch => (axis != 1, axis == 1),
        Norm::Group { .. } | Norm::Instance => (axis > 1, axis == 1),
        Norm::Layer | Norm::Rms => (axis == last, axis == last),
    };
    let mut axes = Axis::row_major(shape, role);
    if layout == Layout::Last {
        // the channels become the innermost axis; all others move out by as much
        let channels = shape[1] as isize;
        axes[0].stride = (shape.iter().product::<usize>() / shape[0]) as isize;
        axes[1].stride = 1;
        axes[2..].iter_mut().for_each(|axis| axis.stride *= channels);
    }
    if let Norm::Group { groups } = norm {
        let halves = axes[1].grouped(groups);
        axes.splice(1..2, halves);
    }
    axes
}
