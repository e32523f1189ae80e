//! IDX: two zeros, the type, the number of axes, their lengths, then the numbers, all with the
//! large end first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Source;
use super::array::{Array, Bytes, whole};
use super::numbers::Stored;

/// Opens an IDX file, which may be compressed with gzip.
pub fn open(path: &Path) -> Result<Box<dyn Source>, String> {
    let text = |error: std::io::Error| error.to_string();
    if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz")) {
        return of_bytes(whole(path)?);
    }
    let mut file = File::open(path).map_err(text)?;
    let (stored, shape, start) = header(&mut file)?;
    Ok(Box::new(Array::new(Bytes::File(file, start as u64), stored, true, &shape)?))
}

/// The array that the bytes of a file are.
pub fn of_bytes(mut bytes: Vec<u8>) -> Result<Box<dyn Source>, String> {
    let (stored, shape, start) = header(&mut bytes.as_slice())?;
    bytes.drain(..start);
    Ok(Box::new(Array::new(Bytes::Memory(bytes), stored, true, &shape)?))
}

/// The type, the lengths of the axes, and how many bytes the header has.
fn header(from: &mut impl Read) -> Result<(Stored, Vec<u64>, usize), String> {
    let mut word = || {
        let mut word = [0; 4];
        from.read_exact(&mut word).map_err(|_| "its header is cut off".to_owned())?;
        Ok::<_, String>(word)
    };
    let [zero, also, stored, axes] = word()?;
    if [zero, also] != [0, 0] {
        return Err("it is no IDX file: that begins with two zeros".into());
    }
    let stored = match stored {
        0x08 => Stored::U8,
        0x09 => Stored::I8,
        0x0b => Stored::I16,
        0x0c => Stored::I32,
        0x0d => Stored::F32,
        0x0e => Stored::F64,
        other => {
            return Err(format!(
                "it is no IDX file: its third byte is {other:#04x}, which is no type of IDX"
            ));
        }
    };
    let shape = (0..axes)
        .map(|_| Ok(u64::from(u32::from_be_bytes(word()?))))
        .collect::<Result<Vec<_>, String>>()?;
    Ok((stored, shape, 4 + 4 * usize::from(axes)))
}
