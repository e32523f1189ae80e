//! Sequences of many lengths: JapaneseVowels, which comes with the program (see `data/README.md`).

use std::io::{self, Read};

use burn::tensor::{Device, Tensor, TensorData};
use flate2::read::GzDecoder;

use super::{Batch, Dataset, Samples};
use crate::input::InputError;

/// Values of a time step.
pub const CHANNELS: usize = 12;

/// The number of speakers.
pub const CLASSES: usize = 9;

/// Steps of the longest sequence to train on.
pub const LONGEST_TRAINED: usize = 26;

const NAME: &str = "JapaneseVowels";

const SOURCE: &str = "M. Kudo, J. Toyama, M. Shimbo, \"Multidimensional curve classification \
                      using passing-through regions\", 1999, UCI Machine Learning Repository, CC \
                      BY 4.0";

pub struct Sequences {
    /// Sequence after sequence, step after step, 12 values a step.
    values: Vec<f32>,
    /// The first step of each sequence, among the steps of all; then the number of all steps.
    starts: Vec<usize>,
    /// One class a sequence.
    labels: Vec<u8>,
}

/// Sequences as the network takes them: the longest first, without padding.
pub struct Packed {
    /// `[steps, 12]`: the first step of all sequences, the second of those that have one, ….
    pub x: Tensor<2>,
    /// How many sequences have the first step, the second, and so on.
    pub counts: Vec<usize>,
}

impl Dataset<Sequences> {
    pub fn embedded() -> Result<Self, InputError> {
        let read =
            |name: &str, bytes: &[u8]| parse(GzDecoder::new(bytes)).map_err(InputError::read(name));
        let train = include_bytes!("../../data/japanese-vowels-train.gz");
        let test = include_bytes!("../../data/japanese-vowels-test.gz");
        let train = read("japanese-vowels-train.gz", train)?;
        let test = read("japanese-vowels-test.gz", test)?;
        Ok(Self::new(NAME.to_owned(), Some(SOURCE), train, test))
    }
}

/// Reads the output of `data/make_sequences.py`: count (u16), classes (u8), lengths (u8), values
/// (f32), little-endian.
fn parse(mut file: impl Read) -> io::Result<Sequences> {
    let mut count = [0; 2];
    file.read_exact(&mut count)?;
    let mut labels = vec![0; u16::from_le_bytes(count).into()];
    file.read_exact(&mut labels)?;
    let mut lengths = vec![0; labels.len()];
    file.read_exact(&mut lengths)?;
    let mut starts = vec![0];
    starts.extend(lengths.iter().scan(0, |end, &length| {
        *end += usize::from(length);
        Some(*end)
    }));
    let mut bytes = vec![0; starts[labels.len()] * CHANNELS * 4];
    file.read_exact(&mut bytes)?;
    let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(Sequences { values, starts, labels })
}

impl Sequences {
    fn steps(&self, i: usize) -> usize {
        self.starts[i + 1] - self.starts[i]
    }
}

impl Samples for Sequences {
    type Input = Packed;

    const NOUN: &'static str = "sequences";
    const CLASSES: usize = CLASSES;
    const CHANNELS: usize = CHANNELS;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The longest first; equally long ones in the order of `indices`.
    fn batch(&self, indices: &[usize], device: &Device) -> Batch<Packed> {
        let mut indices = indices.to_vec();
        indices.sort_by_key(|&i| std::cmp::Reverse(self.steps(i)));
        let longest = indices.first().map_or(0, |&i| self.steps(i));
        let mut values = Vec::new();
        let mut counts = Vec::new();
        for t in 0..longest {
            let having = indices.partition_point(|&i| self.steps(i) > t);
            for &i in &indices[..having] {
                let first = (self.starts[i] + t) * CHANNELS;
                values.extend_from_slice(&self.values[first..first + CHANNELS]);
            }
            counts.push(having);
        }
        let labels: Vec<i64> = indices.iter().map(|&i| self.labels[i].into()).collect();
        let steps = counts.iter().sum();
        Batch {
            x: Packed {
                x: Tensor::from_data(TensorData::new(values, [steps, CHANNELS]), device),
                counts,
            },
            labels: Tensor::from_data(TensorData::new(labels, [indices.len()]), device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_sequences_are_those_of_the_archive() {
        let data = Dataset::embedded().unwrap();
        // The counts and lengths that the archive's page tells, and numbers from the beginning of
        // both files.
        let train = ([30; 9], 20, LONGEST_TRAINED);
        let train_values = ([1.860936, -0.207383, 0.261557], [1.891651, -0.193249]);
        let test = ([31, 35, 88, 44, 29, 24, 40, 50, 29], 19, 29);
        let test_values = ([1.635533, 0.024848, 0.432087], [1.547694, 0.008754]);
        for (split, (speakers, steps, longest), (first, second)) in
            [(&data.train, train, train_values), (&data.test, test, test_values)]
        {
            let mut counts = [0; CLASSES];
            for &label in &split.labels {
                counts[usize::from(label)] += 1;
            }
            assert_eq!(counts, speakers);
            assert_eq!(split.steps(0), steps);
            let lengths = (0..split.len()).map(|i| split.steps(i));
            assert_eq!((lengths.clone().min(), lengths.max()), (Some(7), Some(longest)));
            assert_eq!(split.values[..3], first);
            assert_eq!(split.values[CHANNELS..CHANNELS + 2], second);
            assert_eq!(split.values.len(), split.starts[split.len()] * CHANNELS);
            assert!(split.values.iter().all(|value| value.abs() < 3.0));
        }
    }

    #[test]
    fn a_file_cut_off_is_an_error() {
        let whole = [&[1, 0, 8, 1][..], &[0; 48]].concat();
        assert_eq!(parse(&whole[..]).unwrap().labels, [8]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }

    /// A sequence of each length; each value is ten times the number of the sequence, and the step.
    fn few(lengths: &[usize]) -> Sequences {
        let steps = lengths
            .iter()
            .enumerate()
            .flat_map(|(i, &length)| (0..length).map(move |t| 10 * i + t));
        let mut starts = vec![0];
        starts.extend((1..=lengths.len()).map(|i| lengths[..i].iter().sum::<usize>()));
        Sequences {
            values: steps.flat_map(|step| [step as f32; CHANNELS]).collect(),
            starts,
            labels: (0..lengths.len() as u8).collect(),
        }
    }

    #[test]
    fn a_batch_holds_the_steps_of_the_longest_first() {
        let batch = few(&[1, 3, 2, 3]).batch(&[0, 3, 2, 1], &Device::flex());
        assert_eq!(batch.labels.try_into_vec_as::<i64>().unwrap(), [3, 1, 2, 0]);
        assert_eq!(batch.x.counts, [4, 3, 2]);
        let x = batch.x.x.try_into_vec_as::<f32>().unwrap();
        let first_channel: Vec<f32> = x.iter().step_by(CHANNELS).copied().collect();
        assert_eq!(first_channel, [30.0, 10.0, 20.0, 0.0, 31.0, 11.0, 21.0, 32.0, 12.0]);
    }
}
