//! The health report of a normalization, for numbers with every kind of trouble.

use cellnorm::inspect::{Health, Numbers, Range};

#[test]
fn each_trouble_is_found_where_it_is() {
    let health = Health::of(&Numbers {
        gamma: Some(vec![1.0, -2e-4, 2.0, 2.1e-4, f64::NAN, -2.0]),
        beta: Some(vec![0.0, f64::INFINITY, 0.5, -1.0, 0.0, 0.0]),
        mean: Some(vec![0.0; 6]),
        variance: Some(vec![4.0, 4.0, 3.9e-8, 0.0, 1.0, -1e-9]),
        epsilon: 1e-6,
    });
    assert_eq!(health.channels, 6);
    assert_eq!(
        (health.dead_gamma.as_slice(), health.dead_variance.as_slice()),
        (&[1][..], &[2, 3][..])
    );
    assert_eq!(health.dead(), 3);
    // 2/√(3.9e-8 + 1e-6) = 1962, 2/√(1e-6 − 1e-9) = 2001
    assert_eq!(health.exploding, [2, 5]);
    assert!((health.gain.unwrap() - 2001.0).abs() < 0.1);
    assert_eq!((health.negative_variance, health.not_finite), (vec![5], vec![1, 4]));
    assert_eq!(health.gamma, Some(Range { least: -2.0, largest: 2.0 }), "of finite numbers");
    assert_eq!(health.beta, Some(Range { least: -1.0, largest: 0.5 }));
}

#[test]
fn nothing_is_said_of_numbers_that_are_absent() {
    let nothing = Health::of(&Numbers::default());
    assert_eq!(nothing, Health::default());
    let without_statistics =
        Health::of(&Numbers { gamma: Some(vec![1.0, 5.0]), ..Numbers::default() });
    assert_eq!((without_statistics.gain, without_statistics.dead()), (Some(5.0), 0));
    // a γ of 0 everywhere, as residual branches start with, is dead everywhere; so is a statistic
    // that never moved from 0
    let zeros = Health::of(&Numbers {
        gamma: Some(vec![0.0; 3]),
        variance: Some(vec![0.0; 3]),
        epsilon: 1e-5,
        ..Numbers::default()
    });
    assert_eq!((zeros.dead_gamma.len(), zeros.dead_variance.len(), zeros.dead()), (3, 3, 3));
}
