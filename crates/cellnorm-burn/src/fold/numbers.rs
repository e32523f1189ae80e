//! Parameters as f64, and f64 as parameters: rounded once, everything else as it was.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, TensorData};
use cellnorm::Error;
use cellnorm::fold::Folding;

/// The weight and the bias after folding.
///
/// # Errors
/// If a number is not finite, or would not be in the parameter's type, or a parameter is quantized.
pub(super) fn fold<const D: usize>(
    weight: Param<Tensor<D>>,
    bias: Option<Param<Tensor<1>>>,
    folding: &Folding,
) -> Result<(Param<Tensor<D>>, Option<Param<Tensor<1>>>), Error> {
    let numbers = read(weight.val())?;
    let bias = bias.unwrap_or_else(|| zeros(&weight, folding.kernel().outputs()));
    let folded = folding.fold(&numbers, Some(&read(bias.val())?))?;
    Ok((with(weight, &folded.weight)?, Some(with(bias, &folded.bias)?)))
}

/// The numbers of a tensor.
///
/// # Errors
/// If it is quantized.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, Error> {
    if let DType::QFloat(_) = tensor.dtype() {
        let what = "would be rounded twice; fold first, and quantize the folded layer";
        return Err(Error::Unsupported { layer: "a quantized layer", what });
    }
    Ok(tensor.into_data().convert::<f64>().try_to_vec().expect("converted to f64"))
}

/// A bias for a layer that has none: as the weight in type, device, and whether it trains.
fn zeros<const D: usize>(weight: &Param<Tensor<D>>, outputs: usize) -> Param<Tensor<1>> {
    let value = weight.val();
    let bias = Param::from_tensor(Tensor::zeros([outputs], (&value.device(), value.dtype())));
    // outside training a parameter says whether it would train only by going there
    bias.set_require_grad(weight.clone().train().is_require_grad())
}

/// The parameter with these numbers.
fn with<const D: usize>(
    param: Param<Tensor<D>>,
    numbers: &[f64],
) -> Result<Param<Tensor<D>>, Error> {
    let value = param.val();
    let (dtype, device) = (value.dtype(), value.device());
    let largest = dtype.finfo().map_or(f64::MAX, |info| info.max);
    if let Some(given) = numbers.iter().copied().find(|number| number.abs() > largest) {
        return Err(Error::Number {
            name: "a folded number",
            given,
            expected: "finite in the layer's own type",
        });
    }
    let data = match dtype {
        // Burn goes through f32 to the small types, which would be a second rounding
        DType::F16 | DType::BF16 => TensorData::new(
            numbers.iter().copied().map(to_odd).collect::<Vec<f32>>(),
            value.shape(),
        ),
        _ => TensorData::new(numbers.to_vec(), value.shape()),
    };
    let new = Tensor::from_data(data, (&device, dtype));
    // the id, the mappers of records and whether it trains stay, and a reparametrization goes
    Ok(param.map(|old| new.set_require_grad(old.is_require_grad())))
}

/// The f32 next to the number whose last bit is 1, unless it is an f32 itself. A smaller type then
/// rounds it as it would round the number: none of its own numbers or of the middles between them
/// has that bit.
///
/// S. Boldo, G. Melquiond, *Emulation of FMA and Correctly Rounded Sums: Proved Algorithms Using
/// Rounding to Odd*, 2008.
fn to_odd(number: f64) -> f32 {
    let near = number as f32;
    let exact = f64::from(near);
    if exact == number || near.to_bits() & 1 == 1 {
        return near;
    }
    let outward = number.abs() > exact.abs();
    f32::from_bits(if outward { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

#[cfg(test)]
mod tests {
    use super::to_odd;
    use burn::tensor::f16;

    #[test]
    fn half_precision_is_rounded_once() {
        let (one, next) = (1.0, 1.0 + 2f64.powi(-10));
        // a little above the middle of two halves, by less than f32 can tell
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(f16::from_f32(above as f32).to_f64(), one, "rounded twice it is wrong");
        assert_eq!(f16::from_f32(to_odd(above)).to_f64(), next);
        assert_eq!(f16::from_f32(to_odd(-above)).to_f64(), -next);
        let below = 1.0 + 3.0 * 2f64.powi(-11) - 2f64.powi(-40);
        assert_eq!(f16::from_f32(to_odd(below)).to_f64(), next);
        assert_eq!([to_odd(0.0), to_odd(1.5), to_odd(-1e-60)], [0.0, 1.5, -f32::from_bits(1)]);
    }
}
