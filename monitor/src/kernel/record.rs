//! What the kernel programs push, decoded by zerocopy from the buffer (`bytes`) the shell copied it to. A record that
//! is not one is an error that says what is wrong with it, never a guess.

use monitor_common::{
    Changed, Crossing, Delta, Exit, Fork, Header, OomVictim, RECORD_LEN, RecordKind, Stopped,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Memory of a domain changed.
    Delta(Delta),
    /// A domain went past its line.
    Crossing(Crossing),
    /// A worker's process dies.
    Exit(Exit),
    /// A worker's process has a child.
    Fork(Fork),
    /// The brake stopped a worker's process.
    Stopped(Stopped),
    /// The kernel's own out-of-memory killer chose a worker's process.
    OomVictim(OomVictim),
    /// A process executed a program, gets another name, or is in another cgroup.
    Changed(Changed),
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Records have one length.
    #[error("a record of {0} bytes: expected {RECORD_LEN}")]
    Length(usize),
    /// No kind has this number.
    #[error("a record of unknown kind {0}")]
    Kind(u32),
}

/// Decodes one record.
///
/// # Errors
/// If it has another length or an unknown kind: the programs and the agent do not belong together.
pub fn decode(data: &[u8]) -> Result<Record, RecordError> {
    if data.len() != RECORD_LEN {
        return Err(RecordError::Length(data.len()));
    }
    let kind = take::<Header>(&data[..size_of::<Header>()])?.kind;
    match RecordKind::from_u32(kind).ok_or(RecordError::Kind(kind))? {
        RecordKind::Delta => take(data).map(Record::Delta),
        RecordKind::Crossing => take(data).map(Record::Crossing),
        RecordKind::Exit => take(data).map(Record::Exit),
        RecordKind::Fork => take(data).map(Record::Fork),
        RecordKind::Stopped => take(data).map(Record::Stopped),
        RecordKind::OomVictim => take(data).map(Record::OomVictim),
        RecordKind::Exec | RecordKind::Rename | RecordKind::Moved => take(data).map(Record::Changed),
    }
}

fn take<T: FromBytes + KnownLayout + Immutable>(data: &[u8]) -> Result<T, RecordError> {
    T::read_from_bytes(data).map_err(|_| RecordError::Length(data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    #[test]
    fn an_exit_record_comes_out_as_it_went_in() {
        let exit = Exit {
            header: Header { kind: RecordKind::Exit as u32, cpu: 1, time: 7 },
            worker: 5,
            start_time: 6,
            cgroup: 8,
            pid: 9,
            status: 0x0100,
            reserved: [0; 2],
        };
        assert_eq!(decode(exit.as_bytes()), Ok(Record::Exit(exit)));
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        assert_eq!(decode(&[1; 63]), Err(RecordError::Length(63)));
        assert_eq!(decode(&[9; 64]), Err(RecordError::Kind(0x0909_0909)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(data in proptest::collection::vec(any::<u8>(), 0..130)) {
            let _ = decode(&data);
        }
    }
}
