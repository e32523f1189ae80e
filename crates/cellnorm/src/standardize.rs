//! The table arithmetic of every normalization whose cells share one mean and one variance.
//!
//! For a set of w values with r = 1/√(variance + ε), about its mean or about zero (then mean = 0
//! and variance = mean square):
//!
//! y = (x − mean) · γ r + β
//!
//! With S1 = Σ dy and S2 = Σ dy · (x − mean) of each cell, and sums over the cells of the set:
//!
//! ∂L/∂variance = −½ r³ Σ γ S2,   ∂L/∂mean = −r Σ γ S1 (0 about zero)
//!
//! dx = γ r · dy + (2/w) ∂L/∂variance · (x − mean) + (1/w) ∂L/∂mean,   dγ = Σ r S2,   dβ = Σ S1
//!
//! (S. Ioffe, C. Szegedy: *Batch Normalization*, 2015; J. L. Ba, J. R. Kiros, G. E. Hinton: *Layer
//! Normalization*, 2016; Y. Wu, K. He: *Group Normalization*, 2018; B. Zhang, R. Sennrich: *Root
//! Mean Square Layer Normalization*, 2019.) Fixed statistics have no gradient: then only γ r · dy
//! is left of dx.

use crate::cells::Sets;
use crate::element::Element;
use crate::moments::Moments;
use crate::passes::rows::{self, ParameterGradients};
use crate::passes::{self, Activation, Affine, Buffers, Gradient, Parameters, Sums};
use crate::plan::{Form, Plan};

/// What the values of a set are measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Their mean: batch, layer, instance and group normalization.
    #[default]
    Mean,
    /// Zero: the RMS variants.
    Zero,
}

/// The mean and the biased variance of each set; about zero, 0 and the mean square.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// The mean of each set.
    pub mean: Vec<f64>,
    /// The variance of each set, divided by the number of its values.
    pub variance: Vec<f64>,
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

    /// What each cell is mapped with.
    fn affines(
        &self,
        sets: &Sets,
        channel_of: &[u32],
        statistics: &Statistics,
        epsilon: f64,
    ) -> Vec<Affine> {
        let rstd: Vec<f64> =
            statistics.variance.iter().map(|variance| rstd(*variance, epsilon)).collect();
        let affine = |(set, channel): (&u32, &u32)| Affine {
            center: statistics.mean[*set as usize],
            scale: self.gamma(*channel) * rstd[*set as usize],
            offset: self.beta(*channel),
        };
        sets.of_cells().iter().zip(channel_of).map(affine).collect()
    }
}

impl Statistics {
    fn of(pairs: Vec<(f64, f64)>) -> Self {
        let (mean, variance) = pairs.into_iter().unzip();
        Self { mean, variance }
    }
}

impl About {
    /// Normalizes each row of `width` values with statistics of its own, γ and β being in the type
    /// that is computed in: what [`Plan::forward`] does where a row's values each have a parameter,
    /// without a plan. For single rows, which take less time than the making of one.
    ///
    /// # Panics
    /// If the buffers are not a whole number of rows of `width` > 0, or a parameter is not as long
    /// as a row.
    ///
    /// ```
    /// use cellnorm::{About, Parameters, passes::Buffers};
    /// let (x, mut y) = ([2.0_f32, 4.0, 4.0, 6.0], Vec::new());
    /// let parameters = Parameters { gamma: Some(&[2.0; 4][..]), ..Parameters::default() };
    /// let statistics = About::Mean.rows(Buffers::Into(&x, &mut y), 4, 1e-5, parameters);
    /// assert_eq!((statistics.mean[0], statistics.variance[0], y[1]), (4.0, 2.0, 0.0));
    /// ```
    pub fn rows<T: Element>(
        self,
        x_y: Buffers<'_, T>,
        width: usize,
        epsilon: f64,
        parameters: Parameters<'_, T::Acc>,
    ) -> Statistics {
        Statistics::of(rows::forward_narrow(x_y, width, parameters, |_, moments| {
            self.row(moments, epsilon)
        }))
    }

    /// The mean and the variance of values with these moments.
    fn statistics(self, moments: Moments) -> (f64, f64) {
        match self {
            Self::Mean => (moments.mean, moments.variance()),
            Self::Zero => (0.0, moments.mean_square()),
        }
    }

    /// What a row with these moments is mapped with before γ and β, and its statistics.
    fn row(self, moments: Moments, epsilon: f64) -> (Affine, (f64, f64)) {
        let (mean, variance) = self.statistics(moments);
        (Affine { center: mean, scale: rstd(variance, epsilon), offset: 0.0 }, (mean, variance))
    }
}

fn rstd(variance: f64, epsilon: f64) -> f64 {
    1.0 / (variance + epsilon).sqrt()
}

impl Plan {
    /// Normalizes with the statistics of x itself and returns them.
    ///
    /// # Panics
    /// If the buffers are not as long as the plan's tensor, or a parameter is not as long as its
    /// channels.
    ///
    /// ```
    /// use cellnorm::{About, Axis, Parameters, Plan, passes::Buffers};
    /// let plan = Plan::new(&Axis::row_major(&[1, 4], |axis| (axis == 1, false))).unwrap();
    /// let (x, mut y) = ([2.0_f32, 4.0, 4.0, 6.0], Vec::new());
    /// let statistics =
    ///     plan.forward(Buffers::Into(&x, &mut y), About::Mean, 1e-5, Parameters::default());
    /// assert_eq!((statistics.mean[0], statistics.variance[0]), (4.0, 2.0));
    /// assert_eq!((y[1], (y[3] * 1e4).round()), (0.0, 14142.0));
    /// ```
    pub fn forward<T: Element>(
        &self,
        x_y: Buffers<'_, T>,
        about: About,
        epsilon: f64,
        parameters: Parameters<'_>,
    ) -> Statistics {
        self.check(parameters);
        let of_sets = match &self.form {
            Form::Cells { cells, sets, channel_of } => passes::forward_activated(
                x_y,
                cells,
                sets,
                parameters.activation,
                |set, moments, affines| {
                    let (mean, variance) = about.statistics(Moments::merge_all(moments));
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
                },
            ),
            Form::Rows { width } => {
                rows::forward(x_y, *width, parameters, |_, moments| about.row(moments, epsilon))
            }
        };
        Statistics::of(of_sets)
    }

    fn check(&self, parameters: Parameters<'_>) {
        for parameter in [parameters.gamma, parameters.beta].into_iter().flatten() {
            assert_eq!(
                parameter.len(),
                self.channels(),
                "a parameter is not as long as the channels"
            );
        }
    }

    /// Normalizes with given statistics, as in inference.
    ///
    /// # Panics
    /// As [`Plan::forward`], or if there is not one mean and one variance for each set, or if the
    /// plan is of rows (whose statistics are always those of x).
    pub fn forward_fixed<T: Element>(
        &self,
        x_y: Buffers<'_, T>,
        statistics: &Statistics,
        epsilon: f64,
        parameters: Parameters<'_>,
    ) {
        let Form::Cells { cells, sets, channel_of } = &self.form else {
            panic!("fixed statistics are for cells, not for rows");
        };
        self.check(parameters);
        let affines = parameters.affines(sets, channel_of, statistics, epsilon);
        passes::affine_activated(x_y, cells, &affines, parameters.activation);
    }

    /// Adds a residual and normalizes the sum: h = x + residual, y = act(γ ĥ + β); both are kept.
    /// Over rows, h is written and normalized in one trip.
    ///
    /// ```
    /// use cellnorm::{About, Axis, Parameters, Plan};
    /// let plan = Plan::new(&Axis::row_major(&[1, 2], |axis| (axis == 1, axis == 1))).unwrap();
    /// let (x, residual) = ([1.0_f32, 2.0], [10.0, 20.0]);
    /// let (mut h, mut y) = ([0.0; 2], [0.0; 2]);
    /// plan.forward_add(&x, &residual, &mut h, &mut y, About::Zero, 1e-5, Parameters::default());
    /// assert_eq!(h, [11.0, 22.0]);
    /// assert!((y[1] - 2.0 * y[0]).abs() < 1e-6);
    /// ```
    ///
    /// # Panics
    /// As [`Plan::forward`].
    #[expect(
        clippy::too_many_arguments,
        reason = "two inputs, two outputs and the numbers of the formula"
    )]
    pub fn forward_add<T: Element>(
        &self,
        x: &[T],
        residual: &[T],
        h: &mut [T],
        y: &mut [T],
        about: About,
        epsilon: f64,
        parameters: Parameters<'_>,
    ) -> Statistics {
        if let Form::Rows { width } = &self.form {
            self.check(parameters);
            let table = |_: usize, moments| about.row(moments, epsilon);
            let of_rows = rows::forward_add([x, residual], [h, y], *width, parameters, table);
            return Statistics::of(of_rows);
        }
        passes::add(Buffers::Apart(x, h), residual);
        self.forward(Buffers::Apart(h, y), about, epsilon, parameters)
    }

    /// The gradient of h = x + residual, which is that of x and that of the residual: what comes
    /// through the normalization and `dh`, what reaches h from elsewhere. And those of γ and β.
    ///
    /// # Panics
    /// As [`Plan::backward`], or if `dh` is not as long as the plan's tensor.
    #[expect(clippy::too_many_arguments, reason = "each is another number of the formula")]
    pub fn backward_add<T: Element>(
        &self,
        h: &[T],
        dy: &[T],
        dh: &[T],
        dx: &mut [T],
        statistics: &Statistics,
        about: About,
        epsilon: f64,
        parameters: Parameters<'_>,
    ) -> ParameterGradients {
        let apart = Buffers::Apart(dy, &mut *dx);
        if let Form::Rows { .. } = self.form {
            return self.differentiate(
                h,
                apart,
                Some(dh),
                statistics,
                about,
                epsilon,
                parameters,
                false,
            );
        }
        let gradients =
            self.differentiate(h, apart, None, statistics, about, epsilon, parameters, false);
        passes::add(Buffers::Over(dx), dh);
        gradients
    }

    /// The gradients of x (into the buffers) and of γ and β. `fixed` says that the statistics did
    /// not come from x.
    ///
    /// # Panics
    /// As [`Plan::forward`], or if the statistics are not those of this plan.
    #[expect(clippy::too_many_arguments, reason = "each is another number of the formula")]
    pub fn backward<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        statistics: &Statistics,
        about: About,
        epsilon: f64,
        parameters: Parameters<'_>,
        fixed: bool,
    ) -> ParameterGradients {
        self.differentiate(x, dy_dx, None, statistics, about, epsilon, parameters, fixed)
    }

    #[expect(clippy::too_many_arguments, reason = "each is another number of the formula")]
    fn differentiate<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        plus: Option<&[T]>,
        statistics: &Statistics,
        about: About,
        epsilon: f64,
        parameters: Parameters<'_>,
        fixed: bool,
    ) -> ParameterGradients {
        self.check(parameters);
        let rstd: Vec<f64> =
            statistics.variance.iter().map(|variance| rstd(*variance, epsilon)).collect();
        let r = |set: usize| rstd[set];
        // One value is its own mean, whatever it is: dx is 0, and no difference of two large
        // numbers.
        let alone = !fixed && about == About::Mean && self.values_per_set() == 1.0;
        let a = |set: usize| if alone { 0.0 } else { r(set) };
        let share = 1.0 / self.values_per_set();
        // (b, k) of dx from Σ γ S1 and Σ γ S2 over a set
        let shares = |set: usize, s1: f64, s2: f64| {
            if fixed || alone {
                return (0.0, 0.0);
            }
            let r = r(set);
            let dvariance = -0.5 * (r * r * r) * s2;
            let dmean = if about == About::Mean { -r * s1 } else { 0.0 };
            (2.0 * dvariance * share, dmean * share)
        };
        let (cells, sets, channel_of) = match &self.form {
            Form::Cells { cells, sets, channel_of } => (cells, sets, channel_of),
            Form::Rows { width } => {
                let affine = |set: usize| Affine {
                    center: statistics.mean[set],
                    scale: r(set),
                    offset: 0.0,
                };
                let affines: Vec<Affine> = (0..self.sets()).map(affine).collect();
                return rows::backward(
                    x,
                    dy_dx,
                    plus,
                    *width,
                    parameters,
                    &affines,
                    |row, sums| {
                        let (b, k) = shares(row, sums.dy, sums.dy_x);
                        Gradient { a: a(row), b, k }
                    },
                );
            }
        };
        let gamma_of = |cell: u32| parameters.gamma(channel_of[cell as usize]);
        let slopes = |set: usize, sums: &[Sums], gradients: &mut [Gradient]| {
            let members = sets.members(set);
            let weighted = |part: fn(&Sums) -> f64| {
                members.iter().zip(sums).map(|(cell, s)| gamma_of(*cell) * part(s)).sum()
            };
            let (b, k) = shares(set, weighted(|s| s.dy), weighted(|s| s.dy_x));
            for (cell, gradient) in members.iter().zip(gradients) {
                *gradient = Gradient { a: gamma_of(*cell) * a(set), b, k };
            }
        };
        let of_cells = if parameters.activation == Activation::Identity {
            let centers: Vec<f64> =
                sets.of_cells().iter().map(|set| statistics.mean[*set as usize]).collect();
            passes::backward(x, dy_dx, cells, sets, &centers, slopes)
        } else {
            let affines = parameters.affines(sets, channel_of, statistics, epsilon);
            passes::backward_activated(
                x,
                dy_dx,
                cells,
                sets,
                &affines,
                parameters.activation,
                slopes,
            )
        };
        let zero = vec![0.0; self.channels()];
        let mut gradients = ParameterGradients { gamma: zero.clone(), beta: zero };
        for ((sums, set), channel) in of_cells.iter().zip(sets.of_cells()).zip(channel_of) {
            gradients.gamma[*channel as usize] += rstd[*set as usize] * sums.dy_x;
            gradients.beta[*channel as usize] += sums.dy;
        }
        gradients
    }
}
