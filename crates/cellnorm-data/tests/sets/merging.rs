//! Threads, shards and interruptions change no bit.

use cellnorm_data::scan::Plan;
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;

use crate::common::{fixture, listing, measure, read};

const SETS: [&str; 4] = ["grey", "grey.npy", "features.npy", "first.npy"];

#[test]
fn any_number_of_threads_and_shards_in_any_order_gives_the_same_bits() {
    for set in SETS {
        let plan = Plan::new(listing(fixture(set)), Settings::default(), None).unwrap();
        let whole = read(&plan, plan.start(), 1, None).unwrap();
        for threads in [2, 3, 4] {
            assert_eq!(
                read(&plan, plan.start(), threads, None).unwrap(),
                whole,
                "{set} on {threads} threads"
            );
        }
        for shards in [1, 2, 7] {
            let part =
                |number| read(&plan, plan.start(), 2, Some(plan.shard(number, shards))).unwrap();
            let parts: Vec<Statistics> = (1..=shards).map(part).collect();
            for turn in 0..shards as usize {
                let mut order: Vec<&Statistics> =
                    parts.iter().cycle().skip(turn).take(parts.len()).collect();
                order.reverse();
                let mut all = order[0].clone();
                for other in &order[1..] {
                    // as it comes back from a file
                    all.merge(Statistics::parse(other.to_text().as_bytes()).unwrap()).unwrap();
                }
                assert_eq!(all, whole, "{set} in {shards} shards");
                assert_eq!(all.to_text(), whole.to_text());
            }
        }
    }
}

#[test]
fn an_interrupted_reading_goes_on_to_the_same_bits() {
    for set in SETS {
        let plan = Plan::new(listing(fixture(set)), Settings::default(), None).unwrap();
        let whole = read(&plan, plan.start(), 2, None).unwrap();
        for stop in 0..plan.parts() {
            let some = read(&plan, plan.start(), 1, Some(0..stop)).unwrap();
            let again = Statistics::parse(some.to_text().as_bytes()).unwrap();
            assert_eq!(again, some, "a file holds everything");
            assert_eq!(read(&plan, again, 3, None).unwrap(), whole, "{set} from {stop} on");
        }
    }
}

#[test]
fn what_could_not_be_read_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let png = std::fs::read(fixture("grey/00.png")).unwrap();
    std::fs::write(folder.path().join("a.png"), &png).unwrap();
    std::fs::write(folder.path().join("b.png"), vec![0; png.len()]).unwrap();
    let plan = |folder: &std::path::Path| {
        Plan::new(listing(folder.to_owned()), Settings::default(), None).unwrap()
    };
    let before = plan(folder.path());
    let damaged = read(&before, before.start(), 1, None).unwrap();
    assert_eq!((damaged.failures.len(), damaged.is_complete()), (1, true));
    assert_eq!(read(&before, damaged.clone(), 2, None).unwrap(), damaged);
    // of the same name and size, and whole now
    std::fs::write(folder.path().join("b.png"), &png).unwrap();
    let after = plan(folder.path());
    let whole = read(&after, after.start(), 1, None).unwrap();
    assert_eq!(read(&after, damaged, 1, None).unwrap(), whole);
    assert!(whole.failures.is_empty());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let grey = measure(fixture("grey.npy"), Settings::default());
    let message = |mut a: Statistics, b: Statistics| a.merge(b).unwrap_err().to_string();
    assert!(
        message(grey.clone(), grey.clone()).contains("the part with index 0 is in both"),
        "{}",
        message(grey.clone(), grey.clone())
    );
    let other = measure(fixture("features.npy"), Settings::default());
    assert!(message(grey.clone(), other).contains("the data sets differ"));
    let resized =
        measure(fixture("grey.npy"), Settings { ignore: Some(3.0), ..Settings::default() });
    assert!(message(grey, resized).contains("the settings differ"));
}

#[test]
fn a_file_that_was_changed_is_refused() {
    let text = measure(fixture("grey.npy"), Settings::default()).to_text();
    let parse = |text: &str| Statistics::parse(text.as_bytes()).unwrap_err();
    assert!(parse(&text.replace("\"parts\":1", "\"parts\":2")).contains("was changed"));
    assert!(
        parse(&text.replace("\"cellnorm_statistics\":1", "\"cellnorm_statistics\":9"))
            .contains("version 9")
    );
    assert!(parse(&text[..text.len() / 2]).contains("no file of statistics"));
}
