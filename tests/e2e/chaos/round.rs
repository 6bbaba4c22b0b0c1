//! Which trouble comes when. Pure but for the dice.

use lab::faults::{Behind, Fault};
use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use serin::runtime::crash::Point;

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Something on the way to the API server.
    Api(Fault),
    /// Something on the way to Prometheus.
    Prometheus(Fault),
    /// Something on the way to the Git server.
    Git(Fault),
    /// The controller that leads is killed.
    Kill,
    /// It dies the next time that it comes to this point.
    Crash(Point),
    /// It gets no time for longer than its lease lasts.
    Freeze,
    /// It is told to end, as in a rollout of its own.
    Terminate,
    /// Argo CD does nothing.
    PauseArgoCd,
    /// Somebody pushes another file to the branch.
    Push,
}

/// One trouble of one crew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) crew: usize,
    pub(super) trouble: Trouble,
}

/// The crew with two replicas.
const TWO: usize = 1;

/// So many rounds. The controllers die in each run, in every way.
pub(super) fn deal(rng: &mut StdRng, rounds: usize) -> Vec<Round> {
    let mut deck = vec![
        Trouble::Kill,
        Trouble::Kill,
        Trouble::Terminate,
        Trouble::PauseArgoCd,
        Trouble::Push,
        Trouble::Push,
    ];
    deck.extend(Behind::Api.faults().iter().map(|fault| Trouble::Api(*fault)));
    deck.extend(
        Behind::Prometheus
            .faults()
            .iter()
            .map(|fault| Trouble::Prometheus(*fault)),
    );
    deck.extend(Behind::Git.faults().iter().map(|fault| Trouble::Git(*fault)));
    deck.extend(Point::ALL.map(Trouble::Crash));
    let point = *Point::ALL.choose(rng).unwrap_or(&Point::AfterWeight);
    let mut dealt = vec![
        Round {
            crew: 0,
            trouble: Trouble::Kill,
        },
        Round {
            crew: 0,
            trouble: Trouble::Crash(point),
        },
        Round {
            crew: 0,
            trouble: Trouble::Crash(Point::AfterStatus),
        },
        Round {
            crew: TWO,
            trouble: Trouble::Freeze,
        },
    ];
    while dealt.len() < rounds {
        deck.shuffle(rng);
        for trouble in &deck {
            // Who ends in peace has a successor at once: without a lease there would be two.
            let crew = if *trouble == Trouble::Terminate {
                TWO
            } else {
                rng.random_range(0..=TWO)
            };
            dealt.push(Round {
                crew,
                trouble: *trouble,
            });
        }
        dealt.push(Round {
            crew: TWO,
            trouble: Trouble::Freeze,
        });
    }
    dealt.truncate(rounds);
    dealt.shuffle(rng);
    dealt
}
