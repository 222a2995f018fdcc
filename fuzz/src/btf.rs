//! The kernel's BTF: whatever the blob, parsing ends, and what is found in it is in it.

use monitor::kernel::btf::{Btf, BtfError};
use monitor::kernel::numbers::{Hook, NUMBERS, Number};

pub fn holds(data: &[u8]) {
    let btf = match Btf::parse(data.to_vec().into()) {
        Ok(btf) => btf,
        Err(error) => return assert!(matches!(error, BtfError::Malformed(_)), "{error}"),
    };
    for (_, _, number) in NUMBERS {
        let (Number::Enumerator(path) | Number::Offset(path)) = number;
        match number.resolve(&btf) {
            Ok(_) => assert!(path.split('.').all(|name| contains(data, name)), "{path} is not in there"),
            Err(BtfError::NoSuch(named)) => assert_eq!(named, path),
            Err(error) => assert!(matches!(error, BtfError::Malformed(_)), "{error}"),
        }
    }
    for (_, tracepoint) in Hook::ALL.map(Hook::tracepoint) {
        if btf.has_tracepoint(tracepoint) {
            assert!(contains(data, &format!("btf_trace_{tracepoint}")), "{tracepoint} is not in there");
        }
    }
}

fn contains(data: &[u8], name: &str) -> bool {
    data.windows(name.len()).any(|window| window == name.as_bytes())
}
