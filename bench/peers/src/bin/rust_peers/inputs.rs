//! The task that a line of input names, and its numbers.

use std::path::Path;

use cellnorm_peers::case::{Layout, Norm};

pub const EPSILON: f64 = 1e-5;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Forward,
    Training,
    Inference,
}

pub struct Task {
    pub norm: Norm,
    pub layout: Layout,
    pub shape: Vec<usize>,
    pub dtype: String,
    pub step: Step,
}

impl Task {
    /// From norm-layout-shape-type-pass, as `measure/cases.py` writes it.
    pub fn parse(key: &str) -> Result<Task, String> {
        let unknown = || format!("not a case: {key}");
        let parts: Vec<&str> = key.split('-').collect();
        let [norm, layout, shape, dtype, step] = parts[..] else { return Err(unknown()) };
        let shape: Option<Vec<usize>> = shape.split('x').map(|len| len.parse().ok()).collect();
        let shape = shape.ok_or_else(unknown)?;
        let norm = match norm {
            "batch" => Norm::Batch,
            "group" => Norm::Group { groups: if shape[1] % 32 == 0 { 32 } else { 4 } },
            "instance" => Norm::Instance,
            "layer" => Norm::Layer,
            "rms" => Norm::Rms,
            _ => return Err(unknown()),
        };
        let step = match step {
            "forward" => Step::Forward,
            "training" => Step::Training,
            _ => Step::Inference,
        };
        let layout = if layout == "last" { Layout::Last } else { Layout::First };
        Ok(Task { norm, layout, shape, dtype: dtype.into(), step })
    }

    /// Whether γ varies along the last axis.
    pub fn is_rows(&self) -> bool {
        matches!(self.norm, Norm::Layer | Norm::Rms)
    }

    pub fn channels(&self) -> usize {
        if self.is_rows() { self.shape[self.shape.len() - 1] } else { self.shape[1] }
    }
}

/// f32 values from a multiple of 64 bytes on, which streaming stores need.
pub struct Aligned {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Self {
        let values = vec![0.0_f32; len + 16];
        let start = values.as_ptr().align_offset(64);
        Self { values, start, len }
    }

    pub fn slice(&self) -> &[f32] {
        &self.values[self.start..][..self.len]
    }

    pub fn slice_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..][..self.len]
    }
}

pub struct Inputs {
    pub x: Aligned,
    pub dy: Aligned,
    pub gamma: Vec<f64>,
    /// None where the normalization has none.
    pub beta: Option<Vec<f64>>,
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

impl Inputs {
    pub fn new(task: &Task) -> Inputs {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut tensor = |scale: f32, offset: f32| {
            let mut values = Aligned::new(task.shape.iter().product());
            // a sum of four uniform numbers is bell-shaped enough, with variance 1/3
            let mut bell = || (0..4).map(|_| random.next()).sum::<f64>() as f32 - 2.0;
            values.slice_mut().fill_with(|| bell() * 1.732 * scale + offset);
            values
        };
        let (x, dy) = (tensor(2.0, 0.5), tensor(1.0, 0.0));
        let mut channels = |low: f64, high: f64| -> Vec<f64> {
            (0..task.channels())
                .map(|_| ((low + (high - low) * random.next()) * 64.0).round() / 64.0)
                .collect()
        };
        let (gamma, beta) = (channels(0.5, 1.5), channels(-1.0, 1.0));
        let (mean, variance) = (channels(0.0, 1.0), channels(1.0, 5.0));
        Inputs { x, dy, gamma, beta: (task.norm != Norm::Rms).then_some(beta), mean, variance }
    }

    /// From files of f32 numbers, as `measure/peer_rust.py` writes them.
    pub fn read(task: &Task, folder: &Path) -> std::io::Result<Inputs> {
        let values = |name: &str| -> std::io::Result<Vec<f32>> {
            let bytes = std::fs::read(folder.join(name))?;
            Ok(bytes
                .chunks_exact(4)
                .map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]]))
                .collect())
        };
        let tensor = |name: &str| -> std::io::Result<Aligned> {
            let mut to = Aligned::new(task.shape.iter().product());
            to.slice_mut().copy_from_slice(&values(name)?);
            Ok(to)
        };
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let (gamma, beta) = (wide(values("gamma")?), wide(values("beta")?));
        let (mean, variance) = (vec![0.0; gamma.len()], vec![1.0; gamma.len()]);
        Ok(Inputs {
            x: tensor("x")?,
            dy: tensor("dy")?,
            gamma,
            beta: (task.norm != Norm::Rms).then_some(beta),
            mean,
            variance,
        })
    }

    pub fn gamma_f32(&self) -> Vec<f32> {
        self.gamma.iter().map(|v| *v as f32).collect()
    }

    pub fn beta_f32(&self) -> Vec<f32> {
        self.beta.iter().flatten().map(|v| *v as f32).collect()
    }
}

/// Xorshift: uniform numbers in 0..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
