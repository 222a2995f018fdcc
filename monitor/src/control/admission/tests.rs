//! Who is let in, who is turned away, who gives way.

use super::*;

fn admission(limits: Limits) -> Arc<Admission> {
    Admission::new(limits)
}

#[test]
fn a_uid_gets_its_share_of_connections_and_gets_it_back() {
    let (admission, now) =
        (admission(Limits { connections_per_uid: 2, ..Limits::default() }), Instant::now());
    let first = admission.enter(7, now).unwrap();
    let _second = admission.enter(7, now).unwrap();
    let refusal = admission.enter(7, now).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
    assert!(refusal.message.contains("uid 7 has 2 connections"), "{refusal}");
    let _other = admission.enter(8, now).unwrap();
    drop(first);
    admission.enter(7, now).unwrap();
}

#[test]
fn users_cannot_lock_root_out() {
    let limits =
        Limits { connections: 3, reserved_for_root: 1, reserved_for_newcomers: 0, ..Limits::default() };
    let (admission, now) = (admission(limits), Instant::now());
    let _users = [admission.enter(7, now).unwrap(), admission.enter(8, now).unwrap()];
    assert!(admission.enter(9, now).is_err());
    let _root = admission.enter(0, now).unwrap();
    assert!(admission.enter(0, now).is_err());
}

#[test]
fn calls_are_bounded_by_burst_and_rate_of_the_uid_not_of_the_connection() {
    let (admission, now) =
        (admission(Limits { calls_per_second: 10, burst: 3, ..Limits::default() }), Instant::now());
    let one = admission.enter(7, now).unwrap();
    let taken = (0..5).filter(|_| one.call(now).is_ok()).count();
    assert_eq!(taken, 3);
    drop(one);
    let again = admission.enter(7, now).unwrap();
    let wait = again.call(now).unwrap_err();
    assert_eq!(wait, Duration::from_millis(100));
    assert!(again.call(now + wait).is_ok());
    assert!(admission.enter(8, now).unwrap().call(now).is_ok());
}

#[test]
fn the_bytes_of_long_lines_are_paid_by_the_uid_and_reconnecting_pays_nothing() {
    let limits = Limits { long_lines_per_second: 1000, long_lines_burst: 2000, ..Limits::default() };
    let (admission, now) = (admission(limits), Instant::now());
    let one = admission.enter(7, now).unwrap();
    assert_eq!(one.read_of_a_long_line(now, 2000), Duration::ZERO);
    assert_eq!(one.read_of_a_long_line(now, 500), Duration::from_millis(500));
    drop(one);
    let again = admission.enter(7, now).unwrap();
    assert_eq!(again.read_of_a_long_line(now, 500), Duration::from_secs(1));
    let later = now + Duration::from_secs(2);
    assert_eq!(again.read_of_a_long_line(later, 1000), Duration::ZERO);
    // However much it was, it is over after a while.
    let line_timeout = Limits::default().line_timeout;
    assert_eq!(again.read_of_a_long_line(later, 1 << 30), line_timeout);
    let (other, root) = (admission.enter(8, now).unwrap(), admission.enter(0, now).unwrap());
    assert_eq!(other.read_of_a_long_line(now, 2000), Duration::ZERO);
    assert_eq!(root.read_of_a_long_line(now, 1 << 30), Duration::ZERO);
}

#[test]
fn accounts_of_uids_that_left_are_forgotten() {
    let (admission, now) = (admission(Limits::default()), Instant::now());
    for uid in 1..100 {
        drop(admission.enter(uid, now).unwrap());
    }
    let _last = admission.enter(1000, now).unwrap();
    assert_eq!(admission.books().accounts.len(), 1);
}

fn small() -> Limits {
    Limits {
        connections: 24,
        reserved_for_root: 2,
        reserved_for_newcomers: 6,
        few: 2,
        connections_per_uid: 8,
        ..Limits::default()
    }
}

#[test]
fn some_users_with_many_connections_leave_room_for_those_with_none() {
    let (admission, now) = (admission(small()), Instant::now());
    let mut taken = Vec::new();
    for uid in 1..=4 {
        for _ in 0..20 {
            let Ok(ticket) = admission.enter(uid, now) else { continue };
            ticket.keep();
            taken.push(ticket);
        }
    }
    // Two of them have all that is not reserved for those with few; none of it gives way.
    let of_newcomers: Vec<Ticket> = (5..=6).map(|uid| admission.enter(uid, now).unwrap()).collect();
    assert!(admission.enter(1, now).is_err());
    assert!(taken.iter().all(|ticket| !ticket.leave.is_cancelled()));
    assert_eq!(taken.len(), 20, "8 of two uids each, and 2 of the others");
    drop(of_newcomers);
    let _root = admission.enter(0, now).unwrap();
}

#[test]
fn when_all_places_are_taken_the_longest_silent_of_who_has_most_gives_way() {
    let (admission, now) = (admission(small()), Instant::now());
    let later = now + Duration::from_secs(1);
    let uids = [[1; 8], [2; 8]].into_iter().flatten().chain([4, 4, 5, 5, 6, 6]);
    let mut taken: Vec<Ticket> = uids.map(|uid| admission.enter(uid, now).unwrap()).collect();
    // Their first is a runner's, their second has just asked something.
    taken[0].keep();
    taken[1].call(later).unwrap();
    let newcomer = admission.enter(99, later).unwrap();
    let gone: Vec<usize> = (0..taken.len()).filter(|index| taken[*index].leave.is_cancelled()).collect();
    assert_eq!(gone, [2]);
    // Who has as many as the others gets no more at their cost.
    let greedy: Vec<_> = (0..8).map_while(|_| admission.enter(98, later).ok()).collect();
    assert!(greedy.len() >= 2 && admission.enter(1, later).is_err());
    drop(greedy);
    // It is out of the books: dropped later, it is not counted twice.
    let open = admission.books().open.len();
    taken.retain(|ticket| !ticket.leave.is_cancelled());
    assert_eq!(admission.books().open.len(), open);
    drop(newcomer);
    assert_eq!(admission.books().open.len(), open - 1);
}

#[test]
fn what_costs_the_loop_more_counts_for_more_except_from_root() {
    let (admission, now) =
        (admission(Limits { calls_per_second: 100, burst: 100, ..Limits::default() }), Instant::now());
    let explain = weight(&Op::Explain { domain: None });
    let taken = |uid| {
        let ticket = admission.enter(uid, now).unwrap();
        (0..200).filter(|_| ticket.call(now).and_then(|()| ticket.more(now, explain)).is_ok()).count()
    };
    assert_eq!((taken(7), taken(0)), (2, 100));
}
