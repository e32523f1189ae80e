//! Rules on Burn's CPU backend: the passes over memory, and between them what the rule answers.

use burn::backend::flex::FlexTensor;
use burn::backend::{DType, Flex, TensorMetadata};
use cellnorm::Moments;

use super::arranged::{Arranged, from_table, narrow, table, wide, with_elements};
use super::{RuleOps, RuleSpec};

impl RuleOps for Flex {
    fn rule(
        x: FlexTensor,
        parameters: FlexTensor,
        spec: RuleSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (dtype, region) = (x.dtype(), &spec.region);
        let x = Arranged::row_major(wide(x));
        let moments = with_elements!(x.tensor, T => region.moments(x.elements::<T>()));
        let answer = spec.forward(&moments, &table(parameters));
        let (y, ()) = with_elements!(x.tensor, T => {
            x.map::<T, _>(|buffers| region.affine(buffers, &answer.affines))
        });
        let (mean, m2) = (moments.iter().map(|m| m.mean), moments.iter().map(|m| m.m2));
        let moments = from_table(mean.chain(m2).collect(), &[2, moments.len()], DType::F64);
        let tracked =
            answer.tracked.map_or(vec![], |of| [of.mean, of.variance, of.values].concat());
        let shape = [tracked.len()];
        (narrow(y, dtype), moments, from_table(tracked, &shape, DType::F64))
    }

    fn rule_backward(
        x: FlexTensor,
        parameters: FlexTensor,
        moments: FlexTensor,
        dy: FlexTensor,
        spec: RuleSpec,
    ) -> (FlexTensor, FlexTensor) {
        let (dtype, parameter_dtype, parameter_shape) =
            (x.dtype(), parameters.dtype(), parameters.shape().to_vec());
        let (region, moments, counts) = (&spec.region, table(moments), spec.region.counts());
        let (centers, m2) = moments.split_at(counts.len());
        let moment = |((count, mean), m2): ((&f64, &f64), &f64)| Moments {
            count: *count,
            mean: *mean,
            m2: *m2,
        };
        let moments: Vec<Moments> = counts.iter().zip(centers).zip(m2).map(moment).collect();
        let x = Arranged::row_major(wide(x));
        let dy = Arranged::row_major(narrow(dy, x.tensor.dtype()));
        let (dx, mut dparameters) = with_elements!(x.tensor, T => {
            let x = x.elements::<T>();
            let sums = region.sums(x, dy.elements::<T>(), centers);
            let (gradients, dparameters) = spec.backward(&moments, &table(parameters), &sums);
            let (dx, ()) = dy.map::<T, _>(|buffers| region.gradient(x, buffers, centers, &gradients));
            (dx, dparameters)
        });
        // where a layer has no parameters, a tensor that nobody looks at stands for them
        dparameters.resize(parameter_shape.iter().product(), 0.0);
        (narrow(dx, dtype), from_table(dparameters, &parameter_shape, parameter_dtype))
    }
}
