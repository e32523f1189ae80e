//! An exchange of tables that no rank can take for another one.
//!
//! A rank sends \[what it asks for, whether it failed, how long its table is\] and, after it, as
//! much of the table as one message of [`FIRST`] numbers holds. Since that message is equally long
//! whatever a rank asks for, each sees what the others ask for. If all ask for the same and none
//! failed, the rest of a longer table follows; otherwise the ranks tell each other in words.

use std::fmt::Display;

use super::Communicator;
use crate::{error::Error, moments::Moments};

/// The numbers of the first message: 2 KB, which covers the statistics of 84 channels.
const FIRST: usize = 256;
/// The numbers before the table.
const HEADER: usize = 3;
/// The numbers of what a rank says in words, with [`BYTES`] of a text in each.
const WORDS: usize = 128;
/// The bytes that a number holds exactly.
const BYTES: usize = 6;
/// Other versions may give other bits.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The table of each rank, in the order of ranks. `request` says what the table is: all ranks must
/// ask for the same, with tables of the same length. A rank that failed gives its error instead of
/// a table, and all get one.
///
/// # Errors
/// If a rank failed (on that rank, its own error), is gone, or asks for something else.
///
/// ```
/// use cellnorm::Error;
/// use cellnorm::ranks::{Communicator, Threads, exchange};
/// let [ours, theirs] = <[Threads; 2]>::try_from(Threads::split(2)).unwrap();
/// let (a, b) = std::thread::scope(|scope| {
///     let theirs =
///         scope.spawn(move || exchange::<Error>(&theirs, "64 channels", Ok(vec![0.0; 64])));
///     (exchange::<Error>(&ours, "32 channels", Ok(vec![0.0; 32])), theirs.join().unwrap())
/// });
/// assert_eq!(a, b);
/// let text = a.unwrap_err().to_string();
/// assert!(
///     text.starts_with("the ranks do not do the same: rank 0 is at 32 channels (32 numbers")
/// );
/// assert!(text.contains("rank 1 at 64 channels (64 numbers"));
/// # Ok::<(), Error>(())
/// ```
pub fn exchange<E: From<Error> + Display>(
    over: &dyn Communicator,
    request: &str,
    own: Result<Vec<f64>, E>,
) -> Result<Vec<Vec<f64>>, E> {
    let (failed, table) = match &own {
        Ok(table) => (0.0, table.as_slice()),
        Err(_) => (1.0, &[][..]),
    };
    let (near, far) = table.split_at(table.len().min(FIRST - HEADER));
    let mut first = vec![signature(request), failed, table.len() as f64];
    first.extend_from_slice(near);
    first.resize(FIRST, 0.0);
    let gathered = over.all_gather(&first)?;
    let mut messages = gathered.chunks(FIRST);
    if !messages.all(|message| message[..HEADER] == first[..HEADER] && message[1] == 0.0) {
        return Err(explain(over, request, own, &gathered)?);
    }
    let rest = if far.is_empty() { vec![] } else { over.all_gather(far)? };
    let rank_table = |(rank, message): (usize, &[f64])| {
        [&message[HEADER..][..near.len()], &rest[rank * far.len()..][..far.len()]].concat()
    };
    Ok(gathered.chunks(FIRST).enumerate().map(rank_table).collect())
}

/// Tells the other ranks of an error that keeps this one from an exchange, and returns it.
pub fn report(over: &dyn Communicator, request: &str, error: Error) -> Error {
    exchange::<Error>(over, request, Err(error.clone())).err().unwrap_or(error)
}

/// Moments of the same sets on all ranks, merged in the order of ranks.
///
/// # Errors
/// As [`exchange`].
///
/// ```
/// use cellnorm::ranks::{Alone, merge};
/// use cellnorm::{Error, Moments};
/// let own = vec![Moments::of(&[1.0, 3.0])];
/// assert_eq!(merge::<Error>(&Alone, "one set", Ok(own.clone()))?, own);
/// # Ok::<(), Error>(())
/// ```
pub fn merge<E: From<Error> + Display>(
    over: &dyn Communicator,
    request: &str,
    own: Result<Vec<Moments>, E>,
) -> Result<Vec<Moments>, E> {
    let table = own.map(|own| own.iter().flat_map(|m| [m.count, m.mean, m.m2]).collect());
    let tables = exchange(over, request, table)?;
    let rank_table = |table: &Vec<f64>, set: usize| {
        let [count, mean, m2] = [0, 1, 2].map(|part| table[3 * set + part]);
        Moments { count, mean, m2 }
    };
    let merged = |set| {
        tables.iter().map(|table| rank_table(table, set)).fold(Moments::default(), Moments::merge)
    };
    let sets = tables.first().map_or(0, Vec::len) / 3;
    Ok((0..sets).map(merged).collect())
}

/// Bytes of each rank, in the order of ranks; each may have any number.
///
/// # Errors
/// As [`exchange`].
///
/// ```
/// use cellnorm::ranks::{Alone, exchange_bytes};
/// assert_eq!(
///     exchange_bytes::<cellnorm::Error>(&Alone, "a text", Ok(b"hello".into()))?,
///     [b"hello"]
/// );
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn exchange_bytes<E: From<Error> + Display>(
    over: &dyn Communicator,
    request: &str,
    own: Result<Vec<u8>, E>,
) -> Result<Vec<Vec<u8>>, E> {
    let (bytes, failed) = match own {
        Ok(bytes) => (bytes, None),
        Err(error) => (vec![], Some(error)),
    };
    let len = vec![bytes.len() as f64];
    let lens = exchange(over, request, failed.map_or(Ok(len), Err))?.concat();
    let lens: Vec<usize> = lens.iter().map(|len| *len as usize).collect();
    let most = lens.iter().copied().max().unwrap_or_default().div_ceil(BYTES);
    let all = over.all_gather(&words(&bytes, most))?;
    let lens = lens.iter().enumerate();
    Ok(lens.map(|(rank, len)| bytes_of(&all[rank * most..][..most], *len)).collect())
}

/// Why no table came of it, the same on all ranks but the one that failed, which has its own error.
fn explain<E: From<Error> + Display>(
    over: &dyn Communicator,
    request: &str,
    own: Result<Vec<f64>, E>,
    gathered: &[f64],
) -> Result<E, E> {
    let text = match &own {
        Ok(table) => format!("{request} ({} numbers, version {VERSION})", table.len()),
        Err(error) => error.to_string(),
    };
    let text = &text.as_bytes()[..text.floor_char_boundary(WORDS * BYTES)];
    let texts = over.all_gather(&words(text, WORDS))?;
    let rank_table = |words: &[f64]| {
        let bytes = bytes_of(words, WORDS * BYTES);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let texts: Vec<String> = texts.chunks(WORDS).map(rank_table).collect();
    if let Err(error) = own {
        return Ok(error);
    }
    if let Some(rank) = gathered.chunks(FIRST).position(|message| message[1] != 0.0) {
        return Ok(Error::RankFailed { rank, problem: texts[rank].clone() }.into());
    }
    let rank = (1..texts.len()).find(|rank| texts[*rank] != texts[0]).unwrap_or_default();
    Ok(Error::RanksDiffer { rank, first: texts[0].clone(), other: texts[rank].clone() }.into())
}

/// A number that tells requests apart: 52 bits of FNV-1a.
fn signature(request: &str) -> f64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = VERSION.bytes().chain(request.bytes()).fold(0xcbf2_9ce4_8422_2325, mix);
    (hash >> 12) as f64
}

/// Bytes as so many whole numbers, which come through unchanged; zeros after their end.
fn words(bytes: &[u8], count: usize) -> Vec<f64> {
    let number = |word: &[u8]| {
        (0..BYTES).fold(0.0, |number, i| {
            number * 256.0 + word.get(i).map_or(0.0, |byte| f64::from(*byte))
        })
    };
    let mut words: Vec<f64> = bytes.chunks(BYTES).map(number).collect();
    words.resize(count, 0.0);
    words
}

fn bytes_of(words: &[f64], len: usize) -> Vec<u8> {
    let bytes = words.iter().map(|word| (*word as u64).to_be_bytes());
    bytes.flat_map(|word| word.into_iter().skip(8 - BYTES)).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_through() {
        for len in 0..20 {
            let bytes: Vec<u8> = (0..len).map(|i| (255 - 13 * i) as u8).collect();
            assert_eq!(bytes_of(&words(&bytes, 5), len), bytes);
        }
    }

    #[test]
    fn requests_differ() {
        assert_ne!(signature("forward, 64 channels"), signature("forward, 65 channels"));
    }
}
