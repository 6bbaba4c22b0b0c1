//! Who is in which round, and what is kept.

use super::*;
use crate::prometheus::target::ArmTarget;

const INTERVAL: SignedDuration = SignedDuration::from_secs(20);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn target(namespace: &str) -> Target {
    let arm = |deployment: &str| ArmTarget {
        deployment: deployment.to_owned(),
        pod_template_hash: None,
    };
    Target {
        namespace: namespace.to_owned(),
        port: 1,
        canary: arm("web-canary"),
        stable: arm("web"),
        thresholds_ms: vec![],
        extra_failure_codes: vec![],
        codes_apart: vec![],
        services: vec![],
        scrape_interval: SignedDuration::from_secs(10),
        began: at(0),
        custom: vec![],
    }
}

fn ask(namespace: &str, start: i64, end: i64) -> Ask {
    let ticks = (start..end).step_by(20).map(|start| (at(start), at(start + 20)));
    Ask::new(&Arc::new(target(namespace)), &ticks.collect::<Vec<_>>())
}

fn of(asks: &[Ask]) -> Vec<&str> {
    let mut namespaces: Vec<_> = asks.iter().map(|ask| ask.target.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces
}

/// An answer without ticks: what is in them is nobody's business here.
fn answer(book: &mut Book, ask: &Ask) {
    book.answer(ask, &Ok(Arc::new([])), None);
}

fn weighed<'a>(book: &Book, ask: &'a Ask) -> Weighed<'a> {
    book.weighed(ask, ask.window())
}

fn opens(joined: &Joined) -> bool {
    matches!(joined, Joined::Waits { opens: true, .. })
}

#[test]
fn a_round_takes_those_along_who_need_the_same_ticks() {
    let mut book = Book::default();
    for (namespace, next) in [("a", 100), ("b", 100), ("c", 120)] {
        book.expect(target(namespace), INTERVAL, at(next), Turn::Later);
    }
    let mut of_another_scrape = target("d");
    of_another_scrape.scrape_interval = SignedDuration::from_secs(5);
    book.expect(of_another_scrape, INTERVAL, at(100), Turn::Later);
    book.expect(target("e"), SignedDuration::from_secs(30), at(100), Turn::Later);
    let first = ask("a", 100, 120);
    assert!(opens(&book.join(&first)));
    assert!(!opens(&book.join(&first)), "it is gathered for already");
    assert_eq!(of(&book.close(first.key())), ["a", "b"]);
    assert!(!opens(&book.join(&ask("b", 100, 120))), "it is under way");
}

#[test]
fn a_round_takes_those_along_who_missed_more_ticks_unless_they_are_asked_for_already() {
    let mut book = Book::default();
    for (namespace, next) in [("a", 100), ("b", 60), ("c", -600), ("d", 60)] {
        book.expect(target(namespace), INTERVAL, at(next), Turn::Later);
    }
    let earlier = ask("d", 60, 100);
    let _waits = book.join(&earlier);
    assert_eq!(of(&book.close(earlier.key())), ["b", "d"]);
    let first = ask("a", 100, 120);
    let _waits = book.join(&first);
    assert_eq!(
        of(&book.close(first.key())),
        ["a"],
        "the others are under way, or would ask in parts"
    );
    answer(&mut book, &ask("b", 60, 100));
    assert_eq!(book.close(first.key()), [ask("b", 100, 120)]);
}

/// A and b are expected, and a asks.
fn asked_by_one_of_two() -> (Book, Ask, Joined) {
    let mut book = Book::default();
    book.expect(target("a"), INTERVAL, at(100), Turn::Later);
    book.expect(target("b"), INTERVAL, at(100), Turn::Later);
    let first = ask("a", 100, 120);
    let waits = book.join(&first);
    (book, first, waits)
}

#[test]
fn an_answer_is_there_for_whoever_asks_later_and_the_next_tick_is_expected() {
    let (mut book, first, _waits) = asked_by_one_of_two();
    for ask in book.close(first.key()) {
        answer(&mut book, &ask);
    }
    assert!(matches!(book.join(&ask("b", 100, 120)), Joined::Answered(Ok(_))));
    let next = ask("b", 120, 140);
    assert!(opens(&book.join(&next)));
    assert_eq!(of(&book.close(next.key())), ["a", "b"]);
}

#[test]
fn who_comes_again_with_more_ticks_has_only_those_asked_for_that_were_not_answered() {
    let (mut book, first, _waits) = asked_by_one_of_two();
    for ask in book.close(first.key()) {
        answer(&mut book, &ask);
    }
    assert_eq!(book.split(first.clone()), (vec![], None));
    let (_, left) = book.split(ask("a", 100, 160));
    assert_eq!(left, Some(ask("a", 120, 160)));
    assert_eq!(
        book.split(ask("a", 80, 120)).1,
        Some(ask("a", 80, 120)),
        "one before it was not answered"
    );
    // Its look came to nothing: it needs the old tick again, and is not asked for it again.
    book.expect(target("b"), INTERVAL, at(100), Turn::Later);
    let again = ask("a", 120, 140);
    let _waits = book.join(&again);
    assert_eq!(book.close(again.key()), [again, ask("b", 120, 140)]);
}

#[test]
fn an_error_is_told_once_and_asked_for_again() {
    let (mut book, first, _waits) = asked_by_one_of_two();
    for ask in book.close(first.key()) {
        book.answer(&ask, &Err(Arc::new(SampleError::Panicked)), None);
    }
    assert!(opens(&book.join(&first)), "who waited was told");
    let other = ask("b", 100, 120);
    assert!(matches!(book.join(&other), Joined::Answered(Err(_))));
    assert!(matches!(book.join(&other), Joined::Waits { .. }));
}

#[test]
fn who_does_not_come_any_more_is_forgotten() {
    let mut book = Book::default();
    book.expect(target("gone"), INTERVAL, at(100), Turn::Later);
    let mut expected = Vec::new();
    for start in (100..200).step_by(20) {
        book.expect(target("a"), INTERVAL, at(start), Turn::Later);
        let one = ask("a", start, start + 20);
        let _waits = book.join(&one);
        let asks = book.close(one.key());
        expected.push(asks.len());
        for ask in asks {
            answer(&mut book, &ask);
        }
    }
    assert_eq!(expected, [2, 2, 1, 1, 1]);
}

#[test]
fn whose_tick_is_pressing_is_known_until_it_says_otherwise() {
    let mut book = Book::default();
    book.expect(target("a"), INTERVAL, at(100), Turn::First);
    assert!(weighed(&book, &ask("a", 100, 120)).is_pressing);
    assert!(!weighed(&book, &ask("b", 100, 120)).is_pressing);
    book.expect(target("a"), INTERVAL, at(120), Turn::Later);
    assert!(!weighed(&book, &ask("a", 120, 140)).is_pressing);
}

#[test]
fn old_answers_are_let_go_of() {
    let mut book = Book::default();
    let old = ask("a", 100, 120);
    let _waits = book.join(&old);
    for ask in book.close(old.key()) {
        answer(&mut book, &ask);
    }
    let new = ask("b", 400, 420);
    let _waits = book.join(&new);
    book.close(new.key());
    assert_eq!(book.seats.len(), 1);
}

#[test]
fn a_round_that_breaks_lets_everybody_go() {
    let mut book = Book::default();
    let one = ask("a", 100, 120);
    let Joined::Waits { mut answer, .. } = book.join(&one) else {
        panic!("nothing was answered yet")
    };
    let asks = book.close(one.key());
    book.let_go(asks.iter());
    assert!(answer.try_recv().is_err());
    assert!(opens(&book.join(&one)), "it can be asked again");
}

#[test]
fn what_failed_alone_stays_apart_until_it_is_quick() {
    let mut book = Book::default();
    book.expect(target("a"), INTERVAL, at(100), Turn::Later);
    let one = ask("a", 100, 120);
    book.set_apart(&one);
    let answered = |book: &mut Book, was_quick| {
        book.answer(
            &one,
            &Ok(Arc::new([])),
            Some(Size {
                bytes: 5,
                window: one.window(),
                was_quick,
            }),
        );
        weighed(book, &one).is_apart
    };
    assert!(answered(&mut book, false));
    assert!(!answered(&mut book, true));
    let bytes = |of: &Ask| book.weighed(of, of.window()).bytes;
    assert_eq!(bytes(&one), Some(5));
    assert_eq!(bytes(&ask("a", 100, 340)), Some(18), "of a longer window");
}
