//! A pod's status out of what its containers do. Pure; it must not know how the status is written.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::container::{End, Run, View};

/// All that the status is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) uid: &'a str,
    pub(super) ip: Ipv4Addr,
    pub(super) since: Timestamp,
    /// The pod is being deleted: it is no longer ready, whatever its probes say.
    pub(super) terminating: bool,
    pub(super) containers: Vec<(&'a Container, &'a View)>,
}

/// The status as of now. Conditions that did not change keep the time of `before`.
pub(super) fn build(facts: &Facts<'_>, before: &[PodCondition], now: Timestamp) -> PodStatus {
    let ready = !facts.terminating && facts.containers.iter().all(|(_, view)| view.ready);
    let unready = if facts.terminating {
        "PodTerminating"
    } else {
        "ContainersNotReady"
    };
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|c| c.type_ == kind && c.status == status);
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: (!holds).then(|| unready.to_owned()),
            last_transition_time: old.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            ..PodCondition::default()
        }
    };
    let address = facts.ip.to_string();
    PodStatus {
        phase: Some(phase(&facts.containers).to_owned()),
        conditions: Some(vec![
            condition("PodReadyToStartContainers", true),
            condition("Initialized", true),
            condition("Ready", ready),
            condition("ContainersReady", ready),
            condition("PodScheduled", true),
        ]),
        host_ip: Some(address.clone()),
        host_ips: Some(vec![HostIP { ip: address.clone() }]),
        pod_ip: Some(address.clone()),
        pod_ips: Some(vec![PodIP { ip: address }]),
        start_time: Some(Time(facts.since)),
        container_statuses: Some(
            facts
                .containers
                .iter()
                .map(|(c, view)| container(facts, c, view))
                .collect(),
        ),
        ..PodStatus::default()
    }
}

fn phase(containers: &[(&Container, &View)]) -> &'static str {
    let views = || containers.iter().map(|(_, view)| *view);
    let ended = |view: &View| match &view.run {
        Run::Ended(end) if view.done => Some(end.code),
        _ => None,
    };
    if views().all(|view| ended(view).is_some()) {
        return if views().all(|view| ended(view) == Some(0)) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let has_run = |view: &View| view.last.is_some() || !matches!(view.run, Run::Waiting { .. });
    if views().all(has_run) { "Running" } else { "Pending" }
}

fn container(facts: &Facts<'_>, container: &Container, view: &View) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let runs = matches!(view.run, Run::Running { .. });
    let id = format!("process://{}/{}/{}", facts.uid, container.name, view.restarts);
    ContainerStatus {
        name: container.name.clone(),
        image_id: if runs { image.clone() } else { String::new() },
        image,
        container_id: runs.then_some(id),
        ready: view.ready && !facts.terminating,
        started: Some(view.started),
        restart_count: view.restarts,
        state: Some(state(&view.run)),
        last_state: view.last.as_ref().map(terminated),
        ..ContainerStatus::default()
    }
}

fn state(run: &Run) -> ContainerState {
    match run {
        Run::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some((*reason).to_owned()),
                message: Some(message.clone()).filter(|m| !m.is_empty()),
            }),
            ..ContainerState::default()
        },
        Run::Running { since } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        Run::Ended(end) => terminated(end),
    }
}

fn terminated(end: &End) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: end.code,
            signal: end.signal,
            reason: Some(end.reason.to_owned()),
            started_at: Some(Time(end.started)),
            finished_at: Some(Time(end.finished)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn running(ready: bool) -> View {
        View {
            run: Run::Running { since: at(1) },
            started: true,
            ready,
            ..View::new()
        }
    }

    fn ended(code: i32) -> View {
        let end = End {
            code,
            signal: None,
            reason: "Error",
            started: at(1),
            finished: at(2),
        };
        View {
            run: Run::Ended(end),
            done: true,
            ..View::new()
        }
    }

    fn status(views: &[View], terminating: bool, before: &[PodCondition], now: i64) -> PodStatus {
        let container = Container {
            name: "a".to_owned(),
            ..Container::default()
        };
        let facts = Facts {
            uid: "u",
            ip: Ipv4Addr::new(127, 20, 1, 1),
            since: at(0),
            terminating,
            containers: views.iter().map(|view| (&container, view)).collect(),
        };
        build(&facts, before, at(now))
    }

    fn ready(status: &PodStatus) -> &PodCondition {
        status
            .conditions
            .as_ref()
            .unwrap()
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap()
    }

    #[test]
    fn a_pod_is_ready_when_all_containers_are() {
        assert_eq!(
            ready(&status(&[running(true), running(true)], false, &[], 5)).status,
            "True"
        );
        assert_eq!(
            ready(&status(&[running(true), running(false)], false, &[], 5)).status,
            "False"
        );
    }

    #[test]
    fn a_pod_that_is_deleted_is_not_ready_though_it_runs() {
        let status = status(&[running(true)], true, &[], 5);
        assert_eq!(ready(&status).status, "False");
        assert_eq!(status.phase.unwrap(), "Running");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let first = status(&[running(true)], false, &[], 5);
        let same = status(&[running(true)], false, first.conditions.as_ref().unwrap(), 6);
        let other = status(&[running(false)], false, first.conditions.as_ref().unwrap(), 7);
        assert_eq!(ready(&same).last_transition_time, Some(Time(at(5))));
        assert_eq!(ready(&other).last_transition_time, Some(Time(at(7))));
    }

    #[test]
    fn the_phase_follows_the_containers() {
        let phase = |views: &[View]| status(views, false, &[], 5).phase.unwrap();
        assert_eq!(phase(&[View::new()]), "Pending");
        assert_eq!(phase(&[running(false)]), "Running");
        assert_eq!(phase(&[ended(0)]), "Succeeded");
        assert_eq!(phase(&[ended(0), ended(3)]), "Failed");
        assert_eq!(phase(&[running(true), ended(0)]), "Running");
    }
}
