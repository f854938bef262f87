//! What must hold of an exchange whatever a server sends: fuzzed by
//! `fuzz/fuzz_targets/exchange.rs`, and held here over what was found.

use fanout_proto::{
    completion::Outcome,
    limits::HEADER_MAX_BYTES,
    setup::{HttpSettings, Method},
};

use crate::exchange::fetch::{DRAIN_MAX_BYTES, ExchangeProgress, FetchPlan, FetchState};

/// A limit that small inputs reach, too.
const SMALL_BODY_BYTES: u64 = 1000;
/// What a server's bytes may make an exchange hold on to: a head that is not
/// whole yet, in a buffer that grows by doubling.
const HELD_MAX_BYTES: usize = 2 * (HEADER_MAX_BYTES + 64 * 1024);
/// Above this, byte by byte would take too long.
const SINGLY_MAX_BYTES: usize = 8 * 1024;

/// What became of a response.
#[derive(Debug, PartialEq, Eq)]
struct ExchangeVerdict {
    outcome: Outcome,
    status: Option<u16>,
    /// Bytes of the body, where a failure does not end it at a piece's edge.
    bytes: Option<u64>,
    /// Where a redirect leads.
    leads_to: Option<String>,
}

/// Bytes of a response in a few ways: `input` is what kind of request they
/// answer, three lengths of pieces, and the bytes.
///
/// # Panics
///
/// If anything does not hold.
pub(crate) fn exchange(input: &[u8]) {
    let Some((&[kind, pieces @ ..], bytes)) = input.split_first_chunk::<4>() else {
        return;
    };
    let has = |bit: u8| kind >> bit & 1 == 1;
    let http = HttpSettings {
        method: if has(0) { Method::Head } else { Method::Get },
        no_keepalive: has(1),
        decompress: has(2),
        redirects: if has(3) { 10 } else { 0 },
        max_body_bytes: if has(4) { SMALL_BODY_BYTES } else { 1 << 30 },
        ..HttpSettings::default()
    };
    let plan = FetchPlan::new(&http).expect("no header is given");
    let limit = http.max_body_bytes;

    let whole = verdict(&plan, limit, &mut std::iter::once(bytes));
    assert_eq!(verdict(&plan, limit, &mut Pieces::new(bytes, pieces)), whole);
    if bytes.len() <= SINGLY_MAX_BYTES {
        assert_eq!(verdict(&plan, limit, &mut bytes.chunks(1)), whole);
    }
}

/// Pieces of three lengths in turn.
struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: std::iter::Cycle<std::array::IntoIter<u8, 3>>,
}

impl<'a> Pieces<'a> {
    fn new(bytes: &'a [u8], lengths: [u8; 3]) -> Self {
        Self { bytes, lengths: lengths.into_iter().cycle() }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let length = usize::from(self.lengths.next()?) + 1;
        let (piece, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        Some(piece)
    }
}

fn verdict(
    plan: &FetchPlan,
    limit: u64,
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> ExchangeVerdict {
    let mut fetch = FetchState::new(plan);
    fetch.start(b"http://a.test/b").expect("a good URL");
    fetch.request(plan, &mut Vec::new());
    let mut longest_piece = 0;
    let result = loop {
        let Some(piece) = pieces.next() else {
            break fetch.end(plan);
        };
        longest_piece = longest_piece.max(piece.len());
        match fetch.receive(plan, piece) {
            Ok(ExchangeProgress::More) => {}
            Ok(ExchangeProgress::Over { .. }) => break Ok(()),
            Err(failure) => break Err(failure),
        }
        assert!(fetch.response.held_bytes() <= HELD_MAX_BYTES.max(2 * piece.len()));
    };
    let drained = DRAIN_MAX_BYTES + longest_piece as u64;
    assert!(fetch.body_bytes() <= limit.max(drained));
    let mut leads_to = None;
    let result = result.and_then(|()| {
        if fetch.follow(plan)? {
            leads_to = Some(fetch.target().as_str().to_owned());
        } else {
            assert!(fetch.body_bytes() <= limit);
        }
        Ok(())
    });
    let outcome = match &result {
        Ok(()) => Outcome::Ok,
        // A body can be both too large and broken further on: which of the two
        // a decoder meets first depends on how much it is given at once.
        Err(failure) if failure.outcome == Outcome::Decode => Outcome::TooLarge,
        Err(failure) => failure.outcome,
    };
    assert!(result.is_ok() || !result.is_err_and(|failure| failure.detail.is_empty()));
    assert!(outcome != Outcome::Ok || fetch.status.is_some());
    ExchangeVerdict {
        outcome,
        status: fetch.status,
        // How much of a redirect's body is read depends on the pieces.
        bytes: (matches!(outcome, Outcome::Ok | Outcome::Closed) && leads_to.is_none())
            .then(|| fetch.body_bytes()),
        leads_to,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::exchange::tests::hyper_differential;

    #[test]
    fn it_holds_over_the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/exchange");
        let mut inputs = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            exchange(&fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 10, "{inputs}");
    }

    #[test]
    fn it_holds_over_tricky_responses_in_any_pieces() {
        for (_, bytes) in hyper_differential::cases() {
            // Plain, HEAD, decompressed, redirected, limited.
            for kind in [0, 1, 4, 8, 16] {
                exchange(&[&[kind, 0, 6, 40], &bytes[..]].concat());
            }
        }
    }
}
