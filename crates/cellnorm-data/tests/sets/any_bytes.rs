//! Any bytes as files, for the test of damage and for the fuzz targets: an error or data, never a
//! panic, and nothing endless.

use cellnorm_data::files::Format;
use cellnorm_data::source::from_bytes;
use cellnorm_data::state::Statistics;

/// As a file of statistics; one that is taken says the same again.
pub fn as_statistics(bytes: &[u8]) {
    if let Ok(statistics) = Statistics::parse(bytes) {
        let text = statistics.to_text();
        assert_eq!(Statistics::parse(text.as_bytes()).as_ref(), Ok(&statistics));
    }
}

/// As an array: every sample is read, and none more than the bytes hold.
pub fn as_array(format: Format, bytes: &[u8]) {
    let Ok(source) = from_bytes(format, bytes.to_vec()) else { return };
    let mut values = 0;
    for part in source.parts() {
        let read = source.read(&part, &mut |_, block| {
            values += block.numbers.len();
            Ok(())
        });
        assert_eq!(read, Ok(()), "what the header announces is there");
    }
    assert!(values <= bytes.len());
}
