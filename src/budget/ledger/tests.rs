//! Bounds and shares of a ledger. A random sequence of steps is compared with a model after each.

use super::*;
use crate::random::Random;

const MAX: usize = 2400;

fn peer(last: u8) -> Account {
    Account::Peer(PeerKey::of(IpAddr::from([10, 0, 0, last])))
}

fn token(name: &str) -> Account {
    Account::Token(name.into())
}

/// 2,400 bytes: 2,250 of them without the reserve, 1,450 without those that are left for shared ones,
/// 1,200 for requests that wait, of which 300 are for stops and labels; one caller may hold half of
/// each.
fn ledger() -> Arc<Ledger> {
    let division = Division {
        caller: 50,
        writes: 25,
    };
    Ledger::of_bytes(MAX, division)
}

#[test]
fn a_64_of_ipv6_is_one_peer() {
    let key = |text: &str| PeerKey::of(text.parse().unwrap());
    assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
    assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
}

#[test]
fn a_caller_holds_at_most_its_share_once_half_is_used() {
    let ledger = ledger();
    let mut first = ledger.hold(peer(1), Purpose::Transfer, 725).unwrap();
    assert_eq!(first.resize(726), Err(Full::Share));
    assert_eq!(first.bytes(), 725);
    let mut second = ledger.hold(token("b"), Purpose::Transfer, 1).unwrap();
    assert!(ledger.is_calm());
    assert_eq!(second.resize(362), Ok(()));
    assert_eq!(
        second.resize(363),
        Err(Full::Share),
        "as much must stay free"
    );
    let mut third = ledger.hold(token("c"), Purpose::Transfer, 1).unwrap();
    assert_eq!(third.resize(363), Err(Full::Share));
    assert_eq!(third.resize(364), Err(Full::Budget));
    assert_eq!(third.resize(181), Ok(()));
    assert!(!ledger.is_calm());
    drop(second);
    assert_eq!(third.resize(362), Ok(()));
    assert_eq!(first.resize(10), Ok(()));
    assert_eq!(ledger.budget().used(), 372);
}

#[test]
fn starts_leave_room_for_stops_and_labels() {
    let ledger = ledger();
    let mine = ledger.hold(peer(1), Purpose::Start, 450).unwrap();
    let other = ledger.hold(peer(2), Purpose::Start, 225).unwrap();
    let rest = ledger.hold(peer(4), Purpose::Start, 225).unwrap();
    let third = |purpose| ledger.hold(peer(3), purpose, 1).map(drop);
    assert_eq!(third(Purpose::Start), Err(Full::Budget));
    assert_eq!(third(Purpose::Write), Ok(()));
    assert_eq!(
        ledger.hold(peer(1), Purpose::Start, 1).unwrap_err(),
        Full::Budget
    );
    // It can stop its own, within its share of all that wait.
    let mut stops = ledger.hold(peer(1), Purpose::Write, 100).unwrap();
    assert_eq!(stops.resize(150), Ok(()));
    assert_eq!(stops.resize(151), Err(Full::Share));
    let writes = ledger.hold(peer(3), Purpose::Write, 150).unwrap();
    assert_eq!(third(Purpose::Write), Err(Full::Budget));
    assert_eq!(third(Purpose::Transfer), Ok(()), "others are still served");
    drop((mine, other, rest, stops, writes));
    assert!(ledger.books().by_account.is_empty());
    assert_eq!(ledger.books().all, Sums::default());
}

#[test]
fn places_are_for_requests_that_wait_alone() {
    let division = Division {
        caller: 50,
        writes: 25,
    };
    let ledger = Ledger::of_places(4, division);
    let mut held = Vec::new();
    let mut take = |account, purpose| {
        let hold = ledger.hold(account, purpose, 1);
        hold.map(|hold| held.push(hold))
    };
    assert_eq!(take(peer(1), Purpose::Start), Ok(()));
    assert_eq!(take(peer(1), Purpose::Start), Err(Full::Share));
    assert_eq!(take(peer(2), Purpose::Start), Ok(()));
    assert_eq!(take(peer(3), Purpose::Start), Ok(()), "it holds none");
    assert_eq!(take(peer(4), Purpose::Start), Err(Full::Budget));
    assert_eq!(take(peer(1), Purpose::Write), Ok(()));
    assert_eq!(take(peer(4), Purpose::Write), Err(Full::Budget));
}

/// Takes as much as this account gets, one piece after the other.
fn take_all(ledger: &Arc<Ledger>, by: u8, purpose: Purpose, piece: usize, held: &mut Vec<Hold>) {
    while let Ok(hold) = ledger.hold(peer(by), purpose, piece) {
        held.push(hold);
    }
}

#[test]
fn each_further_caller_finds_room_however_much_the_others_take() {
    use Purpose::{Start, Transfer, Write};
    let kinds: [&[Purpose]; 6] = [
        &[Start],
        &[Write],
        &[Start, Write],
        &[Write, Start],
        &[Transfer],
        &[Transfer, Start, Write],
    ];
    for kind in kinds {
        for ledger in [
            Ledger::of_places(6000, Division::default()),
            Ledger::of_bytes(6000, Division::default()),
        ] {
            let mut held = Vec::new();
            for by in 1..=3 {
                for purpose in kind {
                    take_all(&ledger, by, *purpose, 1, &mut held);
                }
                // Of bytes, starts may hold 2,640. A stop or label fits always, if it is the first.
                let all = ledger.charged(&peer(by));
                assert!(all <= 3001 && (by > 1 || all >= 1320), "{by} takes {all}");
                for purpose in [Start, Write, Transfer] {
                    let next = ledger.hold(peer(9), purpose, 20);
                    assert!(next.is_ok(), "{purpose:?} after {by} that take {kind:?}");
                }
            }
        }
    }
}

#[test]
fn small_shares_are_for_more_callers() {
    let division = Division {
        caller: 10,
        writes: 0,
    };
    let ledger = Ledger::of_places(100, division);
    let mut held = Vec::new();
    // Until half is used, nobody is limited.
    take_all(&ledger, 1, Purpose::Start, 1, &mut held);
    assert_eq!(ledger.charged(&peer(1)), 50);
    let next: Vec<usize> = (2..=8)
        .map(|by| {
            take_all(&ledger, by, Purpose::Start, 1, &mut held);
            ledger.charged(&peer(by))
        })
        .collect();
    assert_eq!(next, [10, 10, 10, 10, 5, 2, 1]);
}

#[test]
fn what_is_in_memory_may_use_the_reserve_and_no_more() {
    let ledger = ledger();
    let mut first = ledger.hold(peer(1), Purpose::Transfer, 725).unwrap();
    let _second = ledger.hold(peer(2), Purpose::Transfer, 362).unwrap();
    let _third = ledger.hold(peer(3), Purpose::Transfer, 363).unwrap();
    let _shared = ledger.hold(Account::Service, Purpose::Shared, 800).unwrap();
    let mut last = ledger.open(peer(4), Purpose::Transfer);
    assert_eq!(last.resize(1), Err(Full::Budget));
    assert_eq!(last.force(149), Ok(()));
    assert_eq!(first.force(726), Ok(()), "no share limits it");
    assert_eq!(last.force(150), Err(Full::Budget));
    assert_eq!(ledger.budget().used(), MAX);
}

fn check(ledger: &Arc<Ledger>, holds: &[Hold]) {
    let sums = |filter: &dyn Fn(&Hold) -> bool| {
        let holds = holds.iter().filter(|hold| filter(hold));
        holds.fold(Sums::default(), |sums, hold| {
            sums.plus(hold.purpose, hold.bytes())
        })
    };
    let all = sums(&|_| true);
    let used = ledger.budget().used();
    assert_eq!(used, all.total());
    assert!(used <= MAX);
    let books = ledger.books();
    assert_eq!(books.all, all);
    for account in holds.iter().map(|hold| &hold.account) {
        assert_eq!(
            books.of(account),
            sums(&|hold| hold.account == *account),
            "{account:?}"
        );
    }
    let of_accounts = books.by_account.values().map(Sums::total);
    assert_eq!(
        of_accounts.sum::<usize>(),
        used,
        "no account is left behind"
    );
    drop(books);
    for purpose in [Purpose::Transfer, Purpose::Start, Purpose::Write] {
        let is_full = ledger.bounds.check(purpose, &all.plus(purpose, 1)).is_err();
        let newcomer = ledger.hold(token("new"), purpose, 1).map(drop);
        assert_eq!(newcomer.is_err(), is_full, "{purpose:?}");
    }
}

#[test]
fn the_sums_equal_what_is_held_after_every_step() {
    let purposes = [Purpose::Transfer, Purpose::Start, Purpose::Write];
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let ledger = ledger();
        let mut holds: Vec<Hold> = Vec::new();
        for _ in 0..200 {
            let bytes = random.below(500);
            match random.below(4) {
                0 => {
                    let account = match random.below(2) {
                        0 => peer(u8::try_from(random.below(3)).unwrap()),
                        _ => token(random.pick(&["a", "b", "c"])),
                    };
                    let purpose = random.pick(&purposes);
                    // Stops and labels compete with each other only.
                    let competes = |hold: &&Hold| {
                        let alike = purpose != Purpose::Write || hold.purpose == purpose;
                        alike && hold.account == account
                    };
                    let before: usize = holds.iter().filter(competes).map(Hold::bytes).sum();
                    let hold = ledger.hold(account, purpose, bytes);
                    let used = ledger.budget().used();
                    match hold {
                        Ok(hold) => {
                            let is_within = before + bytes <= MAX / 2 || before == 0;
                            assert!(is_within || ledger.is_calm(), "seed {seed}");
                            holds.push(hold);
                        }
                        // Half of the part for starts is the least that limits anybody.
                        Err(_) => assert!(used + bytes > 450, "seed {seed}"),
                    }
                }
                1 if !holds.is_empty() => drop(holds.remove(random.below(holds.len()))),
                2 if !holds.is_empty() => {
                    let index = random.below(holds.len());
                    let _ = holds[index].resize(bytes);
                }
                3 if !holds.is_empty() => {
                    let index = random.below(holds.len());
                    if holds[index].purpose == Purpose::Transfer {
                        let _ = holds[index].force(bytes);
                    }
                }
                _ => {}
            }
            check(&ledger, &holds);
        }
    }
}
