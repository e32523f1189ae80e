//! Functions on arrays: the moments over any axes, normalization with given statistics, and a
//! tensor's statistics at a glance.

use std::fmt;

use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, Axis as Nd, CowArray, Dimension, IxDyn};

use crate::error::{Error, check_epsilon, check_numbers};
use crate::kernels::{self, Activation, Affine, Element, Real};
use crate::moments::Moments;
use crate::rule::{Arranged, typed};
use crate::shape::{Form, Roles, axis_set};

/// The mean and the biased variance over `axes`, in f64: TensorFlow's `tf.nn.moments`.
///
/// Negative axes count from the last; no axes means each value alone. With `keepdims` the axes stay
/// with length 1, ready to broadcast against x; without, they are gone.
///
/// # Errors
/// If an axis does not exist or is named twice, x is empty, or x holds NaN or infinity.
///
/// ```
/// let x = ndarray::array![[1.0_f32, 3.0], [5.0, 7.0]];
/// let (mean, variance) = cellnorm::moments(x.view(), &[0], true)?;
/// assert_eq!(mean, ndarray::array![[3.0, 5.0]].into_dyn());
/// assert_eq!(variance, ndarray::array![[4.0, 4.0]].into_dyn());
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn moments<T: Element, D: Dimension>(
    x: ArrayView<'_, T, D>,
    axes: &[isize],
    keepdims: bool,
) -> Result<(ArrayD<f64>, ArrayD<f64>), Error> {
    let shared = axis_set(axes, x.ndim())?;
    let axis = |i: usize| if shared[i] { keepdims.then_some(1) } else { Some(x.len_of(Nd(i))) };
    let shape: Vec<usize> = (0..x.ndim()).filter_map(axis).collect();
    let roles = Roles::new(shared.iter().map(|shared| (*shared, false)));
    let x = Arranged::new(CowArray::from(x.into_dyn()), &roles)?;
    let Form::Cells { cells, sets, .. } = &x.plan.form else {
        unreachable!("without parameters there are no rows")
    };
    let cell_moments = kernels::moments(x.slice(), cells);
    let merge_set = |set| {
        Moments::merge_all(sets.members(set).iter().map(|cell| &cell_moments[*cell as usize]))
    };
    let moments: Vec<Moments> = (0..sets.count()).map(merge_set).collect();
    if let Some(set) = moments.iter().position(|m| !(m.m2.is_finite() && m.mean.is_finite())) {
        return Err(Error::NotFinite { name: "x", set, sets: moments.len() });
    }
    let table = |part: fn(&Moments) -> f64| {
        ArrayD::from_shape_vec(IxDyn(&shape), moments.iter().map(part).collect())
            .expect("a value for each set")
    };
    Ok((table(|m| m.mean), table(Moments::variance)))
}

/// scale · (x − mean) / √(variance + epsilon) + offset: TensorFlow's `tf.nn.batch_normalization`.
///
/// The statistics and the optional offset (β) and scale (γ) broadcast against x by the usual rules:
/// aligned at the last axis, lengths equal or 1. x is overwritten where the array is handed over.
///
/// # Errors
/// If one of them does not broadcast to x, holds NaN or infinity, or a variance is negative; if
/// ε is not finite and at least 1e-36.
///
/// ```
/// use cellnorm::{batch_normalization, moments};
/// let x = ndarray::array![[1.0_f32, 3.0], [5.0, 7.0]];
/// let (mean, variance) = moments(x.view(), &[0], true)?;
/// let y = batch_normalization(x.view(), mean.view(), variance.view(), None, None, 1e-3)?;
/// assert!((y[[1, 1]] - 0.999875).abs() < 1e-6);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn batch_normalization<'a, T: Element, D: Dimension>(
    x: impl Into<CowArray<'a, T, D>>,
    mean: ArrayViewD<'_, f64>,
    variance: ArrayViewD<'_, f64>,
    offset: Option<ArrayViewD<'_, f64>>,
    scale: Option<ArrayViewD<'_, f64>>,
    epsilon: f64,
) -> Result<Array<T, D>, Error> {
    check_epsilon(epsilon)?;
    let x = x.into().into_dyn();
    check_numbers("variance", &variance, |v| v >= 0.0 || v.is_nan(), "not negative")?;
    let tables = [Some(mean), Some(variance), offset, scale];
    for (name, table) in ["mean", "variance", "offset", "scale"].into_iter().zip(&tables) {
        check_numbers(name, table.iter().flatten(), f64::is_finite, "finite")?;
    }
    // an axis along which any of them varies tells cells apart; along the others, coefficients are
    // constant
    let varies = |axis: usize| {
        let last = x.ndim() - axis;
        let long = |t: &ArrayViewD<'_, f64>| t.ndim() >= last && t.len_of(Nd(t.ndim() - last)) != 1;
        tables.iter().flatten().any(long)
    };
    let roles: Vec<(bool, bool)> = (0..x.ndim()).map(|axis| (!varies(axis), false)).collect();
    let shape: Vec<usize> =
        (0..x.ndim()).map(|axis| if roles[axis].0 { 1 } else { x.len_of(Nd(axis)) }).collect();
    let table = |name, table: &Option<ArrayViewD<'_, f64>>, absent| match table {
        None => Ok(ArrayD::from_elem(IxDyn(&shape), absent)),
        Some(table) => match table.broadcast(IxDyn(&shape)) {
            Some(full) => Ok(full.to_owned()),
            None => {
                Err(Error::Broadcast { name, given: table.shape().to_vec(), x: x.shape().to_vec() })
            }
        },
    };
    let [mean, variance, offset, scale] = &tables;
    let (mean, variance) = (table("mean", mean, 0.0)?, table("variance", variance, 1.0)?);
    let (offset, scale) = (table("offset", offset, 0.0)?, table("scale", scale, 1.0)?);
    let maps: Vec<Affine> = ndarray::Zip::from(&mean)
        .and(&variance)
        .and(&offset)
        .and(&scale)
        .map_collect(|mean, variance, offset, scale| Affine {
            center: *mean,
            scale: scale / (variance + epsilon).sqrt(),
            offset: *offset,
        })
        .into_iter()
        .collect();
    if x.is_empty() {
        return Ok(typed(x.into_owned()));
    }
    let x = Arranged::new(x, &Roles::new(roles))?;
    let y = x.map_owned(|plan, buffers| {
        let Form::Cells { cells, sets, .. } = &plan.form else {
            unreachable!("without parameters there are no rows")
        };
        let affines: Vec<Affine> = sets.of_cells().iter().map(|set| maps[*set as usize]).collect();
        kernels::affine(buffers, cells, &affines, Activation::Identity);
    });
    Ok(typed(y))
}

/// A tensor's statistics at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// The type of its elements.
    pub element: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The mean of all values.
    pub mean: f64,
    /// Their standard deviation, √(M2 / n).
    pub std: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "element             {}", self.element)?;
        writeln!(f, "shape               {:?}", self.shape)?;
        writeln!(f, "mean                {}", self.mean)?;
        writeln!(f, "standard deviation  {}", self.std)?;
        writeln!(f, "min                 {}", self.min)?;
        write!(f, "max                 {}", self.max)
    }
}

/// The element type, shape, mean, standard deviation, minimum and maximum of x.
///
/// # Errors
/// If x is empty or holds NaN or infinity.
///
/// ```
/// let stats = cellnorm::get_stats(ndarray::array![1.0_f32, 2.0, 3.0, 4.0].view())?;
/// assert_eq!(
///     (stats.mean, stats.std, stats.min, stats.max),
///     (2.5, 1.25_f64.sqrt(), 1.0, 4.0)
/// );
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn get_stats<T: Element, D: Dimension>(x: ArrayView<'_, T, D>) -> Result<Stats, Error> {
    let axes: Vec<isize> = (0..x.ndim() as isize).collect();
    let (mean, variance) = moments(x.view(), &axes, false)?;
    let first = x.iter().next().map_or(0.0, |v| v.widen().to_f64());
    let (min, max) = x.fold((first, first), |(min, max), v| {
        let v = v.widen().to_f64();
        (if v < min { v } else { min }, if v > max { v } else { max })
    });
    let path = std::any::type_name::<T>();
    let (element, shape) = (path.rsplit("::").next().unwrap_or(path), x.shape().to_vec());
    Ok(Stats { element, shape, mean: mean[IxDyn(&[])], std: variance[IxDyn(&[])].sqrt(), min, max })
}
