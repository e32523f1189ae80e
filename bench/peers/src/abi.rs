//! The C interface. Runs are repeated and timed on this side, so that a short row is timed as
//! called from Rust.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::null_mut;
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::time::Instant;

use cellnorm::kernels::rows::ParameterGradients;
use cellnorm::{Element, rule::Statistics};

use crate::case::{Case, Layout, Norm};
use crate::streams::{self, Stores};

/// A case, the type of its elements, and the statistics of its inference.
pub struct Handle {
    case: Case,
    dtype: u32,
    fixed: Statistics,
}

/// The arrays of a run; those that a pass does not use may be null.
#[repr(C)]
pub struct Arrays {
    x: *const c_void,
    dy: *const c_void,
    y: *mut c_void,
    dx: *mut c_void,
    dgamma: *mut f64,
    dbeta: *mut f64,
}

/// The number of threads from now on; to be called first, once. Non-zero if it was too late.
///
/// The threads start here, with this thread's affinity: a framework that pins the calling thread
/// later does not pin them.
#[unsafe(no_mangle)]
pub extern "C" fn cellnorm_threads(threads: usize) -> i32 {
    let started = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    if let Some(case) = Case::new(Norm::Batch, Layout::First, &[16, 16, 64, 64], 1e-5) {
        let (x, mut y) = (vec![1.0_f32; case.len], vec![0.0; case.len]);
        case.forward(&x, &mut y);
    }
    i32::from(started.is_err())
}

/// A case, or null where the library has none such. Norms: 0 batch, 1 group, 2 instance, 3 layer, 4
/// RMS. Layouts: 0 channels first or rows, 1 channels last. Types: 0 f32, 1 f64, 2 bf16, 3 f16.
///
/// # Safety
/// `shape` has `rank` numbers; γ and β are null or have a number a channel; mean and variance (of
/// inference) likewise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellnorm_case(
    norm: u32,
    layout: u32,
    dtype: u32,
    shape: *const usize,
    rank: usize,
    groups: usize,
    epsilon: f64,
    parameters: *const [*const f64; 4],
) -> *mut Handle {
    let norm = match norm {
        0 => Norm::Batch,
        1 => Norm::Group { groups },
        2 => Norm::Instance,
        3 => Norm::Layer,
        _ => Norm::Rms,
    };
    let layout = if layout == 0 { Layout::First } else { Layout::Last };
    // SAFETY: the caller's promise.
    let shape = unsafe { from_raw_parts(shape, rank) };
    let Some(case) = Case::new(norm, layout, shape, epsilon) else { return null_mut() };
    let channels = case.channels();
    // SAFETY: the caller's promise.
    let [gamma, beta, mean, variance] = unsafe { *parameters }.map(|values| {
        (!values.is_null()).then(|| unsafe { from_raw_parts(values, channels) }.to_vec())
    });
    let fixed =
        Statistics { mean: mean.unwrap_or_default(), variance: variance.unwrap_or_default() };
    Box::into_raw(Box::new(Handle { case: case.with_parameters(gamma, beta), dtype, fixed }))
}

/// # Safety
/// `handle` is from [`cellnorm_case`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellnorm_free(handle: *mut Handle) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(handle) });
}

/// Runs a pass `times` times and returns the seconds of all together. Passes: 0 forward, 1 forward
/// and backward, 2 inference.
///
/// # Safety
/// `handle` is from [`cellnorm_case`]; the arrays that the pass uses are of its type and length,
/// and those written are apart from all others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellnorm_run(
    handle: *const Handle,
    pass: u32,
    arrays: *const Arrays,
    times: usize,
) -> f64 {
    // SAFETY: the caller's promise.
    let (handle, arrays) = unsafe { (&*handle, &*arrays) };
    let typed = match handle.dtype {
        0 => run::<f32>,
        1 => run::<f64>,
        2 => run::<half::bf16>,
        _ => run::<half::f16>,
    };
    // SAFETY: the caller's promise.
    unsafe { typed(handle, pass, arrays, times) }
}

/// Copies `len` floats `times` times, with stores past the cache or plain ones, and returns the
/// seconds of all together.
///
/// # Safety
/// The arrays have `len` floats each, and `to` is apart from `from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellnorm_copy(
    from: *const f32,
    to: *mut f32,
    len: usize,
    streamed: bool,
    times: usize,
) -> f64 {
    let stores = if streamed { Stores::Streamed } else { Stores::Plain };
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (from_raw_parts(from, len), from_raw_parts_mut(to, len)) };
    seconds(times, || streams::copy(from, black_box(&mut *to), stores))
}

/// As [`cellnorm_copy`], for to = a + b.
///
/// # Safety
/// As there, for three arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellnorm_add(
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    len: usize,
    streamed: bool,
    times: usize,
) -> f64 {
    let stores = if streamed { Stores::Streamed } else { Stores::Plain };
    // SAFETY: the caller's promise.
    let (a, b, to) =
        unsafe { (from_raw_parts(a, len), from_raw_parts(b, len), from_raw_parts_mut(to, len)) };
    seconds(times, || streams::add(a, b, black_box(&mut *to), stores))
}

fn seconds(times: usize, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| run());
    start.elapsed().as_secs_f64()
}

/// [`cellnorm_run`] on elements of a type.
///
/// # Safety
/// As [`cellnorm_run`].
unsafe fn run<T: Element>(handle: &Handle, pass: u32, arrays: &Arrays, times: usize) -> f64 {
    let (case, len) = (&handle.case, handle.case.len);
    // SAFETY: the caller's promise, for each array that the pass uses.
    let x = unsafe { from_raw_parts(arrays.x.cast::<T>(), len) };
    // SAFETY: as above.
    let y = unsafe { from_raw_parts_mut(arrays.y.cast::<T>(), len) };
    match pass {
        0 => seconds(times, || drop(black_box(case.forward(x, y)))),
        2 => seconds(times, || case.infer(x, y, &handle.fixed)),
        _ => {
            // SAFETY: as above.
            let dy = unsafe { from_raw_parts(arrays.dy.cast::<T>(), len) };
            // SAFETY: as above.
            let dx = unsafe { from_raw_parts_mut(arrays.dx.cast::<T>(), len) };
            let mut gradients = ParameterGradients::default();
            let seconds = seconds(times, || gradients = case.train(x, dy, y, dx));
            for (values, to) in [(&gradients.gamma, arrays.dgamma), (&gradients.beta, arrays.dbeta)]
            {
                if !to.is_null() {
                    // SAFETY: the caller's promise.
                    unsafe { to.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
                }
            }
            seconds
        }
    }
}
