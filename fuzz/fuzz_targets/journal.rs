//! Any bytes as the journal and as the part of a fetch that was cut off: what is good of a part is
//! good by itself, every URL is in it once at most, and whoever was promised more is told.
#![no_main]

use fanout_coordinator::results::{Form, read_journal, recover};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    // Never read without a checksum that fits; what comes of it is bounded.
    let _ = read_journal(bytes);

    let form = match choice & 1 {
        0 => Form::Jsonl,
        _ => Form::Csv,
    };
    let urls = u64::from(choice >> 1);
    let whole = recover(bytes, form, urls, 0).expect("nothing was promised");
    let length = usize::try_from(whole.length).expect("it is in memory");
    let good = &bytes[..length];
    let counts = &whole.counts;
    assert_eq!(counts.completed + counts.failed + counts.abandoned, whole.done.len());
    assert!(whole.done.len() <= urls);
    let again = recover(good, form, urls, whole.length).expect("all that was promised");
    assert_eq!((again.length, &again.done), (whole.length, &whole.done));
    assert!(recover(bytes, form, urls, whole.length + 1).is_err());
});
