//! The closed form of the plain case: forward and backward of one mean and one variance a set.
//!
//! For a set of w values with r = 1/√(variance + ε), about its mean or about zero (then mean = 0
//! and variance = mean square):
//!
//! y = act((x − mean) · γ r + β)
//!
//! With dz = dy · act′, S1 = Σ dz and S2 = Σ dz · (x − mean) of each cell, and sums over the cells
//! of the set:
//!
//! ∂L/∂variance = −½ r³ Σ γ S2,   ∂L/∂mean = −r Σ γ S1 (0 about zero)
//!
//! dx = γ r · dz + (2/w) ∂L/∂variance · (x − mean) + (1/w) ∂L/∂mean,   dγ = Σ r S2,   dβ = Σ S1
//!
//! (S. Ioffe, C. Szegedy: *Batch Normalization*, 2015; J. L. Ba, J. R. Kiros, G. E. Hinton: *Layer
//! Normalization*, 2016; Y. Wu, K. He: *Group Normalization*, 2018; B. Zhang, R. Sennrich: *Root
//! Mean Square Layer Normalization*, 2019.) With fixed statistics, dx = γ r · dz.

use super::Statistics;
use crate::kernels::rows::{self, Narrowed, ParameterGradients};
use crate::kernels::{self, Activation, Affine, Buffers, Element, Gradient, Parameters, Sums};
use crate::moments::Moments;
use crate::shape::{Cells, Centering, Form, Plan, Sets};

/// The numbers of the formula besides x and its statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosedForm<'a> {
    /// The number that the values of a set are measured from.
    pub centering: Centering,
    /// ε inside the root.
    pub epsilon: f64,
    /// γ, β and the activation after them.
    pub parameters: Parameters<'a>,
}

impl Parameters<'_> {
    #[inline]
    fn gamma(&self, channel: u32) -> f64 {
        self.gamma.map_or(1.0, |gamma| gamma[channel as usize])
    }

    #[inline]
    fn beta(&self, channel: u32) -> f64 {
        self.beta.map_or(0.0, |beta| beta[channel as usize])
    }
}

fn rstd(variance: f64, epsilon: f64) -> f64 {
    1.0 / (variance + epsilon).sqrt()
}

impl Centering {
    /// Normalizes each row of `width` values with statistics of its own, γ and β being in the type
    /// that is computed in: the result of [`Plan::forward`] where a row's values each have a
    /// parameter, without a plan. For single rows, which take less time than the making of one.
    ///
    /// # Panics
    /// If the buffers are not whole rows of `width` > 0, or a parameter is not as long as a row.
    ///
    /// ```
    /// use cellnorm::kernels::Buffers;
    /// use cellnorm::kernels::Parameters;
    /// use cellnorm::shape::Centering;
    /// let (x, mut y) = ([2.0_f32, 4.0, 4.0, 6.0], Vec::new());
    /// let parameters = Parameters { gamma: Some(&[2.0; 4][..]), ..Parameters::default() };
    /// let statistics = Centering::Mean.rows(Buffers::Into(&x, &mut y), 4, 1e-5, parameters);
    /// assert_eq!((statistics.mean[0], statistics.variance[0], y[1]), (4.0, 2.0, 0.0));
    /// ```
    pub fn rows<T: Element>(
        self,
        x_y: Buffers<'_, T>,
        width: usize,
        epsilon: f64,
        parameters: Parameters<'_, T::Acc>,
    ) -> Statistics {
        let table = |_: usize, moments| self.row(moments, epsilon);
        Statistics::unzip(rows::forward(x_y, width, parameters, &table))
    }

    /// The mean and the variance of values with these moments.
    fn statistics(self, moments: Moments) -> (f64, f64) {
        match self {
            Self::Mean => (moments.mean, moments.variance()),
            Self::Zero => (0.0, moments.mean_square()),
        }
    }

    /// The map of a row with these moments before γ and β, and its statistics.
    fn row(self, moments: Moments, epsilon: f64) -> (Affine, (f64, f64)) {
        let (mean, variance) = self.statistics(moments);
        let map = Affine { center: mean, scale: rstd(variance, epsilon), offset: 0.0 };
        (map, (mean, variance))
    }
}

impl Statistics {
    fn unzip(pairs: Vec<(f64, f64)>) -> Self {
        let (mean, variance) = pairs.into_iter().unzip();
        Self { mean, variance }
    }
}

impl ClosedForm<'_> {
    /// The map of each cell.
    fn affines(&self, sets: &Sets, channels: &[u32], statistics: &Statistics) -> Vec<Affine> {
        let rstd = self.rstd(statistics);
        let affine = |(set, channel): (&u32, &u32)| Affine {
            center: statistics.mean[*set as usize],
            scale: self.parameters.gamma(*channel) * rstd[*set as usize],
            offset: self.parameters.beta(*channel),
        };
        sets.of_cells().iter().zip(channels).map(affine).collect()
    }

    fn rstd(&self, statistics: &Statistics) -> Vec<f64> {
        statistics.variance.iter().map(|variance| rstd(*variance, self.epsilon)).collect()
    }

    fn check(&self, plan: &Plan) {
        for parameter in [self.parameters.gamma, self.parameters.beta].into_iter().flatten() {
            let (given, channels) = (parameter.len(), plan.channels());
            assert_eq!(given, channels, "a parameter is not as long as the channels");
        }
    }
}

/// The gradient maps of the sets: dx = a · γ dz + b · (x − mean) + k.
struct SetGradients<'a> {
    rstd: &'a [f64],
    /// Whether dx is that of given statistics.
    fixed: bool,
    /// Whether each set has one value, which is its own mean, whatever it is: then dx is 0, and no
    /// difference of two large numbers.
    one_value: bool,
    centering: Centering,
    /// 1 / w.
    share: f64,
}

impl SetGradients<'_> {
    #[inline]
    fn a(&self, set: usize) -> f64 {
        if self.one_value { 0.0 } else { self.rstd[set] }
    }

    /// (b, k) from Σ γ S1 and Σ γ S2 over a set.
    #[inline]
    fn shares(&self, set: usize, s1: f64, s2: f64) -> (f64, f64) {
        if self.fixed || self.one_value {
            return (0.0, 0.0);
        }
        let r = self.rstd[set];
        let dvariance = -0.5 * (r * r * r) * s2;
        let dmean = if self.centering == Centering::Mean { -r * s1 } else { 0.0 };
        (2.0 * dvariance * self.share, dmean * self.share)
    }
}

impl Plan {
    /// Normalizes with the statistics of x itself and returns them.
    ///
    /// # Panics
    /// If the buffers are not as long as the plan's tensor, or a parameter not as its channels.
    ///
    /// ```
    /// use cellnorm::kernels::Buffers;
    /// use cellnorm::rule::ClosedForm;
    /// use cellnorm::shape::{Axis, Plan};
    /// let plan = Plan::new(&Axis::row_major(&[1, 4], |axis| (axis == 1, false))).unwrap();
    /// let (x, mut y) = ([2.0_f32, 4.0, 4.0, 6.0], Vec::new());
    /// let form = ClosedForm { epsilon: 1e-5, ..ClosedForm::default() };
    /// let statistics = plan.forward(Buffers::Into(&x, &mut y), form);
    /// assert_eq!((statistics.mean[0], statistics.variance[0]), (4.0, 2.0));
    /// assert_eq!((y[1], (y[3] * 1e4).round()), (0.0, 14142.0));
    /// ```
    pub fn forward<T: Element>(&self, x_y: Buffers<'_, T>, form: ClosedForm<'_>) -> Statistics {
        form.check(self);
        let ClosedForm { centering, epsilon, parameters } = form;
        Statistics::unzip(match &self.form {
            Form::Cells { cells, sets, channel_of } => {
                let table = |set: usize, moments: &[Moments], affines: &mut [Affine]| {
                    let (mean, variance) = centering.statistics(Moments::merge_all(moments));
                    let r = rstd(variance, epsilon);
                    for (cell, affine) in sets.members(set).iter().zip(affines) {
                        let channel = channel_of[*cell as usize];
                        *affine = Affine {
                            center: mean,
                            scale: parameters.gamma(channel) * r,
                            offset: parameters.beta(channel),
                        };
                    }
                    (mean, variance)
                };
                kernels::forward(x_y, cells, sets, parameters.activation, &table)
            }
            Form::Rows { width } => {
                let table = |_: usize, moments| centering.row(moments, epsilon);
                rows::forward(x_y, *width, Narrowed::new(parameters).parameters(), &table)
            }
        })
    }

    /// The mean and the biased variance of each set of x.
    ///
    /// # Panics
    /// If x is not as long as the plan's tensor.
    pub fn statistics<T: Element>(&self, x: &[T]) -> Statistics {
        let mean_variance = |m: Moments| (m.mean, m.variance());
        let Form::Cells { cells, sets, .. } = &self.form else {
            let positions = self.values_per_set() as usize;
            let rows = Cells { outer: self.sets(), positions, inner: 1 };
            let moments = kernels::moments(x, &rows).into_iter();
            return Statistics::unzip(moments.map(mean_variance).collect());
        };
        let moments = kernels::moments(x, cells);
        let merge = |set| {
            let members = sets.members(set).iter();
            mean_variance(Moments::merge_all(members.map(|cell| &moments[*cell as usize])))
        };
        Statistics::unzip((0..sets.count()).map(merge).collect())
    }

    /// Normalizes with given statistics, as in inference.
    ///
    /// # Panics
    /// Same as [`Plan::forward`]; also if there is not one mean and one variance for each set, or
    /// if the plan is of rows, whose statistics are always those of x.
    pub fn forward_fixed<T: Element>(
        &self,
        x_y: Buffers<'_, T>,
        statistics: &Statistics,
        form: ClosedForm<'_>,
    ) {
        let Form::Cells { cells, sets, channel_of } = &self.form else {
            panic!("fixed statistics are for cells, not for rows");
        };
        form.check(self);
        let affines = form.affines(sets, channel_of, statistics);
        kernels::affine(x_y, cells, &affines, form.parameters.activation);
    }

    /// Adds a residual and normalizes the sum: h = x + residual, y = act(γ ĥ + β); both are kept.
    /// Over rows, h is written and normalized in one trip.
    ///
    /// ```
    /// use cellnorm::rule::ClosedForm;
    /// use cellnorm::shape::{Axis, Centering, Plan};
    /// let plan = Plan::new(&Axis::row_major(&[1, 2], |axis| (axis == 1, axis == 1))).unwrap();
    /// let (x, residual) = ([1.0_f32, 2.0], [10.0, 20.0]);
    /// let (mut h, mut y) = ([0.0; 2], [0.0; 2]);
    /// let form =
    ///     ClosedForm { centering: Centering::Zero, epsilon: 1e-5, ..ClosedForm::default() };
    /// plan.forward_add([&x, &residual], [&mut h, &mut y], form);
    /// assert_eq!(h, [11.0, 22.0]);
    /// assert!((y[1] - 2.0 * y[0]).abs() < 1e-6);
    /// ```
    ///
    /// # Panics
    /// Same as [`Plan::forward`].
    pub fn forward_add<T: Element>(
        &self,
        [x, residual]: [&[T]; 2],
        [h, y]: [&mut [T]; 2],
        form: ClosedForm<'_>,
    ) -> Statistics {
        if let Form::Rows { width } = &self.form {
            form.check(self);
            let table = |_: usize, moments| form.centering.row(moments, form.epsilon);
            let narrowed = Narrowed::new(form.parameters);
            let (x, h) = ([x, residual], [h, y]);
            return Statistics::unzip(rows::forward_add(
                x,
                h,
                *width,
                narrowed.parameters(),
                &table,
            ));
        }
        kernels::add(Buffers::Apart(x, h), residual);
        self.forward(Buffers::Apart(h, y), form)
    }

    /// The gradients of [`forward_add`](Self::forward_add): that of h = x + residual, which is that
    /// of x and that of the residual, from dy and from `dh`, the gradient that reaches h from
    /// elsewhere; and those of γ and β.
    ///
    /// # Panics
    /// Same as [`Plan::backward`]; also if `dh` is not as long as the plan's tensor.
    pub fn backward_add<T: Element>(
        &self,
        h: &[T],
        [dy, dh]: [&[T]; 2],
        dx: &mut [T],
        statistics: &Statistics,
        form: ClosedForm<'_>,
    ) -> ParameterGradients {
        if let Form::Rows { width } = self.form {
            form.check(self);
            let dy_dx = Buffers::Apart(dy, dx);
            return self.backward_rows(h, dy_dx, Some(dh), width, statistics, form);
        }
        let gradients = self.backward(h, Buffers::Apart(dy, &mut *dx), statistics, form, false);
        kernels::add(Buffers::Over(dx), dh);
        gradients
    }

    /// The gradients of x (into the buffers), γ and β. `fixed`: the statistics did not come from x.
    ///
    /// # Panics
    /// Same as [`Plan::forward`]; also if the statistics are not those of this plan.
    pub fn backward<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        statistics: &Statistics,
        form: ClosedForm<'_>,
        fixed: bool,
    ) -> ParameterGradients {
        form.check(self);
        let (cells, sets, channel_of) = match &self.form {
            Form::Cells { cells, sets, channel_of } => (cells, sets, channel_of),
            Form::Rows { width } => {
                return self.backward_rows(x, dy_dx, None, *width, statistics, form);
            }
        };
        let (parameters, rstd) = (form.parameters, form.rstd(statistics));
        let maps = self.set_gradients(&rstd, form, fixed);
        let gamma = |cell: u32| parameters.gamma(channel_of[cell as usize]);
        let table = |set: usize, sums: &[Sums], gradients: &mut [Gradient]| {
            let members = sets.members(set);
            let weighted = |part: fn(&Sums) -> f64| {
                members.iter().zip(sums).map(|(cell, s)| gamma(*cell) * part(s)).sum()
            };
            let (b, k) = maps.shares(set, weighted(|s| s.dy), weighted(|s| s.dy_x));
            for (cell, gradient) in members.iter().zip(gradients) {
                *gradient = Gradient { a: gamma(*cell) * maps.a(set), b, k };
            }
        };
        let sums = if parameters.activation == Activation::Identity {
            let centers: Vec<f64> =
                sets.of_cells().iter().map(|set| statistics.mean[*set as usize]).collect();
            kernels::backward(x, dy_dx, cells, sets, &centers, &table)
        } else {
            let affines = form.affines(sets, channel_of, statistics);
            let activation = parameters.activation;
            kernels::backward_activated(x, dy_dx, cells, sets, &affines, activation, &table)
        };
        let zero = vec![0.0; self.channels()];
        let mut gradients = ParameterGradients { gamma: zero.clone(), beta: zero };
        for ((sums, set), channel) in sums.iter().zip(sets.of_cells()).zip(channel_of) {
            gradients.gamma[*channel as usize] += rstd[*set as usize] * sums.dy_x;
            gradients.beta[*channel as usize] += sums.dy;
        }
        gradients
    }

    fn set_gradients<'a>(
        &self,
        rstd: &'a [f64],
        form: ClosedForm<'_>,
        fixed: bool,
    ) -> SetGradients<'a> {
        let (centering, values) = (form.centering, self.values_per_set());
        let one_value = !fixed && centering == Centering::Mean && values == 1.0;
        SetGradients { rstd, fixed, one_value, centering, share: 1.0 / values }
    }

    /// [`backward`](Self::backward) over rows of `width` values, with `dh` added to dx.
    fn backward_rows<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        dh: Option<&[T]>,
        width: usize,
        statistics: &Statistics,
        form: ClosedForm<'_>,
    ) -> ParameterGradients {
        let rstd = form.rstd(statistics);
        let maps = self.set_gradients(&rstd, form, false);
        let affine =
            |set: usize| Affine { center: statistics.mean[set], scale: rstd[set], offset: 0.0 };
        let affines: Vec<Affine> = (0..self.sets()).map(affine).collect();
        let table = |row: usize, sums: Sums| {
            let (b, k) = maps.shares(row, sums.dy, sums.dy_x);
            Gradient { a: maps.a(row), b, k }
        };
        rows::backward(x, dy_dx, dh, width, form.parameters, &affines, &table)
    }
}
