//! Each line has a case in which it passes (the sound facts) and cases in which it does not.

use serde_json::{Value, json};

use super::*;

fn deployment(name: &str, track: &str) -> Value {
    let labels = json!({ "app": "web", "track": track });
    json!({
        "metadata": { "name": name },
        "spec": { "replicas": 3, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels, "annotations": { "linkerd.io/inject": "enabled" } },
        } },
    })
}

fn service(name: &str, track: &str) -> Value {
    json!({
        "metadata": { "name": name, "annotations": {} },
        "spec": { "selector": { "app": "web", "track": track }, "ports": [{ "port": 50051 }] },
    })
}

fn route(kind: &str, group: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{group}/v1"), "kind": kind,
        "metadata": { "name": name, "namespace": "prod", "managedFields": [{ "manager": "serin", "fieldsV1": { "f:spec": { "f:rules": {} } } }] },
        "spec": { "parentRefs": [{ "group": "core", "kind": "Service", "name": "web", "port": 50051 }] },
        "status": { "parents": [{
            "controllerName": "linkerd.io/policy-controller", "parentRef": { "name": "web" },
            "conditions": [{ "type": "Accepted", "status": "True" }, { "type": "ResolvedRefs", "status": "True" }],
        }] },
    })
}

const GATEWAY: &str = "gateway.networking.k8s.io";

fn sound() -> Facts {
    let labels = "namespace deployment pod pod_template_hash direction srv_port classification";
    Facts {
        namespace: "prod".to_owned(),
        apex: "web".to_owned(),
        port: 50_051,
        stable: "web".to_owned(),
        canary: "web-canary".to_owned(),
        stable_service: "web-stable".to_owned(),
        canary_service: "web-canary".to_owned(),
        external_capacity: false,
        scrape_seconds: 10.0,
        route: Route {
            kind: "GRPCRoute".to_owned(),
            group: GATEWAY.to_owned(),
            name: "web".to_owned(),
            adopted: false,
        },
        versions: Ok(vec![format!("{GATEWAY}/v1")]),
        namespace_object: Ok(json!({ "metadata": { "name": "prod" } })),
        services: Ok(vec![
            service("web", "stable"),
            service("web-stable", "stable"),
            service("web-canary", "canary"),
        ]),
        deployments: Ok(vec![deployment("web", "stable"), deployment("web-canary", "canary")]),
        pods: Ok(vec![json!({
            "metadata": { "name": "web-1", "labels": { "app": "web", "track": "stable" } },
            "spec": { "initContainers": [{ "name": "linkerd-proxy" }] }, "status": { "phase": "Running" },
        })]),
        profiles: Ok(vec![]),
        routes: Ok(vec![route("GRPCRoute", GATEWAY, "web")]),
        autoscalers: Ok(vec![]),
        budgets: Ok(vec![]),
        quotas: Ok(vec![]),
        ingresses: Ok(vec![]),
        application: Some(Ok(json!({ "spec": {
            "ignoreDifferences": [{ "group": "apps", "kind": "Deployment", "name": "web-canary", "jsonPointers": ["/spec/replicas"] }],
            "syncPolicy": { "syncOptions": ["RespectIgnoreDifferences=true"] },
        } }))),
        sight: Ok(Sight {
            here: 1_000.0,
            there: 1_000.5,
            proxies: vec![Proxy {
                pod: "web-1".to_owned(),
                scraped: 995.0,
            }],
            labels: labels.split(' ').map(str::to_owned).collect(),
            unmeshed: Some(0.0),
        }),
    }
}

/// The lines that do not pass, after this edit.
fn after(edit: impl FnOnce(&mut Facts)) -> Vec<Line> {
    let mut facts = sound();
    edit(&mut facts);
    let mut lines = check(&facts);
    lines.retain(|line| line.status != Status::Pass);
    lines
}

/// Exactly one line does not pass, in this way, and its reason has these words.
#[track_caller]
fn one(status: Status, words: &str, edit: impl FnOnce(&mut Facts)) {
    let lines = after(edit);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0].status, status, "{lines:#?}");
    assert!(lines[0].why.as_ref().unwrap().contains(words), "{lines:#?}");
    assert!(lines[0].todo.is_some(), "{lines:#?}");
}

fn set(objects: &mut Read<Vec<Value>>, index: usize, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    objects.as_mut().unwrap()[index].pointer_mut(parent).unwrap()[field.replace("~1", "/")] = value;
}

#[test]
fn all_lines_pass_where_all_is_sound() {
    assert_eq!(after(|_| {}), []);
    assert!(check(&sound()).len() >= 20);
}

#[test]
fn the_api_is_checked() {
    one(Status::Fail, "no version", |f| f.versions = Ok(vec![]));
    one(Status::Warn, "could not be read", |f| {
        f.versions = Err("forbidden".to_owned());
    });
}

#[test]
fn services_are_checked() {
    one(Status::Fail, "has no port 50051", |f| {
        set(&mut f.services, 0, "/spec/ports", json!([{ "port": 1 }]));
    });
    one(Status::Fail, "no such Service", |f| {
        drop(f.services.as_mut().unwrap().remove(0));
    });
    one(Status::Fail, "web-canary too", |f| {
        set(&mut f.services, 0, "/spec/selector", json!({ "app": "web" }));
    });
    one(Status::Fail, "does not select the pods", |f| {
        set(&mut f.services, 0, "/spec/selector", json!({ "app": "x" }));
    });
    one(Status::Fail, "arm's pods", |f| {
        set(&mut f.services, 2, "/spec/selector", json!({ "track": "stable" }));
    });
    assert_eq!(
        after(|f| set(&mut f.services, 2, "/spec/selector/pod-template-hash", json!("a"))),
        [],
        "a pin is no fault"
    );
    assert_eq!(
        after(|f| f.services.as_mut().unwrap().truncate(1)),
        [],
        "the arms' are made later"
    );
    one(Status::Fail, "none of this name", |f| {
        drop(f.deployments.as_mut().unwrap().remove(1));
    });
}

#[test]
fn meshing_is_checked() {
    let annotations = "/spec/template/metadata/annotations";
    one(Status::Fail, "asks for a proxy", |f| {
        set(&mut f.deployments, 1, annotations, json!({}));
    });
    one(Status::Fail, "disabled", |f| {
        set(
            &mut f.deployments,
            0,
            annotations,
            json!({ "linkerd.io/inject": "disabled" }),
        );
    });
    let by_namespace = |f: &mut Facts| {
        set(&mut f.deployments, 1, annotations, json!({}));
        f.namespace_object = Ok(json!({ "metadata": { "annotations": { "linkerd.io/inject": "enabled" } } }));
    };
    assert_eq!(after(by_namespace), []);
    let by_hand = |f: &mut Facts| {
        set(&mut f.deployments, 1, annotations, json!({}));
        set(
            &mut f.deployments,
            1,
            "/spec/template/spec",
            json!({ "initContainers": [{ "name": "linkerd-proxy" }] }),
        );
    };
    assert_eq!(after(by_hand), []);
    one(Status::Warn, "12.5 %", |f| {
        f.sight.as_mut().unwrap().unmeshed = Some(0.125);
    });
    one(Status::Warn, "without a proxy in this namespace: cron-1", |f| {
        f.sight.as_mut().unwrap().unmeshed = Some(0.125);
        let bare = json!({ "metadata": { "name": "cron-1" }, "status": { "phase": "Running" } });
        f.pods.as_mut().unwrap().push(bare);
    });
}

#[test]
fn an_ingress_has_to_call_the_apex_and_not_its_pods() {
    let ingress = |service: &str, annotations: Value| {
        let backend = json!({ "service": { "name": service, "port": { "number": 50051 } } });
        json!({
            "metadata": { "name": "public", "annotations": annotations },
            "spec": { "rules": [{ "http": { "paths": [{ "path": "/", "backend": backend }] } }] },
        })
    };
    one(Status::Warn, "public does not say", |f| {
        f.ingresses = Ok(vec![ingress("web", json!({}))]);
    });
    one(Status::Warn, "calls web-stable, past the route", |f| {
        f.ingresses = Ok(vec![ingress("web-stable", json!({}))]);
    });
    let upstream = json!({ "nginx.ingress.kubernetes.io/service-upstream": "true" });
    assert_eq!(after(|f| f.ingresses = Ok(vec![ingress("web", upstream)])), []);
    let by_service = |f: &mut Facts| {
        f.ingresses = Ok(vec![ingress("web", json!({}))]);
        let native = json!({ "traefik.ingress.kubernetes.io/service.nativelb": "true" });
        set(&mut f.services, 0, "/metadata/annotations", native);
    };
    assert_eq!(after(by_service), []);
    assert_eq!(after(|f| f.ingresses = Ok(vec![ingress("shop", json!({}))])), []);
}

#[test]
fn a_service_profile_makes_weights_inert_but_not_those_of_a_split() {
    let profile = |spec: &Value| json!({ "metadata": { "namespace": "clients", "name": "web.prod.svc.cluster.local" }, "spec": spec });
    let routes = || Ok(vec![profile(&json!({ "routes": [{ "name": "r" }] }))]);
    one(Status::Fail, "clients/web.prod.svc.cluster.local", |f| {
        f.profiles = routes();
    });
    one(Status::Fail, "dstOverrides", |f| {
        f.profiles = Ok(vec![profile(&json!({ "dstOverrides": [{}] }))]);
    });
    assert_eq!(
        after(|f| f.profiles = Ok(vec![profile(&json!({ "retryBudget": {} }))])),
        []
    );
    let split = |f: &mut Facts| {
        f.profiles = routes();
        f.route.kind = "TrafficSplit".to_owned();
        f.route.group = "split.smi-spec.io".to_owned();
        f.routes = Ok(vec![]);
    };
    assert_eq!(after(split), []);
}

#[test]
fn another_route_of_the_apex_is_weighed_by_its_kind() {
    let add = |kind: &'static str| move |f: &mut Facts| f.routes.as_mut().unwrap().push(route(kind, GATEWAY, "other"));
    one(Status::Warn, "no effect", add("HTTPRoute"));
    one(Status::Fail, "same kind", add("GRPCRoute"));
    one(Status::Fail, "goes before", |f| {
        f.route.kind = "HTTPRoute".to_owned();
        f.routes = Ok(vec![
            route("HTTPRoute", GATEWAY, "web"),
            route("GRPCRoute", GATEWAY, "other"),
        ]);
    });
    let elsewhere = |f: &mut Facts| {
        add("GRPCRoute")(f);
        set(&mut f.routes, 1, "/spec/parentRefs/0/name", json!("shop"));
    };
    assert_eq!(after(elsewhere), []);
    let of_clients = |parent_namespace: Value| {
        move |f: &mut Facts| {
            add("GRPCRoute")(f);
            set(&mut f.routes, 1, "/metadata/namespace", json!("clients"));
            set(&mut f.routes, 1, "/spec/parentRefs/0/namespace", parent_namespace);
        }
    };
    one(Status::Warn, "clients/other", of_clients(json!("prod")));
    // It speaks of a Service of the same name in its own namespace.
    assert_eq!(after(of_clients(Value::Null)), []);
}

#[test]
fn other_writers_of_the_weights_are_named() {
    for manager in ["flagger", "rollouts-controller", "argocd-controller"] {
        one(Status::Fail, manager, |f| {
            set(&mut f.routes, 0, "/metadata/managedFields/0/manager", json!(manager));
        });
    }
    let status_only = json!([{ "manager": "flagger", "fieldsV1": { "f:status": {} } }]);
    assert_eq!(
        after(|f| set(&mut f.routes, 0, "/metadata/managedFields", status_only)),
        []
    );
}

#[test]
fn what_linkerd_says_of_the_route_is_read_without_its_generation() {
    let conditions = "/status/parents/0/conditions";
    for (index, condition) in ["Accepted", "ResolvedRefs"].into_iter().enumerate() {
        one(Status::Fail, condition, |f| {
            set(
                &mut f.routes,
                0,
                &format!("{conditions}/{index}/status"),
                json!("False"),
            );
        });
    }
    one(Status::Warn, "says nothing", |f| {
        set(&mut f.routes, 0, "/status", json!({}));
    });
}

#[test]
fn annotations_on_an_arms_service_do_nothing() {
    let annotate = |index: usize, key: &'static str| {
        move |f: &mut Facts| set(&mut f.services, index, "/metadata/annotations", json!({ key: "x" }))
    };
    one(
        Status::Warn,
        "retry.linkerd.io/grpc",
        annotate(2, "retry.linkerd.io/grpc"),
    );
    one(
        Status::Warn,
        "failure-accrual",
        annotate(1, "balancer.linkerd.io/failure-accrual"),
    );
    assert_eq!(after(annotate(0, "retry.linkerd.io/grpc")), []);
    assert_eq!(after(annotate(0, "balancer.linkerd.io/failure-accrual")), []);
}

#[test]
fn metrics_are_checked() {
    one(Status::Fail, "refused", |f| {
        f.sight = Err("connection refused".to_owned());
    });
    one(Status::Fail, "web-1", |f| f.sight.as_mut().unwrap().proxies.clear());
    let ready_since = |at: &'static str| {
        move |f: &mut Facts| {
            f.sight.as_mut().unwrap().proxies.clear();
            let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": at });
            set(&mut f.pods, 0, "/status/conditions", json!([ready]));
        }
    };
    one(Status::Fail, "web-1", ready_since("1970-01-01T00:16:00Z"));
    // Nobody can have scraped it yet.
    assert_eq!(after(ready_since("1970-01-01T00:16:20Z")), []);
    one(Status::Warn, "three scrapes", |f| {
        f.sight.as_mut().unwrap().proxies[0].scraped = 900.0;
    });
    one(Status::Fail, "pod_template_hash", |f| {
        f.sight.as_mut().unwrap().labels.remove("pod_template_hash");
    });
    one(Status::Warn, "no call", |f| f.sight.as_mut().unwrap().labels.clear());
    one(Status::Fail, "99.5 s off", |f| {
        let sight = f.sight.as_mut().unwrap();
        (sight.here, sight.there) = (1_100.0, 1_000.5);
    });
}

#[test]
fn capacity_is_checked() {
    let hpa = |of: &str, least: i64, most: i64| {
        let target = json!({ "kind": "Deployment", "name": of });
        json!({ "metadata": { "name": "hpa" }, "spec": { "scaleTargetRef": target, "minReplicas": least, "maxReplicas": most } })
    };
    one(Status::Fail, "so does Serin", |f| {
        f.autoscalers = Ok(vec![hpa("web-canary", 1, 9)]);
    });
    let external = |f: &mut Facts| {
        f.autoscalers = Ok(vec![hpa("web-canary", 1, 9), hpa("web", 3, 9)]);
        f.external_capacity = true;
    };
    assert_eq!(after(external), []);
    // Its minimum is held up meanwhile, unless Argo CD sets it back.
    one(Status::Warn, "ignoreDifferences", |f| {
        f.autoscalers = Ok(vec![hpa("web", 1, 9)]);
    });
    let alone = |f: &mut Facts| {
        f.autoscalers = Ok(vec![hpa("web", 1, 9)]);
        f.application = None;
    };
    assert_eq!(after(alone), []);
    one(Status::Fail, "maxReplicas", |f| {
        f.autoscalers = Ok(vec![hpa("web", 1, 2)]);
        f.application = None;
    });
    let budget = |labels: Value| {
        Ok(vec![
            json!({ "metadata": { "name": "pdb" }, "spec": { "selector": { "matchLabels": labels } } }),
        ])
    };
    one(Status::Warn, "pdb", |f| f.budgets = budget(json!({ "app": "web" })));
    assert_eq!(after(|f| f.budgets = budget(json!({ "track": "stable" }))), []);
    let quota = |used: &str| {
        Ok(vec![
            json!({ "metadata": { "name": "q" }, "status": { "hard": { "pods": "10" }, "used": { "pods": used } } }),
        ])
    };
    one(Status::Fail, "room for 0", |f| f.quotas = quota("10"));
    one(Status::Warn, "room for 2", |f| f.quotas = quota("8"));
    assert_eq!(after(|f| f.quotas = quota("4")), []);
}

#[test]
fn argo_cd_must_leave_alone_what_is_serins() {
    one(Status::Warn, "ignoreDifferences", |f| {
        f.application = Some(Ok(json!({ "spec": {} })));
    });
    one(Status::Fail, "although", |f| {
        f.application.as_mut().unwrap().as_mut().unwrap()["spec"]["syncPolicy"] = json!({});
    });
    one(Status::Warn, "ignoreDifferences", |f| f.route.adopted = true);
    let managed = |f: &mut Facts, resources: Value| {
        f.route.adopted = true;
        f.application.as_mut().unwrap().as_mut().unwrap()["status"] = json!({ "resources": resources });
    };
    one(Status::Fail, "ignoreDifferences", |f| {
        let route = json!({ "group": f.route.group, "kind": f.route.kind, "name": f.route.name });
        managed(
            f,
            json!([{ "group": "apps", "kind": "Deployment", "name": "web" }, route]),
        );
    });
    // Somebody else applies the route.
    let elsewhere = json!([{ "group": "apps", "kind": "Deployment", "name": "web" }]);
    assert_eq!(after(|f| managed(f, elsewhere)), []);
    let ignored = |f: &mut Facts| {
        f.route.adopted = true;
        let entry = json!({ "group": GATEWAY, "kind": "GRPCRoute", "jsonPointers": ["/spec/rules"] });
        let application = f.application.as_mut().unwrap().as_mut().unwrap();
        application["spec"]["ignoreDifferences"]
            .as_array_mut()
            .unwrap()
            .push(entry);
    };
    assert_eq!(after(ignored), []);
    assert_eq!(after(|f| f.application = None), []);
}

#[test]
fn the_causes_of_strayed_calls_are_named() {
    let all = |edit: fn(&mut Facts)| {
        let mut facts = sound();
        edit(&mut facts);
        causes(&facts)
    };
    let sound = all(|_| {});
    assert!(
        matches!(sound.as_slice(), [only] if only.contains("restart the clients")),
        "{sound:?}"
    );
    for (words, edit) in [
        (
            "clients/web.prod.svc",
            (|f| {
                let name = "web.prod.svc.cluster.local";
                f.profiles = Ok(vec![
                    json!({ "metadata": { "namespace": "clients", "name": name }, "spec": { "routes": [{}] } }),
                ]);
            }) as fn(&mut Facts),
        ),
        ("50.0 % of stable's", |f| f.sight.as_mut().unwrap().unmeshed = Some(0.5)),
        ("not ready: web-1", |f| {
            set(
                &mut f.pods,
                0,
                "/status/conditions",
                json!([{ "type": "Ready", "status": "False" }]),
            );
        }),
        ("circuit breakers are set on web", |f| {
            set(
                &mut f.services,
                0,
                "/metadata/annotations",
                json!({ "balancer.linkerd.io/failure-accrual": "consecutive" }),
            );
        }),
    ] {
        let found = all(edit);
        assert!(found.len() == 2 && found[0].contains(words), "{words}: {found:?}");
    }
}

#[test]
fn a_refusal_names_every_line_that_fails_and_what_to_do() {
    let good = Line::new("mesh", "the pods of web are meshed");
    let bad = |what: &str| Line::new("route", what).fail("there is one", "remove it");
    assert_eq!(refusal(&[good.clone(), good.clone().warn("w", "t")]), None);
    assert_eq!(
        refusal(&[good.clone(), bad("no rival"), bad("no profile")]).unwrap(),
        "not so: no rival: there is one; remove it; not so: no profile: there is one; remove it"
    );
    assert_eq!(
        warnings(&[good.warn("half of them", "restart"), bad("x")]),
        ["not so: the pods of web are meshed: half of them; restart"]
    );
}

#[test]
fn lines_read_as_those_of_linkerd_check() {
    let ok = Line::new("mesh", "the pods of web are meshed");
    let bad = Line::new("route", "no other route takes the apex's calls").fail("there is one", "remove it");
    insta::assert_snapshot!(table(&[ok, bad]), @r"
    mesh
    ----
    √ the pods of web are meshed

    route
    -----
    × no other route takes the apex's calls
        there is one
        → remove it
    ");
}
