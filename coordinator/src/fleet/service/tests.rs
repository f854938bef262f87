use super::*;

#[test]
fn heartbeats_may_be_late_together_but_not_without_end() {
    let began = Instant::now();
    let mut allowance = Allowance::new(began);
    let burst = (0..100).take_while(|_| allowance.take(began)).count();
    assert_eq!(burst, 16);
    let mut allowance = Allowance::new(began);
    for beat in 0..10_000 {
        assert!(allowance.take(began + HEARTBEAT_INTERVAL * beat));
    }
    // Twice as often as asked for is still borne.
    let mut allowance = Allowance::new(began);
    for beat in 0..10_000 {
        assert!(allowance.take(began + HEARTBEAT_INTERVAL / 2 * beat));
    }
}
