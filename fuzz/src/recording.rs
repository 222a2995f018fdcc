//! Recordings for `replay`: an error names a line that exists, a line is read as it was written, and a core told the
//! same twice decides the same, each time for reasons that can be given again.

use std::collections::BTreeSet;

use monitor::recording::{Line, ReplayError, replay};

pub fn holds(data: &[u8]) {
    for text in data.split(|byte| *byte == b'\n') {
        if let Ok(line) = serde_json::from_slice::<Line>(text) {
            let again = serde_json::to_vec(&line).unwrap();
            assert_eq!(serde_json::from_slice::<Line>(&again).unwrap(), line);
        }
    }
    match replay("f", data) {
        Ok(replayed) => {
            assert!(replayed.unexplained.is_empty(), "{:?}", replayed.unexplained);
            let ids: BTreeSet<_> = replayed.kills.iter().map(|kill| kill.id).collect();
            assert_eq!(ids.len(), replayed.kills.len(), "a kill twice");
            assert!(replayed.events <= super::lines(data));
            let again = replay("f", data).unwrap();
            assert_eq!((again.events, again.kills), (replayed.events, replayed.kills));
        }
        Err(ReplayError::Malformed { number, why, .. }) => {
            assert!((1..=super::lines(data)).contains(&number) && !why.is_empty(), "{number}: {why}");
        }
        Err(error @ ReplayError::Read { .. }) => panic!("{error}"),
    }
}
