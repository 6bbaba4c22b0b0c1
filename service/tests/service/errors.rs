//! What clients are told when a call fails, for people and for programs, and what they are not told.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use user_proto::{CreateUserRequest, User};

use crate::harness::{Client, create, eventually, read, start, start_on_a_file, start_on_postgres};
use crate::postgres::Postgres;

/// The reason that programs read.
fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

async fn create_by(client: &mut Client, request_id: &str, email: &str) -> Result<User, Status> {
    let user = User {
        email: email.to_owned(),
        ..User::default()
    };
    let request = CreateUserRequest {
        user: Some(user),
        request_id: request_id.to_owned(),
    };
    Ok(client.create_user(request).await?.into_inner())
}

#[tokio::test]
async fn all_wrong_fields_are_told_with_their_paths() {
    let service = start(&[]).await;
    let user = User {
        email: "ada".to_owned(),
        display_name: "a\nb".to_owned(),
        ..User::default()
    };
    let request = CreateUserRequest {
        user: Some(user),
        ..CreateUserRequest::default()
    };
    let status = service.client().await.create_user(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
    let fields = status.get_details_bad_request().unwrap().field_violations;
    let paths: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(paths, ["user.email", "user.display_name"]);
}

#[tokio::test]
async fn each_kind_of_failure_has_its_code_its_reason_and_what_it_is_about() {
    let service = start(&[]).await;
    let client = &mut service.client().await;
    let ada = create(client, "ada@example.com").await.unwrap();
    let stale = user_proto::DeleteUserRequest {
        id: ada.id.clone(),
        etag: "v7".to_owned(),
    };
    for (status, code, expected, about) in [
        (
            read(client, "nobody").await.unwrap_err(),
            Code::NotFound,
            "USER_NOT_FOUND",
            "nobody",
        ),
        (
            create(client, "ada@example.com").await.unwrap_err(),
            Code::AlreadyExists,
            "EMAIL_TAKEN",
            "ada@example.com",
        ),
        (
            client.delete_user(stale).await.unwrap_err(),
            Code::Aborted,
            "STALE_ETAG",
            ada.id.as_str(),
        ),
    ] {
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
        assert_eq!(status.get_details_error_info().unwrap().domain, "user.UserService");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!(
            (resource.resource_type.as_str(), resource.resource_name.as_str()),
            ("user.User", about)
        );
    }
}

#[tokio::test]
async fn a_create_made_again_gets_the_first_answer_and_is_counted_once() {
    for service in [start_on_a_file(&[]).await, start_on_postgres(&[]).await] {
        let client = &mut service.client().await;
        let first = create_by(client, "request-1", "ada@example.com").await.unwrap();
        assert_eq!(create_by(client, "request-1", "ada@example.com").await.unwrap(), first);
        assert!(service.counted("user_service_users_created_total 1").await);
        for id in ["request-1", "not an id", &"x".repeat(65)] {
            let refused = create_by(client, id, "bob@example.com").await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{id}");
            let fields = refused.get_details_bad_request().unwrap().field_violations;
            assert_eq!(fields[0].field, "request_id");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_gone_calls_are_unavailable_and_readiness_is_off() {
    let server = Postgres::start();
    let url = format!("--database-url={}", server.database().await);
    let service = start(&[&url]).await;
    let client = &mut service.client().await;
    let ada = create(client, "ada@example.com").await.unwrap();

    server.down();
    let refused = [read(client, &ada.id).await, create(client, "bob@example.com").await];
    for status in refused.map(Result::unwrap_err) {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unavailable, "DATABASE_UNAVAILABLE")
        );
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        let told = format!("{} {}", status.message(), String::from_utf8_lossy(status.details()));
        for inside in ["sqlx", "pool", "connect", "socket", "postgres", "SELECT"] {
            assert!(!told.contains(inside), "{told}");
        }
    }
    eventually("readiness is off", async || service.get("/ready").await.0 == 503).await;
    assert_eq!(service.get("/ready").await.1, "the database does not answer\n");
    assert_eq!(
        service.get("/health").await.0,
        200,
        "it is alive: a restart would not help"
    );

    server.up();
    eventually("it is ready again", async || service.get("/ready").await.0 == 200).await;
    assert_eq!(read(client, &ada.id).await.unwrap(), ada);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_before_its_database_waits_for_it() {
    let server = Postgres::start();
    let url = format!("--database-url={}", server.database().await);
    server.down();
    let starting = crate::harness::begin(&[&url]).await;
    assert_eq!(starting.get("/ready").await, (503, "starting\n".to_owned()));
    server.up();
    eventually("it is ready", async || starting.get("/ready").await.0 == 200).await;
    create(&mut starting.client().await, "ada@example.com").await.unwrap();
}
