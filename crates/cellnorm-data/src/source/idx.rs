//! IDX: two zeros, the type, the number of axes, their lengths, then the numbers, all with the
//! large end first.

use std::io::Read;

use super::array::Header;
use super::numbers::Stored;

/// Reads a header, and no byte after it.
pub fn header(from: &mut dyn Read) -> Result<Header, String> {
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
    let lengths = (0..axes).map(|_| Ok(u64::from(u32::from_be_bytes(word()?))));
    let shape = lengths.collect::<Result<_, String>>()?;
    Ok(Header { stored, big_endian: true, shape })
}
