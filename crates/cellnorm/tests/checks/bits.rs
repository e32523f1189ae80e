//! The same bits on any number of threads, any instruction set, in any batch, and in whichever
//! order the passes run.

use cellnorm::kernels::{self, Activation, Affine, Buffers, Gradient};
use cellnorm::machine::Machine;
use cellnorm::{
    Element, Moments,
    norms::{LocalResponseNormConfig, LpNormConfig},
    shape::{Cells, Sets},
};
use ndarray::{ArrayD, Axis};
use proptest::prelude::*;

use crate::common::{AnyLayer, Numbers, Outcome, Parameters, Spec, Which, check, specs};
use crate::elements::{element, wide, with_element};

const THREADS: [usize; 4] = [1, 2, 3, 4];

fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Machines whose thresholds lie far apart: this one; one of small caches, which streams nearly all
/// outputs, fetches nothing ahead and calls threads early; and a large one, which does the
/// opposite.
const CACHES: [&str; 3] = [
    "",
    "cores=1,l1=4K,l2=16K,l3=64K,l3_cores=1,huge_page=0",
    "cores=64,l1=64K,l2=4M,l3=1G,l3_cores=1",
];

/// On every instruction set of this machine, each with other caches, with the name of it all.
fn on_every_machine(mut work: impl FnMut(&str)) {
    for set in kernels::instruction_sets() {
        for caches in CACHES {
            let name = format!("instruction_set={set},{caches}");
            let (machine, notes) = Machine::this().with(&name);
            assert_eq!(notes, [""; 0]);
            machine.run(|| work(&name)).unwrap();
        }
    }
}

fn bits<'a, T: Element>(values: impl IntoIterator<Item = &'a T>) -> Vec<u64> {
    values.into_iter().map(|value| wide(value).to_bits()).collect()
}

/// All numbers of an outcome, each with the name of what it is.
fn all_bits<T: Element>(outcome: &Outcome<T>) -> Vec<(&'static str, Vec<u64>)> {
    let parameter = |values: &Option<ArrayD<f64>>| values.as_ref().map_or(vec![], bits);
    vec![
        ("mean", bits(&outcome.saved.statistics.mean)),
        ("variance", bits(&outcome.saved.statistics.variance)),
        ("y", bits(&outcome.y)),
        ("dx", bits(&outcome.dx)),
        ("dgamma", parameter(&outcome.dgamma)),
        ("dbeta", parameter(&outcome.dbeta)),
    ]
}

/// Forward and backward in elements of type T, on every instruction set and any number of threads.
fn same_everywhere<T: Element>(spec: &Spec, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let parameters = Parameters::random(spec, &mut numbers, 3.0);
    let [x, dy] = [3.0, 0.0].map(|mean| numbers.tensor(&spec.shape, mean).mapv(element::<T>));
    let mut first = None;
    on_every_machine(|machine| {
        for threads in THREADS {
            let mut layer = AnyLayer::new(spec, &parameters).unwrap();
            let these =
                all_bits(&with_threads(threads, || layer.run(x.view(), dy.view()).unwrap()));
            let first = first.get_or_insert_with(|| these.clone());
            for ((name, first), (_, these)) in first.iter().zip(&these) {
                let element = std::any::type_name::<T>();
                assert!(
                    first == these,
                    "{name} of {element} differs on {machine}, {threads} threads: {spec:?}"
                );
            }
        }
    });
}

#[test]
fn any_threads_and_any_instruction_set() {
    check(80, (specs(200_000), 0..4_usize), |((spec, seed), element)| {
        with_element!(element, T => same_everywhere::<T>(&spec, seed));
    });
    println!("equal bits on {}, 1 to 4 threads", kernels::instruction_sets().join(", "));
}

/// Sizes above the one from which threads share the work (one set, few, and many), small planes,
/// and tails of every kind.
#[test]
fn any_threads_and_any_instruction_set_at_chosen_sizes() {
    let sizes = [
        &[1_usize, 1, 400, 401][..],
        &[2, 1, 300, 301],
        &[1, 3, 210, 211],
        &[40, 30, 11, 13],
        &[3, 700, 9, 17],
        &[5, 64, 7, 7],
        &[33, 1, 1, 3],
        &[2, 5, 4097],
    ];
    let last = [
        &[1_usize, 400, 401, 1][..],
        &[1, 70_001, 3],
        &[2, 20_000, 10],
        &[3, 5_000, 17],
        &[70, 9, 200],
        &[5, 7, 7, 64],
        &[9, 33, 1],
    ];
    let mut number = 0;
    for (shape, channels_last) in
        sizes.map(|s| (s, false)).into_iter().chain(last.map(|s| (s, true)))
    {
        let channels: usize = if channels_last { shape[shape.len() - 1] } else { shape[1] };
        let which = [
            Which::Batch { fixed: false },
            Which::Batch { fixed: true },
            Which::Instance,
            Which::Group(if channels.is_multiple_of(2) { 2 } else { 1 }),
            Which::LayerPerChannel,
            Which::LayerLast(1),
            Which::LayerOver(vec![0, -1]),
            Which::RmsLast(shape.len() - 1),
        ];
        for which in which {
            let spec = Spec { channels_last, ..Spec::new(which, shape) };
            if spec.values_per_set() > 1 {
                // f32 always, and the others in turn
                same_everywhere::<f32>(&spec, 5);
                number += 1;
                with_element!(1 + number % 3, T => same_everywhere::<T>(&spec, 5));
            }
        }
    }
}

/// y and dx of the normalizations of lines, along one axis.
fn same_lines_everywhere<T: Element>(shape: &[usize], axis: isize) {
    let mut numbers = Numbers::new(5);
    let [x, dy] = [1.0, 0.0].map(|mean| numbers.tensor(shape, mean).mapv(element::<T>));
    let lp =
        [1.0, 2.0, 3.0, f64::INFINITY].map(|p| LpNormConfig::new(&[axis]).p(p).init().unwrap());
    let local = |beta| {
        LocalResponseNormConfig::new(4).alpha(0.5).beta(beta).channel_axis(axis).init().unwrap()
    };
    let local = [0.75, 0.7].map(local);
    let mut first = None;
    on_every_machine(|machine| {
        for threads in THREADS {
            let these: Vec<Vec<u64>> = with_threads(threads, || {
                let of_lp = lp
                    .iter()
                    .flat_map(|of| [of.forward(x.view()), of.backward(x.view(), dy.view())]);
                let of_local = local
                    .iter()
                    .flat_map(|of| [of.forward(x.view()), of.backward(x.view(), dy.view())]);
                of_lp.chain(of_local).map(|all| bits(&all.unwrap())).collect()
            });
            let first = first.get_or_insert_with(|| these.clone());
            let element = std::any::type_name::<T>();
            assert!(
                *first == these,
                "{element} differ on {machine}, {threads} threads: {shape:?}, axis {axis}"
            );
        }
    });
}

/// Whole strips and narrower ones, interleaved lines and runs of memory, alone and shared by
/// threads.
#[test]
fn lines_on_any_threads_and_any_instruction_set() {
    for shape in [&[7_usize, 10, 33, 31][..], &[2, 9, 20], &[3, 5, 4097], &[4001, 17]] {
        for axis in [1, -1] {
            same_lines_everywhere::<f32>(shape, axis);
            same_lines_everywhere::<f64>(shape, axis);
            same_lines_everywhere::<half::bf16>(shape, axis);
        }
    }
}

/// y, dx and the statistics of each sample, alone and in a batch with samples outermost.
fn same_alone<T: Element>(spec: &Spec, seed: u64) {
    let over_samples = spec.element_axes().is_some_and(|axes| axes[0] == 0);
    if matches!(spec.which, Which::Batch { .. }) || over_samples {
        return;
    }
    let mut numbers = Numbers::new(seed);
    let parameters = Parameters::random(spec, &mut numbers, 3.0);
    let [x, dy] = [3.0, 0.0].map(|mean| numbers.tensor(&spec.shape, mean).mapv(element::<T>));
    let mut layer = AnyLayer::new(spec, &parameters).unwrap();
    let batch = layer.run(x.view(), dy.view()).unwrap();
    for n in 0..spec.shape[0] {
        let sample = |array: &ArrayD<T>| array.slice_axis(Axis(0), (n..n + 1).into()).to_owned();
        let single = layer.run(sample(&x).view(), sample(&dy).view()).unwrap();
        let sets = single.saved.statistics.mean.len();
        assert_eq!(batch.saved.statistics.mean[n * sets..][..sets], single.saved.statistics.mean);
        assert_eq!(
            batch.saved.statistics.variance[n * sets..][..sets],
            single.saved.statistics.variance
        );
        assert!(bits(&sample(&batch.y)) == bits(&single.y), "y of sample {n}: {spec:?}");
        assert!(bits(&sample(&batch.dx)) == bits(&single.dx), "dx of sample {n}: {spec:?}");
    }
}

#[test]
fn a_sample_does_not_see_its_batch() {
    check(300, (specs(3000), 0..4_usize), |((spec, seed), element)| {
        with_element!(element, T => same_alone::<T>(&spec, seed));
    });
    let large = [
        Spec::new(Which::Instance, &[5, 3, 70, 71]),
        Spec::new(Which::Group(2), &[7, 90, 71, 6]).channels_last(),
        Spec::new(Which::LayerPerChannel, &[3, 100, 100, 5]).channels_last(),
        Spec::new(Which::LayerLast(1), &[300, 300]),
        Spec::new(Which::RmsLast(2), &[4, 200, 200]),
        Spec::new(Which::Group(3), &[40, 9, 1]),
    ];
    large.iter().for_each(|spec| same_alone::<f32>(spec, 9));
}

/// Any cells and any labels: set by set, block by block, or one pass after another.
fn same_in_any_order<T: Element>(cells: Cells, sets: usize, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let mut tensor =
        || (0..cells.len()).map(|_| element(numbers.normal() + 2.0)).collect::<Vec<T>>();
    let (x, dy) = (tensor(), tensor());
    // every second time the sets stay within their outer blocks
    let within = seed.is_multiple_of(2);
    let label = |cell: usize, random: usize| {
        (if within { cell / cells.inner * sets } else { 0 } + random) as u32
    };
    let raw: Vec<u32> = (0..cells.count()).map(|cell| label(cell, numbers.below(sets))).collect();
    let used: Vec<u32> =
        raw.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let labels: Vec<u32> =
        raw.iter().map(|label| used.binary_search(label).unwrap() as u32).collect();
    let sets = Sets::new(&labels);

    let maps = |set: usize, moments: &[Moments], affines: &mut [Affine]| {
        let all = Moments::merge_all(moments);
        for (i, affine) in affines.iter_mut().enumerate() {
            *affine = Affine {
                center: all.mean,
                scale: 1.0 / all.variance().sqrt(),
                offset: (set + i) as f64,
            };
        }
        (all.mean, all.variance())
    };
    let slopes = |_set: usize, sums: &[kernels::Sums], gradients: &mut [Gradient]| {
        let (dy, dy_x) = sums.iter().fold((0.0, 0.0), |(dy, dy_x), s| (dy + s.dy, dy_x + s.dy_x));
        for (i, gradient) in gradients.iter_mut().enumerate() {
            *gradient = Gradient { a: 1.0 + i as f64, b: dy_x * 1e-4, k: dy * 1e-4 };
        }
    };

    // the passes on their own
    let of_cells = kernels::moments(&x, &cells);
    // sets of as many neighbouring cells each are reduced as cells of their own
    let size = labels.len() / sets.count();
    let neighbours = cells.inner == 1
        && size > 1
        && labels.chunks(size).zip(0..).all(|(of, set)| of.iter().all(|l| *l == set));
    let whole = Cells { outer: sets.count(), positions: size * cells.positions, inner: 1 };
    let of_sets = neighbours.then(|| kernels::moments(&x, &whole));
    let centers: Vec<f64> = of_cells.iter().map(|moments| moments.mean).collect();
    let sums = kernels::sums(&x, &dy, &cells, &centers);
    let mut affines = vec![Affine::default(); cells.count()];
    let mut gradients = vec![Gradient::default(); cells.count()];
    for set in 0..sets.count() {
        let members: Vec<usize> = sets.members(set).iter().map(|cell| *cell as usize).collect();
        let (mut of_set, mut slopes_of_set) =
            (vec![Affine::default(); members.len()], vec![Gradient::default(); members.len()]);
        let moments = match &of_sets {
            Some(of_sets) => vec![of_sets[set]],
            None => members.iter().map(|cell| of_cells[*cell]).collect(),
        };
        maps(set, &moments, &mut of_set);
        slopes(
            set,
            &members.iter().map(|cell| sums[*cell]).collect::<Vec<_>>(),
            &mut slopes_of_set,
        );
        for (i, cell) in members.iter().enumerate() {
            (affines[*cell], gradients[*cell]) = (of_set[i], slopes_of_set[i]);
        }
    }
    let (mut y, mut dx) = (Vec::new(), Vec::new());
    kernels::affine(Buffers::Into(&x, &mut y), &cells, &affines, Activation::Identity);
    kernels::gradient(&x, Buffers::Into(&dy, &mut dx), &cells, &centers, &gradients);

    for threads in THREADS {
        with_threads(threads, || {
            let (mut into, mut apart, mut over) =
                (Vec::new(), vec![T::default(); x.len()], x.clone());
            for buffers in [
                Buffers::Into(&x, &mut into),
                Buffers::Apart(&x, &mut apart),
                Buffers::Over(&mut over),
            ] {
                kernels::forward(buffers, &cells, &sets, Activation::Identity, &maps);
            }
            for result in [into, apart, over] {
                assert!(
                    bits(&result) == bits(&y),
                    "y on {threads} threads: {cells:?}, {} sets",
                    sets.count()
                );
            }
            let (mut into, mut apart, mut over) =
                (Vec::new(), vec![T::default(); x.len()], dy.clone());
            for buffers in [
                Buffers::Into(&dy, &mut into),
                Buffers::Apart(&dy, &mut apart),
                Buffers::Over(&mut over),
            ] {
                kernels::backward(&x, buffers, &cells, &sets, &centers, &slopes);
            }
            for result in [into, apart, over] {
                assert!(
                    bits(&result) == bits(&dx),
                    "dx on {threads} threads: {cells:?}, {} sets",
                    sets.count()
                );
            }
        });
    }
}

#[test]
fn any_order_of_the_passes() {
    let cells = (1..6_usize, 1..3000_usize, prop_oneof![Just(1_usize), 1..40_usize]);
    check(
        120,
        (cells, 1..20_usize, any::<u64>(), 0..4_usize),
        |((outer, positions, inner), sets, seed, element)| {
            let cells = Cells { outer, positions: positions / inner.min(8) + 1, inner };
            with_element!(element, T => same_in_any_order::<T>(cells, sets, seed));
        },
    );
    for (outer, positions, inner) in [
        (1, 200_000, 1),
        (3, 70_000, 1),
        (90, 1000, 1),
        (1, 70_000, 3),
        (2, 3000, 50),
        (9, 300, 40),
    ] {
        for seed in [2, 3] {
            same_in_any_order::<f32>(Cells { outer, positions, inner }, 2, seed);
        }
    }
}
