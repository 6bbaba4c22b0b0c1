use serde_json::{Value, json};

use super::*;

fn access(text: &str) -> Access {
    serde_saphyr::from_str(text).unwrap()
}

fn rollout(namespace: &str, name: &str, created: &str, git: &Value) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {
            "service": {"name": name, "port": 80}, "stable": {"deployment": name},
            "canary": {"deployment": format!("{name}-canary")}, "git": git,
        },
    }))
    .unwrap()
}

fn git(repository: &str, path: &str) -> Value {
    json!({"repository": repository, "path": path})
}

fn checked(access: &Access, namespace: &str, git: &Value) -> Result<(), FieldError> {
    let rollout = rollout(namespace, "web", "2026-01-01T00:00:00Z", git);
    let layout = parse(&rollout.spec).unwrap().layout;
    access.check(namespace, &rollout.spec.git, &layout)
}

const LIST: &str = "
allow:
  - namespaces: [shop-*]
    repository: https://git.example.com/platform/config.git
    branches: [main, release/*]
    paths: [envs/prod-*, shared/web.yaml]
  - {namespaces: [lab], repository: 'https://git.example.com/*/*'}
";

#[test]
fn without_a_list_everything_is_allowed() {
    assert_eq!(checked(&Access::default(), "any", &git("https://h/x", "p")), Ok(()));
    assert!(
        checked(&access("allow: []"), "any", &git("https://h/x", "p")).is_err(),
        "an empty list allows nothing"
    );
}

#[test]
fn a_list_names_the_field_that_a_namespace_may_not_have() {
    let list = access(LIST);
    let config = "https://git.example.com/platform/config.git";
    let field = |namespace: &str, git: &Value| checked(&list, namespace, git).map_err(|error| error.field);
    for path in ["envs/prod-eu", "envs/prod-eu/web", "./envs/prod-us/"] {
        assert_eq!(field("shop-a", &git(config, path)), Ok(()), "{path}");
    }
    let with = |more: Value| {
        let mut all = git(config, "envs/prod-eu");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(field("shop-a", &with(json!({"branch": "release/2"}))), Ok(()));
    let shared = with(json!({"path": "shared", "helm": {"file": "web.yaml"}}));
    assert_eq!(field("shop-a", &shared), Ok(()));
    assert_eq!(
        field("lab", &git("https://git.example.com/me/mine", "anywhere")),
        Ok(())
    );

    let repository = Err("spec.git.repository".to_owned());
    assert_eq!(
        field("shop", &git(config, "envs/prod-eu")),
        repository,
        "another namespace"
    );
    assert_eq!(
        field("shop-a", &git("https://git.example.com/platform/other", "envs/prod-eu")),
        repository
    );
    assert_eq!(
        field("lab", &git("https://git.example.com/a/../platform/config.git", "x")),
        repository
    );
    assert_eq!(
        field("shop-a", &with(json!({"branch": "mainly"}))),
        Err("spec.git.branch".to_owned())
    );
    let path = Err("spec.git.path".to_owned());
    for outside in ["envs", "envs/staging", "other"] {
        assert_eq!(field("shop-a", &git(config, outside)), path, "{outside}");
    }
    let escapes = with(json!({"helm": {"file": "../staging/values.yaml"}}));
    assert_eq!(field("shop-a", &escapes), path);
    let half = with(json!({"path": "envs", "kustomize": {"stable": "prod-eu/k.yaml", "canary": "dev/k.yaml"}}));
    assert_eq!(field("shop-a", &half), path, "both files have to be allowed");
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    for text in [
        "allow: [{namespaces: [a]}]",
        "alow: []",
        "allow: [{namespaces: [a], repository: x, path: y}]",
    ] {
        assert!(serde_saphyr::from_str::<Access>(text).is_err(), "{text}");
    }
}

fn second(one: &Value, two: &Value) -> Result<(), FieldError> {
    let one = rollout("a", "one", "2026-01-01T00:00:00Z", one);
    let two = rollout("b", "two", "2026-01-02T00:00:00Z", two);
    let layout = |rollout: &CanaryRollout| parse(&rollout.spec).unwrap().layout;
    let all = [&one, &two];
    let open = Access::default();
    assert_eq!(taken(&open, &one, &layout(&one), all), Ok(()), "the older one goes on");
    taken(&open, &two, &layout(&two), all)
}

#[test]
fn of_two_rollouts_on_one_subtree_the_later_one_is_refused_and_told_the_others_name() {
    let values = |stable: &str, canary: &str| {
        json!({
            "repository": "https://Git.example.com/platform/config.git", "path": "envs/prod",
            "helm": {"stable": stable, "canary": canary},
        })
    };
    let error = second(&values("stable", "canary"), &values("stable", "canary")).unwrap_err();
    assert!(
        error.to_string().contains("a/one") && error.field == "spec.git.path",
        "{error}"
    );
    assert!(
        second(
            &values("web.stable", "web.canary"),
            &values("other.stable", "web.canary")
        )
        .is_err()
    );
    assert!(
        second(&values("web.stable", "web.canary"), &values("web", "canary")).is_err(),
        "one contains the other"
    );
    assert_eq!(
        second(&values("a.stable", "a.canary"), &values("b.stable", "b.canary")),
        Ok(())
    );

    let by_ssh = json!({"repository": "git@git.example.com:platform/config", "path": "envs", "helm": {"file": "prod/values.yaml"}});
    assert!(
        second(&values("stable", "canary"), &by_ssh).is_err(),
        "another way to the same file"
    );
    let mut elsewhere = values("stable", "canary");
    elsewhere["branch"] = json!("next");
    assert_eq!(second(&values("stable", "canary"), &elsewhere), Ok(()));

    let overlays = |canary: &str| {
        json!({
            "repository": "https://git.example.com/platform/config.git", "path": "envs/prod",
            "kustomize": {"stable": "stable/kustomization.yaml", "canary": canary},
        })
    };
    assert!(second(&overlays("a/kustomization.yaml"), &overlays("b/kustomization.yaml")).is_err());
    assert_eq!(
        second(&overlays("a/kustomization.yaml"), &values("stable", "canary")),
        Ok(())
    );
}

#[test]
fn a_rollout_that_may_not_write_there_keeps_nobody_away() {
    let list = access("allow: [{namespaces: [b], repository: 'https://h/x'}]");
    let [one, two] = [("a", "2026-01-01T00:00:00Z"), ("b", "2026-01-02T00:00:00Z")]
        .map(|(namespace, created)| rollout(namespace, "web", created, &git("https://h/x", "p")));
    let layout = parse(&two.spec).unwrap().layout;
    assert_eq!(taken(&list, &two, &layout, [&one, &two]), Ok(()));
    assert!(taken(&Access::default(), &two, &layout, [&one, &two]).is_err());
}

#[test]
fn hosts_alone_are_no_allow_list() {
    let text = "hosts: [{host: git.example.com, kind: GitLab, api: https://git.example.com/api/v4}]";
    let access: Access = serde_saphyr::from_str(text).unwrap();
    assert_eq!((access.allow, access.hosts.len()), (None, 1));
    let unknown = "hosts: [{host: git.example.com, kind: Gitea, api: https://git.example.com}]";
    assert!(serde_saphyr::from_str::<Access>(unknown).is_err());
}
