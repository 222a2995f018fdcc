//! The moments of a kill that a chart marks, and how marks that lie close together keep out of each other's way. Pure.

use crate::engine::KillRecord;
use crate::retry::KilledBy;
use crate::series::Series;
use crate::units::Nanos;

/// A moment of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// What happened.
    pub(super) what: &'static str,
    /// In nanoseconds from the crossing on, or from the kernel's choice.
    pub(super) at: i64,
}

impl Mark {
    /// Those that were seen, in order of time.
    pub(super) fn of(kill: &KillRecord, series: Option<&Series>) -> Vec<Self> {
        let times = kill.times;
        let Some(zero) = kill.began() else { return Vec::new() };
        let paused = series.and_then(|series| {
            // Of the pauses that belong to this kill: those that were still on when the threshold was crossed.
            series.pauses.iter().filter(|pause| pause.to >= zero).map(|pause| pause.from).min()
        });
        let stages = [
            ("Threshold crossed", times.crossing),
            ("Paused by the brake", paused),
            ("Decided", times.decision),
            (if kill.by == KilledBy::Kernel { "Chosen by the kernel" } else { "Signal sent" }, times.signal),
            ("Processes dead", times.dead),
            ("Memory free", times.memory_back),
        ];
        let mut marks: Vec<Self> =
            stages.into_iter().filter_map(|(what, at)| Some(Self { what, at: from(zero, at?) })).collect();
        marks.sort_by_key(|mark| mark.at);
        marks
    }
}

/// The time from one moment to another, which may be earlier.
pub(super) fn from(zero: Nanos, at: Nanos) -> i64 {
    let ahead = i64::try_from(at.0.saturating_sub(zero.0)).unwrap_or(i64::MAX);
    ahead - i64::try_from(zero.0.saturating_sub(at.0)).unwrap_or(i64::MAX)
}

/// In which row each label stands, so that none lies within `gap` of another in its row. `places` are in order.
pub(super) fn rows(places: &[f64], gap: f64) -> Vec<usize> {
    let mut ends: Vec<f64> = Vec::new();
    places
        .iter()
        .map(|place| {
            let free = ends.iter().position(|end| place - end >= gap);
            let row = free.unwrap_or(ends.len());
            match ends.get_mut(row) {
                Some(end) => *end = *place,
                None => ends.push(*place),
            }
            row
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;
    use crate::series::Pause;
    use crate::worker::WorkerId;

    #[test]
    fn the_stages_that_were_seen_are_marked_in_order() {
        let kill = record();
        let crossing = kill.times.crossing.unwrap();
        let pause = Pause {
            worker: WorkerId(1),
            from: crossing.after(std::time::Duration::from_micros(5)),
            to: Nanos(u64::MAX),
        };
        let before = Pause { worker: WorkerId(1), from: Nanos(0), to: Nanos(1) };
        let series = Series { pauses: vec![before, pause], ..Series::default() };
        let marks = Mark::of(&kill, Some(&series));
        let seen: Vec<_> = marks.iter().map(|mark| (mark.what, mark.at)).collect();
        assert_eq!(
            seen,
            [
                ("Threshold crossed", 0),
                ("Paused by the brake", 5_000),
                ("Decided", 1_000_000),
                ("Signal sent", 2_000_000),
                ("Processes dead", 30_000_000),
            ]
        );
        assert_eq!(from(Nanos(5), Nanos(2)), -3);
    }

    #[test]
    fn labels_that_are_close_stand_in_rows_of_their_own() {
        let places = [0.0, 1.0, 2.0, 50.0, 51.0, 100.0];
        let rows = rows(&places, 20.0);
        assert_eq!(rows, [0, 1, 2, 0, 1, 0]);
        for (one, other) in (0..6).flat_map(|one| (0..one).map(move |other| (one, other))) {
            assert!(rows[one] != rows[other] || places[one] - places[other] >= 20.0);
        }
    }
}
