//! The exponential function, in operations that give the same bits on every machine and run a
//! vector at a time.
//!
//! eˣ = 2ⁿ · eʳ with n the nearest whole number to x / ln 2 and r = x − n ln 2, |r| ≤ ½ ln 2. eʳ is
//! its Taylor series, whose first term left out is below the last digit. ln 2 is subtracted in two
//! parts; the first has few digits, so that n times it is exact.

/// The inverses of N, N − 1, … 1.
const fn inverses<const N: usize>() -> [f64; N] {
    let mut inverses = [0.0; N];
    let mut i = 0;
    while i < N {
        inverses[i] = 1.0 / (N - i) as f64;
        i += 1;
    }
    inverses
}

macro_rules! exp {
    ($name:ident, $t:ident, digits: $digits:literal, bias: $bias:literal, most: $most:literal, ln2: [$high:literal, $low:literal], terms: $terms:literal) => {
        /// eˣ within a few units in the last place; beyond ±`most`, where 2ⁿ would leave the range,
        /// 0 and infinity. NaN stays NaN.
        #[inline(always)]
        pub(super) fn $name(x: $t) -> $t {
            // added to a number of moderate size, it leaves the nearest whole number in the last
            // digits
            const MAGIC: $t = 1.5 * (1_u64 << $digits) as $t;
            let shifted = x * std::$t::consts::LOG2_E + MAGIC;
            let n = shifted - MAGIC;
            let r = (x - n * $high) - n * $low;
            let mut sum = 1.0;
            for inverse in const { inverses::<$terms>() } {
                sum = sum * (r * inverse as $t) + 1.0;
            }
            let result =
                sum * $t::from_bits((shifted.to_bits() << $digits).wrapping_add($bias << $digits));
            let result = if x < -$most { 0.0 } else { result };
            if x > $most { $t::INFINITY } else { result }
        }
    };
}
exp!(exp_f32, f32, digits: 23, bias: 127, most: 87.0, ln2: [0.693_115_23, 3.194_618_5e-5], terms: 7);
exp!(exp_f64, f64, digits: 52, bias: 1023, most: 708.0, ln2: [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10], terms: 13);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        let points = (-70_000..=70_000).map(|i| f64::from(i) * 1e-3);
        let (mut f32_worst, mut f64_worst) = (0.0_f64, 0.0_f64);
        for x in points {
            f64_worst = f64_worst.max((exp_f64(x) / x.exp() - 1.0).abs());
            let rounded = f64::from(x as f32);
            f32_worst = f32_worst.max((f64::from(exp_f32(x as f32)) / rounded.exp() - 1.0).abs());
        }
        assert!(f64_worst < 1e-15 && f32_worst < 4e-7, "{f64_worst:e} {f32_worst:e}");
        assert_eq!((exp_f32(0.0), exp_f64(0.0)), (1.0, 1.0));
        assert!(exp_f32(f32::NAN).is_nan() && exp_f64(f64::NAN).is_nan());
        assert_eq!((exp_f32(88.0), exp_f32(-1e30)), (f32::INFINITY, 0.0));
        assert_eq!((exp_f64(f64::INFINITY), exp_f64(f64::NEG_INFINITY)), (f64::INFINITY, 0.0));
    }
}
