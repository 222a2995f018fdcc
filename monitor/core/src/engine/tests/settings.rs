//! Settings that change while the engine runs.

use super::*;

#[test]
fn settings_that_change_change_the_order_and_the_threshold_at_once() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 90)), NOBODY);
    let policy = crate::policy::PolicyName::RetriableFifo;
    let settings = Settings { usage_threshold: 0.5, policy, ..Settings::default() };
    assert_eq!(reads(&bench.happen(Event::Settings(settings))), [0, 1, 2], "everything is read anew");
    assert_eq!(killed(&bench.reading(BOX, 90)), [1], "the oldest first");
    assert_eq!(bench.engine.workers().len(), 2, "nobody is forgotten");
}
