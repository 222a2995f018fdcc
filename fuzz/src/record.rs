//! Records of the ring buffer: decoded and encoded again they are the same bytes, and a refusal tells the truth.

use monitor::kernel::record::{Record, RecordError, decode};
use monitor_common::{Header, RECORD_LEN, RecordKind};
use zerocopy::IntoBytes as _;

pub fn holds(data: &[u8]) {
    one(data);
    data.chunks(RECORD_LEN).for_each(one);
}

fn one(data: &[u8]) {
    match decode(data) {
        Ok(record) => {
            let (header, bytes) = encoded(&record);
            assert_eq!(bytes, data, "{record:?}");
            assert!(kinds(&record).iter().any(|kind| header.kind == *kind as u32), "{record:?}");
        }
        Err(RecordError::Length(length)) => assert!(length == data.len() && length != RECORD_LEN, "{length}"),
        Err(RecordError::Kind(number)) => {
            assert_eq!(data.len(), RECORD_LEN);
            assert_eq!(number.as_bytes(), &data[..4]);
            assert_eq!(RecordKind::from_u32(number), None);
        }
    }
}

fn encoded(record: &Record) -> (Header, &[u8]) {
    match record {
        Record::Delta(delta) => (delta.header, delta.as_bytes()),
        Record::Crossing(crossing) => (crossing.header, crossing.as_bytes()),
        Record::Exit(exit) => (exit.header, exit.as_bytes()),
        Record::Fork(fork) => (fork.header, fork.as_bytes()),
        Record::Stopped(stopped) => (stopped.header, stopped.as_bytes()),
        Record::OomVictim(victim) => (victim.header, victim.as_bytes()),
        Record::Changed(changed) => (changed.header, changed.as_bytes()),
    }
}

fn kinds(record: &Record) -> &'static [RecordKind] {
    match record {
        Record::Delta(_) => &[RecordKind::Delta],
        Record::Crossing(_) => &[RecordKind::Crossing],
        Record::Exit(_) => &[RecordKind::Exit],
        Record::Fork(_) => &[RecordKind::Fork],
        Record::Stopped(_) => &[RecordKind::Stopped],
        Record::OomVictim(_) => &[RecordKind::OomVictim],
        Record::Changed(_) => &[RecordKind::Exec, RecordKind::Rename, RecordKind::Moved],
    }
}
