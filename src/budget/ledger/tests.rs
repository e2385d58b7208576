//! Bounds and shares of a ledger. A random sequence of steps is compared with a model after each.

use super::*;

const MAX: usize = 1600;

fn peer(last: u8) -> Account {
    Account::Peer(PeerKey::of(IpAddr::from([10, 0, 0, last])))
}

fn token(name: &str) -> Account {
    Account::Token(name.into())
}

/// 1,600 bytes: 1,500 of them without the reserve, 1,200 for requests that wait, of which 300 are
/// for stops and labels; a caller may hold 800, or 600 with starts.
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
    let mut first = ledger.hold(peer(1), Purpose::Transfer, 800).unwrap();
    assert!(ledger.is_calm());
    assert_eq!(first.resize(801), Err(Full::Share));
    assert_eq!(first.bytes(), 800);
    let same = ledger.hold(peer(1), Purpose::Write, 1);
    assert_eq!(same.unwrap_err(), Full::Share);
    let mut second = ledger.hold(token("b"), Purpose::Transfer, 1).unwrap();
    assert!(!ledger.is_calm());
    assert_eq!(second.resize(700), Ok(()));
    assert_eq!(second.resize(701), Err(Full::Budget));
    drop(second);
    assert_eq!(first.resize(10), Ok(()));
    assert_eq!(ledger.budget().used(), 10);
}

#[test]
fn starts_leave_room_for_stops_and_labels() {
    let ledger = ledger();
    let mine = ledger.hold(peer(1), Purpose::Start, 600).unwrap();
    let other = ledger.hold(peer(2), Purpose::Start, 300).unwrap();
    let third = |purpose| ledger.hold(peer(3), purpose, 1).map(drop);
    assert_eq!(third(Purpose::Start), Err(Full::Budget));
    assert_eq!(third(Purpose::Write), Ok(()));
    let more = |purpose, bytes| ledger.hold(peer(1), purpose, bytes).map(drop);
    assert_eq!(more(Purpose::Start, 1), Err(Full::Share));
    assert_eq!(more(Purpose::Write, 200), Ok(()), "it can stop its own");
    assert_eq!(more(Purpose::Write, 201), Err(Full::Share));
    let writes = ledger.hold(peer(3), Purpose::Write, 300).unwrap();
    assert_eq!(third(Purpose::Write), Err(Full::Budget));
    assert_eq!(third(Purpose::Transfer), Ok(()), "others are still served");
    drop((mine, other, writes));
    assert!(ledger.sums().by_account.is_empty());
    assert_eq!(ledger.sums().waiting, 0);
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
    assert_eq!(take(peer(2), Purpose::Start), Ok(()));
    assert_eq!(take(peer(1), Purpose::Start), Err(Full::Share));
    assert_eq!(take(peer(3), Purpose::Start), Ok(()));
    assert_eq!(take(peer(4), Purpose::Start), Err(Full::Budget));
    assert_eq!(take(peer(1), Purpose::Write), Ok(()));
    assert_eq!(take(peer(4), Purpose::Write), Err(Full::Budget));
}

#[test]
fn what_is_in_memory_may_use_the_reserve_and_no_more() {
    let ledger = ledger();
    let _first = ledger.hold(peer(1), Purpose::Transfer, 800).unwrap();
    let _second = ledger.hold(peer(2), Purpose::Transfer, 700).unwrap();
    let mut third = ledger.open(peer(3), Purpose::Transfer);
    assert_eq!(third.resize(1), Err(Full::Budget));
    assert_eq!(third.force(100), Ok(()));
    assert_eq!(third.force(101), Err(Full::Budget));
    assert_eq!(ledger.budget().used(), MAX);
}

#[test]
fn what_has_not_begun_uses_the_reserve_within_the_share() {
    let ledger = ledger();
    let mut first = ledger.hold(peer(1), Purpose::Transfer, 800).unwrap();
    assert_eq!(first.keep(801), Err(Full::Share));
    assert_eq!(first.force(801), Ok(()), "it has begun");
    let mut second = ledger.hold(peer(2), Purpose::Transfer, 699).unwrap();
    assert_eq!(second.resize(700), Err(Full::Budget));
    assert_eq!(second.keep(799), Ok(()));
    assert_eq!(second.keep(800), Err(Full::Budget));
    assert_eq!(second.bytes(), 799);
}

/// Pseudo-random numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(x >> 33).unwrap() % bound
    }
}

fn check(ledger: &Ledger, holds: &[Hold]) {
    let sum = |filter: &dyn Fn(&Hold) -> bool| -> usize {
        holds
            .iter()
            .filter(|hold| filter(hold))
            .map(Hold::bytes)
            .sum()
    };
    assert_eq!(ledger.budget().used(), sum(&|_| true));
    assert!(ledger.budget().used() <= MAX);
    let sums = ledger.sums();
    assert_eq!(sums.waiting, sum(&|hold| hold.purpose.waits()));
    assert!(sums.waiting <= ledger.bounds.waiting);
    for account in holds.iter().map(|hold| &hold.account) {
        assert_eq!(sums.of(account), sum(&|hold| hold.account == *account));
    }
    let all: usize = sums.by_account.values().sum();
    assert_eq!(all, ledger.budget().used(), "no account is left behind");
}

#[test]
fn the_sums_equal_what_is_held_after_every_step() {
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let ledger = ledger();
        let mut holds: Vec<Hold> = Vec::new();
        for _ in 0..200 {
            let bytes = numbers.below(500);
            match numbers.below(4) {
                0 => {
                    let account = match numbers.below(2) {
                        0 => peer(u8::try_from(numbers.below(3)).unwrap()),
                        _ => token(["a", "b", "c"][numbers.below(3)]),
                    };
                    let purposes = [Purpose::Transfer, Purpose::Start, Purpose::Write];
                    let purpose = purposes[numbers.below(3)];
                    let own = ledger.sums().of(&account) + bytes;
                    let share = ledger.division.share(MAX, purpose);
                    match ledger.hold(account, purpose, bytes) {
                        Ok(hold) => {
                            assert!(own <= share || ledger.is_calm(), "beyond its share");
                            holds.push(hold);
                        }
                        Err(_) => assert!(ledger.budget().used() + bytes > MAX / 2, "seed {seed}"),
                    }
                }
                1 if !holds.is_empty() => drop(holds.remove(numbers.below(holds.len()))),
                2 if !holds.is_empty() => {
                    let index = numbers.below(holds.len());
                    let _ = holds[index].resize(bytes);
                }
                3 if !holds.is_empty() => {
                    let index = numbers.below(holds.len());
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
