//! Stories of the lab itself: that its parts are what they claim to be. They must not know the controller.

mod argocd;
mod charts;
mod cluster;
mod control;
mod kubectl;
mod mesh;
pub(crate) mod networks;
mod pods;
mod repositories;
mod services;
mod side_by_side;
mod versions;

use crate::story::Story;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("lab_argocd_makes_the_environments_of_a_set", argocd::makes_environments),
        Story::new("lab_argocd_applies_what_is_in_git_when_asked", argocd::applies),
        Story::new("lab_argocd_heals_drift_and_keeps_ignored_fields", argocd::heals),
        Story::new("lab_argocd_prunes_what_is_gone_from_git", argocd::prunes),
        Story::new("lab_argocd_says_what_is_broken_and_recovers", argocd::recovers),
        Story::new("lab_argocd_keeps_its_projects_sync_windows", argocd::windows::keeps),
        Story::new("charts_render_as_reviewed_and_are_taken", charts::render_as_reviewed),
        Story::new("charts_take_every_option", charts::take_every_option),
        Story::new(
            "charts_take_every_option_of_serins",
            charts::take_every_option_of_serins,
        ),
        Story::new("charts_make_restricted_pods", charts::make_restricted_pods),
        Story::new("lab_a_deployment_gets_ready_rolls_over_and_goes", pods::rolls_over),
        Story::new(
            "lab_an_unknown_image_waits_until_it_is_there",
            pods::waits_for_its_image,
        ),
        Story::new("lab_a_killed_pod_is_restarted", pods::is_restarted),
        Story::new("lab_probes_are_obeyed", pods::obeys_probes),
        Story::new("lab_probes_of_every_kind_are_asked", pods::asks_every_way),
        Story::new("lab_a_job_comes_to_its_end", pods::ends),
        Story::new("lab_kubectl_reads_the_logs_of_a_pods_runs", kubectl::reads_logs),
        Story::new("lab_kubectl_forwards_ports_to_pods", kubectl::forwards_ports),
        Story::new(
            "lab_only_the_right_token_reaches_the_repository",
            repositories::asks_for_a_token,
        ),
        Story::new(
            "lab_of_two_pushes_at_once_one_is_refused",
            repositories::refuses_one_of_two_pushes,
        ),
        Story::new("lab_a_hook_or_an_outage_stops_a_push", repositories::stops_pushes),
        Story::new(
            "lab_prometheus_scrapes_meshed_pods_with_linkerds_labels",
            services::scrapes,
        ),
        Story::new(
            "lab_prometheus_comes_back_on_its_port_with_its_data",
            services::survives_an_outage,
        ),
        Story::new(
            "lab_a_service_account_may_do_what_it_is_allowed_and_the_audit_log_tells",
            services::is_audited,
        ),
        Story::new(
            "lab_the_mesh_splits_calls_as_the_route_says_and_counts_them",
            mesh::splits,
        ),
        Story::new(
            "lab_a_client_of_linkerds_own_api_is_told_what_the_objects_say",
            control::tells,
        ),
        Story::new(
            "lab_pods_in_networks_of_their_own_are_reached_by_the_proxy_beside_them",
            networks::are_apart,
        ),
        Story::new(
            "a_next_version_of_the_definition_takes_along_what_is_stored_and_the_old_one_goes",
            versions::moves_on,
        ),
        Story::new("lab_the_kinds_of_others_are_served", services::serves_kinds),
        Story::new(
            "lab_a_second_lab_runs_beside_it_over_a_cluster_that_is_there",
            side_by_side::uses_a_cluster_that_is_there,
        ),
        Story::new("lab_nothing_outlives_a_lab_that_is_killed", services::leaves_nothing),
    ]
}
