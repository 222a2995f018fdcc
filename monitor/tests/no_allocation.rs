//! A reading allocates nothing: the agent takes it on a machine that is out of memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use monitor::memory::{DomainReader, Hierarchy, Roots};

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract; counting
// touches a constant-initialized thread-local without a destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System`, by `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut work: impl FnMut()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn a_reading_allocates_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0, "the counter counts");
    for tree in ["v1", "v2", "hybrid"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(tree);
        let roots = Roots { procfs: fixture.join("proc"), cgroupfs: fixture.join("cgroup") };
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs).unwrap();
        for count_swap in [false, true] {
            let mut node = DomainReader::node(&roots, Some(&hierarchy), count_swap).unwrap();
            let path = "/box".parse().unwrap();
            let mut cgroup = DomainReader::cgroup(&roots, &hierarchy, &path, count_swap).unwrap();
            for reader in [&mut node, &mut cgroup] {
                assert_eq!(allocations(|| assert!(reader.read().is_ok())), 0, "{tree}, swap {count_swap}");
            }
            let path = "/box/inner".parse().unwrap();
            let mut unlimited = DomainReader::cgroup(&roots, &hierarchy, &path, count_swap).unwrap();
            assert_eq!(allocations(|| assert!(unlimited.read().is_ok())), 0, "{tree}, swap {count_swap}");
        }
        // A procfs without meminfo: to be unknown is no excuse either.
        let mut unknown =
            DomainReader::node(&Roots { procfs: fixture.join("cgroup"), ..roots }, None, false).unwrap();
        assert_eq!(allocations(|| assert!(unknown.read().is_err())), 0, "{tree}: unknown");
    }
}
