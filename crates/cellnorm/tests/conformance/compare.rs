//! How far an array of ours is from a framework's.

/// Largest error of an array, relative to its largest value.
pub const TOLERANCE: f64 = 1e-5;

/// Where a framework's own error against f64 is larger, the files have the f64 values, and ours are
/// compared with those.
pub const FAR: f64 = 3e-6;

/// The outcome of a comparison.
pub enum Found {
    /// Within the tolerance.
    Agrees(Distance),
    /// The framework itself is far from f64, and ours is nearer.
    Nearer {
        /// The framework's error against f64.
        theirs: f64,
        /// Ours.
        ours: f64,
    },
    /// Neither; by so much.
    Differs(f64),
}

/// The worst element of an array.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    /// max |a − b| / max(1, max |b|).
    pub relative: f64,
    /// The same in units of the last place that an f32 of that size has.
    pub ulp: f64,
}

impl Distance {
    pub fn between(a: &[f64], b: &[f64]) -> Self {
        assert_eq!(a.len(), b.len());
        let (mut distance, mut scale) = (0.0, 1.0);
        for (&a, &b) in a.iter().zip(b) {
            // `max` would drop a NaN.
            assert!(a.is_finite() && b.is_finite(), "{a} and {b}");
            distance = f64::max(distance, (a - b).abs());
            scale = f64::max(scale, b.abs());
        }
        let unit = f64::from(f32::EPSILON) * scale.log2().floor().exp2();
        Self { relative: distance / scale, ulp: distance / unit }
    }

    pub fn worst(self, other: Self) -> Self {
        Self { relative: self.relative.max(other.relative), ulp: self.ulp.max(other.ulp) }
    }
}

/// Compares `ours` with `theirs`, or where the file has `exact` values, with those.
pub fn compare(ours: &[f64], theirs: &[f64], exact: Option<&[f64]>) -> Found {
    if let Some(exact) = exact {
        let [ours, theirs] = [ours, theirs].map(|of| Distance::between(of, exact).relative);
        return if ours < theirs { Found::Nearer { theirs, ours } } else { Found::Differs(ours) };
    }
    let distance = Distance::between(ours, theirs);
    if distance.relative <= TOLERANCE {
        Found::Agrees(distance)
    } else {
        Found::Differs(distance.relative)
    }
}
