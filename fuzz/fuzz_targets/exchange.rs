//! Bytes of a response to several kinds of request, cut anywhere: a verdict or an error, the same
//! however they are cut, with little held and no more of a body counted than is allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fanout_fetcher::fuzzing::exchange(input));
