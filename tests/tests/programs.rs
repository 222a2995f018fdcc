//! The kernel programs on the running kernel: they load, they attach.

use monitor::kernel::numbers::Hook;
use monitor::kernel::programs::Programs;

#[test]
fn every_program_loads_and_attaches() {
    let mut programs = Programs::load().unwrap_or_else(|probes| panic!("nothing loads: {probes:#?}"));
    programs.attach(Hook::Usage);
    for hook in Hook::ALL {
        assert!(programs.attached(hook), "{:#?}", programs.probes());
    }
}
