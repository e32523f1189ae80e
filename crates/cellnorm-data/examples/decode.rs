//! Decodes the images of folders and does nothing with them: what reading a data set costs at
//! least.
//!
//! `cargo run --release -p cellnorm-data --example decode -- DIR`

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use cellnorm_data::files::list;
use cellnorm_data::settings::Settings;
use cellnorm_data::source::open;

fn main() -> Result<(), cellnorm_data::Error> {
    let roots: Vec<_> = std::env::args_os().skip(1).map(Into::into).collect();
    let listing = list(&roots)?;
    let (next, values) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        while let Some(file) = listing.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let decoded = open(file, &Settings::default())
                .map_err(|error| error.to_string())
                .and_then(|source| {
                    source.read(&(0..1), &mut |_, block| {
                        values.fetch_add(block.numbers.len() as u64, Ordering::Relaxed);
                        Ok(())
                    })
                });
            if let Err(problem) = decoded {
                eprintln!("{}: {problem}", file.name);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    println!("{} values of {} files", values.into_inner(), listing.files.len());
    Ok(())
}
