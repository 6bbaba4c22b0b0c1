//! Breadth first through every world that can come of the first one. It knows worlds by their fingerprints and keeps how each
//! was reached, so that what is found broken is told as a story.
//!
//! Liveness: from every world the calm path (nothing goes wrong any more, nobody says anything) must lead to an end. The calm
//! successor of each world is one of those explored, so this is one walk over a graph in which each node has one way out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rayon::prelude::*;

use super::actions::Action;
use super::controller::Model;
use super::fingerprint::{self, Fingerprint};
use super::properties::{self, Broken, broken};
use super::world::{Budget, World};

/// How a world was first reached, and where it calmly leads.
#[derive(Debug, Clone, Copy)]
struct Known {
    from: Option<(Fingerprint, Action)>,
    calm: Option<Fingerprint>,
    /// Nothing calm is left to happen but that time goes by.
    waits: bool,
    rests: bool,
}

/// What an exploration found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Worlds that differ.
    pub(crate) worlds: usize,
    /// Steps between them that were taken.
    pub(crate) steps: usize,
    /// The longest of all shortest ways to a world.
    pub(crate) depth: usize,
    /// In how many worlds a rollout rests, by how it ended.
    pub(crate) ends: Vec<(String, usize)>,
    /// The first invariant that does not hold, and how it came to that.
    pub(crate) broken: Option<(Broken, String)>,
}

struct Expanded {
    from: Fingerprint,
    calm: Option<Fingerprint>,
    waits: bool,
    nexts: Vec<(Fingerprint, Action, World)>,
    steps: usize,
    broken: Option<(Broken, Action)>,
}

/// At most so many worlds are expanded at once.
const BATCH: usize = 4096;

pub(crate) fn explore(model: &Model<'_>, budget: Budget) -> Report {
    let plan = model.plan;
    let first = World::new(budget);
    let root = fingerprint::of(&first);
    let mut known = HashMap::from([(
        root,
        Known {
            from: None,
            calm: None,
            waits: false,
            rests: first.rests(plan),
        },
    )]);
    let mut report = Report {
        worlds: 1,
        steps: 0,
        depth: 0,
        ends: vec![],
        broken: None,
    };
    let mut ends: HashMap<String, usize> = HashMap::new();
    let mut level = vec![(root, first)];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for batch in level.chunks(BATCH) {
            let expanded: Vec<Expanded> = batch
                .par_iter()
                .map(|(print, world)| expand(model, *print, world, &known))
                .collect();
            for one in expanded {
                report.steps += one.steps;
                if let Some((broken, action)) = one.broken {
                    report.worlds = known.len();
                    let story = story(model, budget, &known, one.from, Some(action));
                    report.broken = Some((broken, story));
                    return report;
                }
                if let Some(node) = known.get_mut(&one.from) {
                    node.calm = one.calm;
                    node.waits = one.waits;
                }
                for (print, action, world) in one.nexts {
                    if let Entry::Vacant(vacant) = known.entry(print) {
                        vacant.insert(Known {
                            from: Some((one.from, action)),
                            calm: None,
                            waits: false,
                            rests: world.rests(plan),
                        });
                        next_level.push((print, world));
                    }
                }
            }
        }
        for (print, world) in &level {
            let is_end = known.get(print).is_some_and(|node| node.rests && node.waits);
            if is_end {
                *ends.entry(properties::how_it_ended(world)).or_default() += 1;
                if let Err(broken) = properties::end(world) {
                    report.worlds = known.len();
                    report.broken = Some((broken, story(model, budget, &known, *print, None)));
                    return report;
                }
            }
        }
        level = next_level;
        report.depth += 1;
    }
    report.worlds = known.len();
    report.ends = ends.into_iter().collect();
    report.ends.sort();
    report.broken = never_ends(&known).map(|print| {
        let broken = broken(0, "left alone, it never ends and waits for nobody");
        (broken, story(model, budget, &known, print, None))
    });
    report
}

fn expand(model: &Model<'_>, from: Fingerprint, world: &World, known: &HashMap<Fingerprint, Known>) -> Expanded {
    let mut expanded = Expanded {
        from,
        calm: None,
        waits: true,
        nexts: vec![],
        steps: 0,
        broken: None,
    };
    for next in model.nexts(world) {
        expanded.steps += 1;
        match next.outcome {
            Err(broken) => {
                expanded.broken = Some((broken, next.action));
                return expanded;
            }
            Ok(world) => {
                let print = fingerprint::of(&world);
                if print == from {
                    continue;
                }
                let is_calm = next.action.is_calm();
                if is_calm && expanded.calm.is_none() {
                    expanded.calm = Some(print);
                    expanded.waits = matches!(next.action, Action::Tick(_));
                }
                if !known.contains_key(&print) {
                    expanded.nexts.push((print, next.action, world));
                }
            }
        }
    }
    expanded
}

/// A world whose calm path does not lead to one that rests for good.
fn never_ends(known: &HashMap<Fingerprint, Known>) -> Option<Fingerprint> {
    let mut ends: HashMap<Fingerprint, bool> = HashMap::with_capacity(known.len());
    for print in known.keys() {
        let mut path = Vec::new();
        let mut at = *print;
        let verdict = loop {
            if let Some(verdict) = ends.get(&at) {
                break *verdict;
            }
            if let Some(begins) = path.iter().position(|on_path| *on_path == at) {
                // Time goes by, and nothing else: it rests all the while, or it never comes to rest.
                break path
                    .iter()
                    .skip(begins)
                    .all(|at| known.get(at).is_some_and(|node| node.rests));
            }
            let node = known.get(&at)?;
            path.push(at);
            match node.calm {
                None => break node.rests,
                Some(next) => at = next,
            }
        };
        for at in path {
            ends.insert(at, verdict);
        }
    }
    // The one that is told is the one whose calm path leads straight into the loop, so that its story is short.
    ends.into_iter().find(|(_, ends)| !ends).map(|(print, _)| print)
}

/// How a world was reached, step by step, each with where the rollout stands then.
fn story(
    model: &Model<'_>,
    budget: Budget,
    known: &HashMap<Fingerprint, Known>,
    to: Fingerprint,
    last: Option<Action>,
) -> String {
    let mut actions: Vec<Action> = last.into_iter().collect();
    let mut at = to;
    while let Some((from, action)) = known.get(&at).and_then(|node| node.from) {
        actions.push(action);
        at = from;
    }
    actions.reverse();
    let mut world = World::new(budget);
    let mut lines = Vec::new();
    for action in actions {
        match model.apply(&world, action) {
            Ok(Some(next)) => world = next,
            Ok(None) => lines.push("(this step cannot be taken again)".to_owned()),
            Err(broken) => lines.push(format!("{broken:?}")),
        }
        lines.push(format!("{action:?}: {}", world.line()));
    }
    if last.is_none() {
        lines.push("and calmly on:".to_owned());
        let begins = lines.len();
        for _ in 0..200 {
            let here = fingerprint::of(&world);
            let calm = model.nexts(&world).into_iter().find(|next| {
                let moves = next.outcome.as_ref().is_ok_and(|after| fingerprint::of(after) != here);
                next.action.is_calm() && moves
            });
            let Some(next) = calm else { break };
            let Ok(after) = next.outcome else { break };
            lines.push(format!("{:?}: {}", next.action, after.line()));
            world = after;
        }
        let ends = lines.len().saturating_sub(20).max(begins);
        lines.drain(begins..ends);
    }
    lines.join("\n")
}
