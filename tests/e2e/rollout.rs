//! Stories of rollouts: a canary revision is committed, and everything else follows. Each has an environment and a Serin of
//! its own.

mod adopted;
mod alerted;
mod blue_green;
mod contested;
mod dashboards;
mod delivered;
mod documented;
mod ends;
mod exit_codes;
mod faults;
mod frozen;
mod hooks;
mod in_sync;
mod inside;
mod kinds;
mod lost_pods;
mod page;
mod preflight;
mod readers;
mod refused;
mod replayed;
mod replicas;
mod report;
mod repository;
mod shards;
pub(crate) mod site;
mod steered;
mod told;
mod trail;
mod verdicts;
pub(crate) mod witness;

use crate::story::Story;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        // The longest first: what begins last runs alone in the end.
        Story::new(
            "two_minutes_without_prometheus_hold_the_weight_and_blame_nobody",
            faults::sits_an_outage_out,
        ),
        Story::new("promotes_a_change_of_configuration_alone", ends::promotes_configuration),
        Story::new("a_controller_that_is_killed_goes_on_where_it_was", faults::is_killed),
        Story::new(
            "an_outage_of_both_arms_holds_and_blames_nobody",
            verdicts::blames_nobody,
        ),
        Story::new("weight_follows_the_canary_pods_that_are_left", lost_pods::story),
        Story::new(
            "every_command_of_the_documents_for_operators_does_what_they_say",
            documented::story,
        ),
        Story::new(
            "a_route_that_stands_in_git_keeps_all_but_the_two_weights",
            adopted::route,
        ),
        Story::new(
            "every_panel_of_the_dashboards_has_data_after_a_good_and_a_bad_revision",
            dashboards::story,
        ),
        Story::new(
            "commands_are_carried_out_for_those_who_may_and_say_whose_they_were",
            steered::by_people,
        ),
        Story::new(
            "a_sync_window_keeps_a_rollbacks_commit_waiting_and_its_traffic_away_until_people_or_time_let_it_through",
            frozen::story,
        ),
        Story::new(
            "prometheus_gone_takes_the_traffic_away_without_a_commit",
            faults::loses_sight,
        ),
        Story::new(
            "an_abort_does_not_wait_for_a_prometheus_that_does_not_answer",
            faults::aborts_without_an_answer,
        ),
        Story::new(
            "pods_that_are_lost_take_their_traffic_with_them_while_prometheus_does_not_answer",
            faults::loses_pods_without_an_answer,
        ),
        Story::new(
            "a_follower_takes_over_from_a_leader_that_sleeps_stops_or_dies_and_no_leader_writes_late",
            replicas::follow,
        ),
        Story::new(
            "promotes_and_rolls_back_over_linkerds_own_http_route",
            kinds::linkerds_own,
        ),
        Story::new(
            "replicas_share_shards_and_one_that_dies_joins_or_counts_otherwise_costs_no_commit_and_brings_no_second",
            shards::share,
        ),
        Story::new(
            "argo_cd_brings_canary_promotion_and_rollback_heals_drift_and_is_never_out_of_sync_with_what_it_applied",
            in_sync::story,
        ),
        Story::new("promotes_and_rolls_back_over_an_http_route", kinds::http),
        Story::new(
            "finds_a_revision_that_breaks_in_the_third_step_only",
            verdicts::finds_late_failures,
        ),
        Story::new(
            "a_job_and_somebody_who_is_asked_hold_a_rollout_up_once_for_each_occasion",
            hooks::story,
        ),
        Story::new(
            "finds_revisions_that_fail_half_a_twentieth_or_one_kind_of_their_calls",
            verdicts::finds_failures,
        ),
        Story::new(
            "nonsense_from_prometheus_raises_nothing_and_an_api_server_that_is_gone_is_waited_for",
            faults::hears_nonsense,
        ),
        Story::new(
            "a_split_that_no_client_sees_passes_no_step_until_the_clients_are_restarted",
            kinds::split,
        ),
        Story::new("promotes_a_good_revision", ends::promotes),
        Story::new(
            "a_split_of_the_first_version_rolls_back_and_promotes",
            kinds::first_split,
        ),
        Story::new(
            "a_newer_revision_takes_the_place_of_the_one_on_trial",
            ends::gives_way_to_a_newer_revision,
        ),
        Story::new(
            "a_promotion_reaches_the_cluster_by_way_of_hydrated_manifests",
            delivered::hydrated,
        ),
        Story::new(
            "a_browser_watches_a_promotion_and_a_rollback_from_start_to_end",
            page::watched,
        ),
        Story::new(
            "the_page_is_read_in_the_dark_by_keyboard_by_ear_and_on_a_phone",
            readers::story,
        ),
        Story::new("every_line_of_the_preflight_passes_and_does_not_pass", preflight::lines),
        Story::new(
            "finds_revisions_that_are_half_as_slow_again_or_three_times_as_slow_as_stable",
            verdicts::finds_slowness,
        ),
        Story::new(
            "finds_a_revision_that_fails_one_call_in_a_hundred",
            verdicts::finds_one_in_a_hundred,
        ),
        Story::new(
            "testers_are_judged_at_weight_0_then_everything_goes_over_and_dead_pods_fail_no_call",
            blue_green::story,
        ),
        Story::new(
            "a_deleted_rollout_leaves_all_traffic_on_stable",
            ends::is_deleted_mid_way,
        ),
        Story::new("rolls_back_when_calls_fail", ends::rolls_back_on_errors),
        Story::new("finds_one_bad_pod_and_says_which", verdicts::finds_a_bad_pod),
        Story::new(
            "rolls_back_when_the_latency_objective_breaks",
            ends::rolls_back_on_latency,
        ),
        Story::new(
            "a_canary_that_is_never_ready_gets_no_traffic_and_is_rolled_back",
            ends::is_never_ready,
        ),
        Story::new("a_rollback_reaches_the_cluster_by_flux", delivered::by_flux),
        Story::new(
            "streams_stay_where_they_are_which_is_said_and_a_maximum_age_moves_them",
            blue_green::streams,
        ),
        Story::new(
            "a_token_that_is_rotated_while_a_rollback_waits_takes_effect_by_itself",
            repository::rotates_a_token,
        ),
        Story::new(
            "a_canary_that_turns_bad_while_the_api_server_is_gone_loses_its_traffic_when_it_is_back",
            faults::turns_bad_while_the_api_server_is_gone,
        ),
        Story::new(
            "counters_of_the_users_own_judge_once_they_can_be_read",
            verdicts::judges_by_users_metrics,
        ),
        Story::new(
            "a_rollback_that_a_protected_branch_refuses_lands_by_a_pull_request",
            repository::lands_by_a_pull_request,
        ),
        Story::new(
            "a_replay_of_a_finished_rollout_ends_as_the_rollout_did",
            replayed::finished,
        ),
        Story::new(
            "without_traffic_nothing_is_proven_and_nothing_goes_on",
            verdicts::waits_for_traffic,
        ),
        Story::new(
            "weights_that_somebody_else_raises_are_lowered_and_he_is_named",
            contested::weights,
        ),
        Story::new(
            "a_start_that_could_not_work_is_refused_until_it_is_mended",
            preflight::refuses,
        ),
        Story::new("returning_to_stables_revision_triggers_nothing", ends::withdraws),
        Story::new(
            "an_incident_is_replayed_from_prometheus_and_from_its_recording",
            replayed::incident_story,
        ),
        Story::new("the_program_ends_with_each_code_of_its_document", exit_codes::story),
        Story::new(
            "a_spec_that_makes_no_sense_is_said_touches_nothing_and_pauses_what_runs",
            refused::specs,
        ),
        Story::new(
            "a_real_alertmanager_takes_each_problem_knows_it_again_and_lets_go_of_it",
            alerted::takes_each_problem,
        ),
        Story::new(
            "revision_create_says_what_is_wrong_and_pushes_nothing",
            refused::revision_create,
        ),
    ]
}
