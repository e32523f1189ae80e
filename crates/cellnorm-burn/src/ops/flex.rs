//! The operations on Burn's CPU backend: thin glue between its tensors and the passes.
//!
//! Tensors without gaps in memory are used as they lie, transposed ones too; y and dx take the
//! layout and the type of x, f16 and bf16 included, which the passes widen and narrow on their way.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{DType, Flex, TensorMetadata};
use cellnorm::kernels::rows::ParameterGradients;
use cellnorm::kernels::{self, Affine, Gradient};
use cellnorm::norms::lines_of;
use cellnorm::rule::{ClosedForm, FormulaGradients};
use cellnorm::shape::Roles;
use cellnorm::{Activation, Moments, kernels::Parameters, rule::Statistics, shape::Cells};

use super::arranged::{Arranged, from_table, narrow, table, wide, with_elements};
use super::{CellSpec, Form, NormBackward, NormOps, Spec};

/// γ and β, where they are used.
fn affine(
    gamma: FlexTensor,
    beta: FlexTensor,
    spec: &Spec,
) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
    (spec.scale.then(|| table(gamma)), spec.center.then(|| table(beta)))
}

impl Spec {
    fn closed_form<'a>(&self, gamma: Option<&'a [f64]>, beta: Option<&'a [f64]>) -> ClosedForm<'a> {
        let Form::Plain { centering, epsilon, .. } = self.form else {
            unreachable!("asked in the plain form alone")
        };
        let parameters = Parameters { gamma, beta, activation: self.activation };
        ClosedForm { centering, epsilon, parameters }
    }
}

/// dx, dγ and the gradients of the other parameters of a rule for cells.
fn backward_cells(
    cells: &CellSpec,
    x: FlexTensor,
    [gamma, others]: [FlexTensor; 2],
    tables: FlexTensor,
    dy: FlexTensor,
    spec: &Spec,
) -> (FlexTensor, [Vec<f64>; 2]) {
    let (region, counts) = (&cells.region, cells.region.counts());
    let tables = table(tables);
    let (means, m2) = (&tables[..counts.len()], &tables[counts.len()..2 * counts.len()]);
    let moment =
        |((count, mean), m2): ((&f64, &f64), &f64)| Moments { count: *count, mean: *mean, m2: *m2 };
    let moments: Vec<Moments> = counts.iter().zip(means).zip(m2).map(moment).collect();
    let centers = &cells.formula.centers(&moments);
    let parameters = cells.named(&table(gamma), &table(others));
    let x = Arranged::row_major(wide(x));
    let mut dy = Arranged::row_major(narrow(dy, x.tensor.dtype()));
    let (dx, gradients) = with_elements!(x.tensor, T => {
        let x = x.elements::<T>();
        if spec.activation != Activation::Identity {
            let affines = cells.formula.maps(&moments, &parameters);
            let (dz, ()) = dy.map::<T, _>(|buffers| {
                region.activation_gradient(x, buffers, &affines, spec.activation);
            });
            dy = Arranged::row_major(dz);
        }
        let sums = region.sums(x, dy.elements::<T>(), centers);
        let gradients = cells.formula.backward(&moments, &parameters, &sums);
        let (dx, ()) = dy.map::<T, _>(|buffers| {
            region.gradient(x, buffers, centers, &gradients.cells);
        });
        (dx, gradients)
    });
    let FormulaGradients { parameters, .. } = gradients;
    let (gamma, others): (Vec<_>, Vec<_>) =
        parameters.into_iter().partition(|(name, _)| *name == "gamma");
    let flat = |named: Vec<(&str, Option<Vec<f64>>)>| {
        named.into_iter().filter_map(|(_, values)| values).flatten().collect()
    };
    (dx, [flat(gamma), flat(others)])
}

/// x with its lines: as it lies where these are next to each other in memory, else with the axes
/// that they lie along innermost.
fn arrange_lines(x: FlexTensor, along: &[bool]) -> (Arranged, Cells) {
    let arranged = Arranged::as_it_lies(x);
    let marks: Vec<bool> = arranged.order.iter().map(|axis| along[*axis]).collect();
    if let Some(lines) = lines_of(&arranged.tensor.shape().to_vec(), &marks) {
        return (arranged, lines);
    }
    let x = arranged.restore();
    let roles = Roles::new(along.iter().map(|along| (*along, false)));
    let (outer, len) = (roles.sets(&x.shape().to_vec()), x.layout().num_elements());
    (Arranged::in_order(x, roles.shared_last()), Cells { outer, positions: len / outer, inner: 1 })
}

/// dx from the gradients of the moments of cells.
fn backward_moments(x: FlexTensor, moments: &[f64], dmoments: &[f64], cells: &Cells) -> FlexTensor {
    let n = cells.positions as f64;
    let x = Arranged::row_major(wide(x));
    let (dmean, dvariance) = dmoments.split_at(cells.count());
    let share = |(dmean, dvariance): (&f64, &f64)| Gradient {
        a: 0.0,
        b: 2.0 * dvariance / n,
        k: dmean / n,
    };
    let gradients: Vec<Gradient> = dmean.iter().zip(dvariance).map(share).collect();
    let centers = &moments[..cells.count()];
    let zeros = Flex::float_zeros(x.tensor.shape(), &Default::default(), x.tensor.dtype().into());
    let (dx, ()) = with_elements!(x.tensor, T => Arranged::row_major(zeros).map::<T, _>(|buffers| {
        kernels::gradient(x.elements::<T>(), buffers, cells, centers, &gradients)
    }));
    dx
}

/// dx and the gradients of center, scale and offset of cells.
fn backward_affine(
    x: FlexTensor,
    tables: &[f64],
    dy: FlexTensor,
    cells: &Cells,
) -> (FlexTensor, Vec<f64>) {
    let (center, rest) = tables.split_at(cells.count());
    let scale = &rest[..cells.count()];
    let x = Arranged::row_major(wide(x));
    let dy = Arranged::row_major(narrow(dy, x.tensor.dtype()));
    let (dx, sums) = with_elements!(x.tensor, T => {
        let sums = kernels::sums(x.elements::<T>(), dy.elements::<T>(), cells, center);
        let affine = |scale: &f64| Affine { center: 0.0, scale: *scale, offset: 0.0 };
        let affines: Vec<Affine> = scale.iter().map(affine).collect();
        let (dx, ()) = dy.map::<T, _>(|buffers| {
            kernels::affine(buffers, cells, &affines, Activation::Identity);
        });
        (dx, sums)
    });
    let dcenter = sums.iter().zip(scale).map(|(sums, scale)| -scale * sums.dy);
    let dscale = sums.iter().map(|sums| sums.dy_x);
    let doffset = sums.iter().map(|sums| sums.dy);
    (dx, dcenter.chain(dscale).chain(doffset).collect())
}

impl NormOps for Flex {
    fn normalize(
        x: FlexTensor,
        gamma: FlexTensor,
        others: FlexTensor,
        spec: Spec,
    ) -> (FlexTensor, FlexTensor) {
        let dtype = x.dtype();
        let (y, tables) = match &spec.form {
            Form::Plain { roles, given, .. } => {
                let (gamma, beta) = affine(gamma, others, &spec);
                let form = spec.closed_form(gamma.as_deref(), beta.as_deref());
                let (x, plan) = Arranged::with_plan(wide(x), roles);
                with_elements!(x.tensor, T => x.map::<T, _>(|buffers| match given {
                    Some(given) => {
                        plan.forward_fixed(buffers, given, form);
                        vec![]
                    }
                    None => {
                        let Statistics { mut mean, variance } = plan.forward(buffers, form);
                        mean.extend(variance);
                        mean
                    }
                }))
            }
            Form::Cells(cells) => {
                let region = &cells.region;
                let x = Arranged::row_major(wide(x));
                let moments = with_elements!(x.tensor, T => region.moments(x.elements::<T>()));
                let parameters = cells.named(&table(gamma), &table(others));
                let output = cells.formula.forward(&moments, &parameters);
                let (y, ()) = with_elements!(x.tensor, T => x.map::<T, _>(|buffers| {
                    region.affine_activated(buffers, &output.affines, spec.activation)
                }));
                let (mean, m2) = (moments.iter().map(|m| m.mean), moments.iter().map(|m| m.m2));
                let mut tables: Vec<f64> = mean.chain(m2).collect();
                let tracked = output.tracked.into_iter();
                tables.extend(tracked.flat_map(|of| [of.mean, of.variance, of.values]).flatten());
                (y, tables)
            }
            Form::Lines { layer, along } => {
                let (x, lines) = arrange_lines(wide(x), along);
                let y = with_elements!(x.tensor, T => {
                    x.fresh::<T>(|x, y| layer.forward(x, y, &lines))
                });
                (y, vec![])
            }
            Form::Moments(cells) => {
                let x = Arranged::row_major(wide(x));
                let moments =
                    with_elements!(x.tensor, T => kernels::moments(x.elements::<T>(), cells));
                let (mean, variance) =
                    (moments.iter().map(|m| m.mean), moments.iter().map(|m| m.variance()));
                let moments =
                    from_table(mean.chain(variance).collect(), &[2, cells.count()], DType::F64);
                return (moments.clone(), moments);
            }
            Form::Affine(cells) => {
                let (tables, count) = (table(others), cells.count());
                let affine = |i: usize| Affine {
                    center: tables[i],
                    scale: tables[count + i],
                    offset: tables[2 * count + i],
                };
                let affines: Vec<Affine> = (0..count).map(affine).collect();
                let x = Arranged::row_major(wide(x));
                let (y, ()) = with_elements!(x.tensor, T => {
                    x.map::<T, _>(|buffers| {
                        kernels::affine(buffers, cells, &affines, Activation::Identity);
                    })
                });
                (y, vec![])
            }
        };
        let shape = [tables.len()];
        (narrow(y, dtype), from_table(tables, &shape, DType::F64))
    }
}

impl NormBackward for Flex {
    fn normalize_backward(
        [x, gamma, others]: [FlexTensor; 3],
        tables: FlexTensor,
        dy: FlexTensor,
        spec: Spec,
    ) -> [FlexTensor; 3] {
        let dtype = x.dtype();
        let shapes = [&gamma, &others].map(|of| (of.shape().to_vec(), of.dtype()));
        let (dx, [dgamma, dothers]) = match &spec.form {
            Form::Plain { roles, given, .. } => {
                let (gamma, beta) = affine(gamma, others, &spec);
                let form = spec.closed_form(gamma.as_deref(), beta.as_deref());
                let (x, plan) = Arranged::with_plan(wide(x), roles);
                let dy = Arranged::in_order(narrow(dy, x.tensor.dtype()), x.order.clone());
                let own = given.is_none().then(|| {
                    let mut mean = table(tables);
                    let variance = mean.split_off(mean.len() / 2);
                    Statistics { mean, variance }
                });
                let statistics = own.as_ref().or(given.as_deref()).expect("one or the other");
                let (dx, gradients) = with_elements!(x.tensor, T => {
                    let elements = x.elements::<T>();
                    dy.map::<T, _>(|buffers| {
                        plan.backward(elements, buffers, statistics, form, given.is_some())
                    })
                });
                let ParameterGradients { gamma, beta } = gradients;
                (dx, [gamma, beta])
            }
            Form::Cells(cells) => backward_cells(cells, x, [gamma, others], tables, dy, &spec),
            Form::Lines { layer, along } => {
                let (x, lines) = arrange_lines(wide(x), along);
                let dy = Arranged::in_order(narrow(dy, x.tensor.dtype()), x.order.clone());
                let dx = with_elements!(x.tensor, T => {
                    dy.over::<T>(|dy_dx| layer.backward(x.elements::<T>(), dy_dx, &lines))
                });
                (dx, [vec![], vec![]])
            }
            Form::Moments(cells) => {
                (backward_moments(x, &table(tables), &table(dy), cells), [vec![], vec![]])
            }
            Form::Affine(cells) => {
                let (dx, dtables) = backward_affine(x, &table(others), dy, cells);
                (dx, [vec![], dtables])
            }
        };
        // a tensor that is ignored stands for a parameter that the layer does not have; nobody asks
        // for its gradient
        let shaped = |mut values: Vec<f64>, (shape, dtype): &(Vec<usize>, DType)| {
            values.resize(shape.iter().product(), 0.0);
            from_table(values, shape, *dtype)
        };
        [narrow(dx, dtype), shaped(dgamma, &shapes[0]), shaped(dothers, &shapes[1])]
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Bytes;
    use burn::backend::flex::Layout;
    use cellnorm::shape::Centering;

    use super::*;

    fn tensor(shape: [usize; 3]) -> FlexTensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 7 % 13) as f32).collect();
        FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
    }

    fn start(x: &FlexTensor) -> *const u8 {
        x.bytes().as_ptr()
    }

    fn backward(dy: FlexTensor) -> FlexTensor {
        let roles = Roles::new([(true, false), (false, true), (true, false)]);
        let (centering, epsilon) = (Centering::Mean, 1e-5);
        let form = Form::Plain { roles, centering, epsilon, given: None };
        let activation = Activation::Identity;
        let spec = Spec { form, scale: true, center: true, activation };
        let table = |values: Vec<f64>| {
            let shape = [values.len()];
            from_table(values, &shape, DType::F64)
        };
        let [gamma, beta] = [1.0, 0.0].map(|value| table(vec![value; 3]));
        let statistics = table([[6.0; 3], [14.0; 3]].concat());
        let [dx, ..] =
            Flex::normalize_backward([tensor([2, 3, 4]), gamma, beta], statistics, dy, spec);
        dx
    }

    #[test]
    fn dx_is_written_over_dy_when_nobody_else_holds_it() {
        let dy = tensor([2, 3, 4]);
        let at = start(&dy);
        assert_eq!(start(&backward(dy)), at);

        let dy = tensor([2, 3, 4]);
        let held = dy.clone();
        let dx = backward(dy);
        assert_ne!(start(&dx), start(&held));
        assert_eq!(held.storage::<f32>(), tensor([2, 3, 4]).storage::<f32>());
    }

    #[test]
    fn a_transposed_tensor_keeps_its_layout() {
        let x = tensor([2, 4, 3]);
        let transposed = x.layout().permute(&[0, 2, 1]);
        let x = x.with_layout(transposed);
        let at = start(&x);
        let (arranged, _) =
            Arranged::with_plan(x, &Roles::new([(true, false), (false, true), (true, false)]));
        assert_eq!(start(&arranged.tensor), at, "nothing was copied");
        assert_eq!(arranged.restore().layout().strides(), [12, 1, 3]);
    }
}
