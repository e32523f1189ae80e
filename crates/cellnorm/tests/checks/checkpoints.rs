//! Checkpoints that say something impossible are refused by name.

use cellnorm::state::{DType, Known, State, Tensor, Tensors};
use cellnorm::{BatchNormConfig, Error, Normalization, Semantics};
use ndarray::{ArrayD, array};

fn batch(name: &str) -> Semantics {
    Semantics::preset(name, Normalization::Batch).unwrap()
}

fn message<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// A number of steps is a whole number; beyond u64 the next training step would overflow.
#[test]
fn steps_that_cannot_be() -> Result<(), Error> {
    let torch = batch("pytorch-2");
    let mut tensors = Tensors::new();
    BatchNormConfig::new(2).init()?.state().put(&mut tensors, "bn.", &torch, DType::F32)?;
    let mut with = |values: ArrayD<f64>| {
        tensors.insert("bn.num_batches_tracked".into(), Tensor::new(values, DType::F64));
        State::find(&tensors, "bn.", &torch)
    };
    for steps in [-1.0, 1.5, 1e300, f64::NAN] {
        let expected = format!(
            "bn.num_batches_tracked holds {steps}; it must be one whole number of steps up to 2^53"
        );
        assert_eq!(message(with(array![steps].into_dyn())), expected);
    }
    assert_eq!(with(array![3.0].into_dyn())?.steps, Some(3));
    assert!(
        message(with(array![3.0, 4.0].into_dyn()))
            .ends_with("it must be one whole number of steps up to 2^53")
    );
    Ok(())
}

/// A statistic has a variance from two values on; between 1 and 1 + ε the legacy rule would turn it
/// negative.
#[test]
fn a_batch_of_less_than_two_values() {
    let legacy = batch("keras-2.3");
    let state = State { variance: Some(array![1.0].into_dyn()), ..State::default() };
    let with = |values| {
        state.to(
            &legacy,
            &batch("keras-3"),
            &Known { values: Some(values), channels: Some(1), groups: None },
        )
    };
    assert_eq!(message(with(1.0005)), "values is 1.0005; it must be finite and at least 2");
    assert!(with(2.0).is_ok());
}

#[cfg(feature = "files")]
mod files {
    use super::*;
    use cellnorm::state::{read, write};
    use std::path::PathBuf;

    /// A path for this test alone.
    fn scratch(name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("checkpoints");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    /// Writers of one file do not share what they write beside it: each write succeeds, and the
    /// last one stands whole.
    #[test]
    fn two_writers_of_one_file() {
        let path = scratch("shared.npz");
        let of = |value: f64, length: usize| -> Tensors {
            [("a".into(), Tensor::new(ArrayD::from_elem(&[length][..], value), DType::F64))].into()
        };
        let all = [of(1.0, 100_000), of(2.0, 100), of(3.0, 30_000)];
        for _ in 0..10 {
            std::thread::scope(|threads| {
                for tensors in &all {
                    let path = &path;
                    threads.spawn(move || write(path, tensors).unwrap());
                }
            });
            let read = read(&path).unwrap();
            assert!(all.contains(&read));
        }
    }

    /// A safetensors file of one tensor of I64.
    fn whole(value: i64) -> Vec<u8> {
        let header = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &value.to_le_bytes()].concat()
    }

    /// 2^53 + 1 is the first whole number that f64 would round.
    #[test]
    fn whole_numbers_that_f64_would_round() -> Result<(), Error> {
        let path = scratch("whole.safetensors");
        let last = 1_i64 << 53;
        for value in [last, -last] {
            std::fs::write(&path, whole(value)).unwrap();
            assert_eq!(read(&path)?["a"].values[[0]], value as f64);
        }
        for value in [last + 1, -last - 1, i64::MIN] {
            std::fs::write(&path, whole(value)).unwrap();
            assert!(
                message(read(&path)).contains("beyond the whole numbers up to 2^53 that f64 holds"),
                "{value}"
            );
        }
        Ok(())
    }
}
