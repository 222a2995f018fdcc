//! The kernel's BTF: whatever the blob, parsing ends, and what is found in it is in it.

use monitor::kernel::btf::{Btf, BtfError};
use monitor::kernel::hook::{Hook, Place};
use monitor::kernel::offsets::{NUMBERS, Number};

pub fn holds(data: &[u8]) {
    let btf = match Btf::parse(data.to_vec().into()) {
        Ok(btf) => btf,
        Err(error) => return assert!(matches!(error, BtfError::Malformed(_)), "{error}"),
    };
    for (_, _, number) in NUMBERS {
        // What it is made of; of the counters' two layouts one, which is not said.
        let (paths, closed) = match number {
            Number::Enumerator(path) | Number::Offset(path) | Number::Arguments(path) => (vec![path], true),
            Number::Element(array, index) => (vec![array, index], true),
            Number::Rss(member) => (vec![member], false),
        };
        match number.resolve(&btf) {
            Ok(_) => {
                for path in paths {
                    assert!(path.split('.').all(|name| contains(data, name)), "{path} is not in there");
                }
            }
            Err(BtfError::NoSuch(named)) => {
                assert!(!closed || paths.contains(&named.as_str()), "{named} was not asked for");
            }
            Err(error) => assert!(matches!(error, BtfError::Malformed(_)), "{error}"),
        }
    }
    for place in Hook::ALL.map(Hook::place) {
        if btf.has(place) {
            let prefix = if matches!(place, Place::Tracepoint(_)) { "btf_trace_" } else { "" };
            assert!(contains(data, &format!("{prefix}{}", place.name())), "{place:?} is not in there");
        }
    }
}

fn contains(data: &[u8], name: &str) -> bool {
    data.windows(name.len()).any(|window| window == name.as_bytes())
}
