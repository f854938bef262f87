//! Any bytes as a URL list: every line that is neither blank nor a comment
//! becomes exactly one id, or an error with its line number.
#![no_main]

use std::io::Write;

use fanout_coordinator::url_list::{ListError, Source, UrlList};
use fanout_proto::{id::UrlId, limits::URL_MAX_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    let repeat = u64::from(choice >> 1 & 3) + 1;
    let skip = choice & 1 == 1;
    let (good, bad) = expected(text);

    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("room for it");
    let opened = UrlList::open(&Source::File(file.path().into()), repeat, skip);
    match opened {
        Ok(list) => {
            assert!(skip || bad.is_empty());
            assert_eq!(list.skipped_lines(), bad.len() as u64);
            assert_eq!(list.len(), good.len() as u64 * repeat);
            let mut cursor = list.cursor(UrlId(0)).expect("it holds URLs");
            for id in 0..list.len() {
                let index = usize::try_from(id).expect("small") % good.len();
                let read = cursor.read(|at, url| {
                    assert_eq!((at, url), (UrlId(id), good[index]));
                });
                read.expect("the file did not change");
            }
            let last = UrlId(list.len() - 1);
            let looked_up = list.look_up([last], |at, url| {
                assert_eq!((at, url), (last, good[good.len() - 1]));
            });
            looked_up.expect("the file did not change");
        }
        Err(ListError::Lines { count, .. }) => {
            assert!(!skip && !bad.is_empty());
            assert_eq!(count, bad.len() as u64);
            let said = opened.expect_err("as matched").to_string();
            for number in bad.iter().take(5) {
                assert!(said.contains(&format!("\n  line {number}: ")), "{said}");
            }
        }
        Err(ListError::Empty(_)) => assert!(good.is_empty() && (skip || bad.is_empty())),
        Err(other) => panic!("{other}"),
    }
});

/// The URLs, and the numbers of the lines that are none.
fn expected(text: &[u8]) -> (Vec<&[u8]>, Vec<u64>) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if is_url(line) { good.push(line) } else { bad.push(number) }
    }
    (good, bad)
}

fn is_url(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else {
        return false;
    };
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    plain
        && text.len() <= URL_MAX_BYTES
        && url::Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.port() != Some(0))
}
