//! What the first file says of all: grey or colour, and the layout of its samples.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::files::{File, Kind, Listing};
use crate::settings::{Alpha, Colour, Settings};
use crate::source::{Block, open};

/// What `of` says of the first block that it says something of, file by file.
pub fn first<'f, T>(
    files: impl Iterator<Item = &'f File>,
    settings: &Settings,
    of: impl Fn(&Block) -> Option<T>,
) -> Option<T> {
    files.into_iter().find_map(|file| {
        let source = open(file, settings).ok()?;
        let part = source.parts().first()?.clone();
        let mut found = None;
        // refusing a block ends the reading; what else goes wrong is told when it is the file's
        // turn
        let mut give = |_, block: &Block| {
            found = of(block);
            Err("enough".into())
        };
        let _ = catch_unwind(AssertUnwindSafe(|| source.read(&part, &mut give)));
        found
    })
}

/// Grey or colour, as the first image that can be read has it.
pub fn first_colour(listing: &Listing, settings: &Settings) -> Colour {
    let as_it_is = Settings { alpha: Alpha::Ignore, resize: None, crop: None, ..settings.clone() };
    let files =
        listing.files.iter().filter(|file| matches!(file.kind, Kind::Image | Kind::Parquet));
    let colour = first(files, &as_it_is, |block| match (block.channel_axis, block.shape.last()) {
        (Some(2), Some(1)) => Some(Colour::Grey),
        (Some(2), Some(_)) => Some(Colour::Rgb),
        _ => None,
    });
    colour.unwrap_or(Colour::First)
}
