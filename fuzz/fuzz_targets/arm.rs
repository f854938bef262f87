//! The arm grammar: any text is arms or an error; what comes out is bounded, and
//! an arm's name parses to the arm.
#![no_main]

use std::num::NonZeroU32;

use fanout_proto::arm::Arm;
use libfuzzer_sys::fuzz_target;

const C: NonZeroU32 = NonZeroU32::new(32).unwrap();

fuzz_target!(|spec: &str| {
    match Arm::parse_sweep(spec, C) {
        Ok(arms) => {
            assert!((1..=256).contains(&arms.len()));
            for arm in &arms {
                assert_eq!(Arm::parse(&arm.to_string(), C).as_ref(), Ok(arm));
                assert_eq!(Arm::parse_sweep(&arm.to_string(), C), Ok(vec![*arm]));
                assert!(arm.in_flight() > 0);
            }
            let distinct = Arm::parse_all(&[spec, spec], C).expect("it just parsed");
            assert!(distinct.len() <= arms.len());
        }
        // It repeats the spec, and a bounded rest.
        Err(error) => assert!(error.to_string().len() <= 8 * spec.len() + 512, "{error}"),
    }
});
