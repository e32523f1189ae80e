//! Refusals of ranks, which every rank hears of.

use cellnorm::ranks::{Communicator, Threads};
use cellnorm::{Error, Mask};
use ndarray::Array3;

use crate::ranks::{layer, on_ranks};

type Rank<'a> = &'a (dyn Fn(&Threads) -> Result<(), Error> + Sync);

#[test]
fn a_mask_is_on_all_ranks_or_on_none() {
    let results = on_ranks(2, |over| {
        let mask = (over.rank() == 1).then(|| Mask::lengths(&[1, 1], 2));
        layer(2, 1)
            .forward_over(Array3::<f32>::ones((2, 2, 4)).view(), mask.as_ref(), &over)
            .map(drop)
    });
    assert!(
        results.iter().all(|result| matches!(result, Err(Error::RanksDiffer { .. }))),
        "{results:?}"
    );
}

#[test]
fn one_value_on_a_rank_is_fine_and_one_in_all_is_not() {
    let run = |sizes: [usize; 2]| {
        on_ranks(2, |over| {
            let x = Array3::from_shape_fn((sizes[over.rank()], 2, 1), |(n, c, _)| {
                (n + c + over.rank()) as f32
            });
            layer(2, 1).forward_over(x.view(), None, &over).map(drop)
        })
    };
    assert_eq!(run([1, 1]), [Ok(()), Ok(())]);
    assert!(run([1, 0]).iter().all(|result| matches!(result, Err(Error::OneValue { .. }))));
}

#[test]
fn all_ranks_hear_of_an_error() {
    let message = |result: &Result<(), Error>| result.as_ref().unwrap_err().to_string();
    let run = |rank: &(dyn Fn(Threads) -> Result<(), Error> + Sync)| on_ranks(3, rank);

    // one has another number of channels in its data
    let results = run(&|over| {
        let channels = if over.rank() == 2 { 3 } else { 2 };
        layer(2, 1)
            .forward_over(Array3::<f32>::zeros((2, channels, 4)).view(), None, &over)
            .map(drop)
    });
    assert!(matches!(results[2], Err(Error::Channels { .. })), "{results:?}");
    assert_eq!(results[0], results[1]);
    assert!(
        message(&results[0])
            .starts_with("rank 2 failed: axis 1 of the shape [2, 3, 4] has length 3"),
        "{results:?}"
    );

    // one has NaN: the statistics of all are lost
    let results = run(&|over| {
        let value = if over.rank() == 1 { f32::NAN } else { 1.0 };
        layer(2, 1).forward_over(Array3::from_elem((2, 2, 4), value).view(), None, &over).map(drop)
    });
    assert!(
        results.iter().all(|result| matches!(result, Err(Error::NotFinite { name: "x", .. }))),
        "{results:?}"
    );

    // another layer, another type, other semantics
    let layers: [Rank; 3] = [
        &|over| {
            layer(90, 1).forward_over(Array3::<f32>::ones((2, 90, 4)).view(), None, over).map(drop)
        },
        &|over| {
            layer(2, 1).forward_over(Array3::<f64>::ones((2, 2, 4)).view(), None, over).map(drop)
        },
        &|over| {
            let mut layer = layer(2, 1);
            layer.epsilon = 1e-3;
            layer.forward_over(Array3::<f32>::ones((2, 2, 4)).view(), None, over).map(drop)
        },
    ];
    for (other, words) in
        layers.into_iter().zip(["of 90 channels of f32", "of 2 channels of f64", "epsilon 0.001"])
    {
        let results = run(&|over| match over.rank() {
            1 => other(&over),
            _ => layer(2, 1)
                .forward_over(Array3::<f32>::ones((2, 2, 4)).view(), None, &over)
                .map(drop),
        });
        let text = message(&results[0]);
        assert!(results.iter().all(|result| message(result) == text), "{results:?}");
        assert!(
            text.contains("rank 1 at the forward pass of batch normalization")
                && text.contains(words),
            "{text}"
        );
    }

    // one is gone
    let results = run(&|over| {
        if over.rank() == 1 {
            return Ok(());
        }
        layer(2, 1).forward_over(Array3::<f32>::ones((2, 2, 4)).view(), None, &over).map(drop)
    });
    assert_eq!(
        results,
        [Err(Error::RankGone { rank: 1 }), Ok(()), Err(Error::RankGone { rank: 1 })]
    );
}

#[test]
fn what_another_layer_saved_is_refused() {
    let results = on_ranks(2, |over| {
        let x = Array3::from_shape_fn((2, 2, 4), |(n, c, i)| (n + c * i) as f32);
        let (_, mut saved) = layer(2, 1).forward_over(x.view(), None, &over).unwrap();
        if over.rank() == 1 {
            saved.statistics.mean.pop();
        }
        layer(2, 1).backward_over(&saved, x.view(), x.view(), &over).map(drop)
    });
    assert!(matches!(results[0], Err(Error::RankFailed { rank: 1, .. })), "{results:?}");
    assert!(
        matches!(results[1], Err(Error::Parameter { name: "the saved mean", .. })),
        "{results:?}"
    );
}

#[test]
fn a_gradient_that_is_not_finite_is_named() {
    let results = on_ranks(2, |over| {
        let x = Array3::from_shape_fn((2, 2, 4), |(n, c, i)| (n + c * i) as f32);
        let mut dy = x.clone();
        if over.rank() == 1 {
            dy[[1, 1, 2]] = f32::INFINITY;
        }
        let (_, saved) = layer(2, 1).forward_over(x.view(), None, &over).unwrap();
        layer(2, 1).backward_over(&saved, x.view(), dy, &over).map(drop)
    });
    assert_eq!(results[0], Err(Error::NotFinite { name: "dy", set: 1, sets: 2 }));
    assert_eq!(results[1], results[0]);
}
