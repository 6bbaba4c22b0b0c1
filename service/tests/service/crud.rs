//! One user's life, and the status codes of what goes wrong in it.

use prost_types::FieldMask;
use tonic::{Code, Status};
use user_proto::{CreateUserRequest, DeleteUserRequest, UpdateUserRequest, User};

use crate::harness::{Client, Service, create, on_each_database, read};

async fn update(client: &mut Client, user: User, paths: &[&str]) -> Result<User, Status> {
    let update_mask = Some(FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    });
    Ok(client
        .update_user(UpdateUserRequest {
            user: Some(user),
            update_mask,
        })
        .await?
        .into_inner())
}

async fn delete(client: &mut Client, id: &str, etag: &str) -> Result<(), Code> {
    let request = DeleteUserRequest {
        id: id.to_owned(),
        etag: etag.to_owned(),
    };
    client
        .delete_user(request)
        .await
        .map(|_| ())
        .map_err(|status| status.code())
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

on_each_database!(
    a_user_is_created_read_changed_and_deleted,
    what_the_caller_got_wrong_is_an_invalid_argument_that_names_the_field,
    an_address_in_use_already_exists,
    a_change_of_an_old_state_is_aborted,
    nobody_is_not_found,
);

async fn a_user_is_created_read_changed_and_deleted(service: Service) {
    let client = &mut service.client().await;

    let created = create(client, "ada@example.com").await.unwrap();
    assert!(!created.id.is_empty() && !created.etag.is_empty());
    assert!(created.create_time.is_some() && created.create_time == created.update_time);
    assert_eq!(read(client, &created.id).await.unwrap(), created);

    let wanted = User {
        display_name: "Ada".to_owned(),
        email: "ignored".to_owned(),
        ..created.clone()
    };
    let changed = update(client, wanted, &["display_name"]).await.unwrap();
    assert_eq!(
        (changed.display_name.as_str(), changed.email.as_str()),
        ("Ada", "ada@example.com")
    );
    assert_eq!(changed.create_time, created.create_time);
    assert_ne!(changed.etag, created.etag);
    assert_eq!(read(client, &created.id).await.unwrap(), changed);

    assert_eq!(delete(client, &created.id, &changed.etag).await, Ok(()));
    assert_eq!(code(read(client, &created.id).await), Code::NotFound);
    assert_eq!(delete(client, &created.id, "").await, Err(Code::NotFound));
}

async fn what_the_caller_got_wrong_is_an_invalid_argument_that_names_the_field(service: Service) {
    let client = &mut service.client().await;
    let user = create(client, "ada@example.com").await.unwrap();

    let no_user = client
        .create_user(CreateUserRequest::default())
        .await
        .map(tonic::Response::into_inner);
    let long = User {
        display_name: "a".repeat(201),
        ..user.clone()
    };
    for (result, field) in [
        (no_user, "user"),
        (create(client, "").await, "user.email"),
        (create(client, "not an address").await, "user.email"),
        (read(client, "").await, "id"),
        (
            update(
                client,
                User {
                    id: String::new(),
                    ..user.clone()
                },
                &["email"],
            )
            .await,
            "user.id",
        ),
        (update(client, user.clone(), &["create_time"]).await, "update_mask"),
        (update(client, long, &["display_name"]).await, "user.display_name"),
    ] {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(
            status.message().starts_with(&format!("{field}: ")),
            "{field}: {}",
            status.message()
        );
    }
}

async fn an_address_in_use_already_exists(service: Service) {
    let client = &mut service.client().await;
    create(client, "ada@example.com").await.unwrap();
    let bob = create(client, "bob@example.com").await.unwrap();

    assert_eq!(code(create(client, "ADA@example.com").await), Code::AlreadyExists);
    let wanted = User {
        email: "ada@example.com".to_owned(),
        ..bob
    };
    assert_eq!(code(update(client, wanted, &["email"]).await), Code::AlreadyExists);
}

async fn a_change_of_an_old_state_is_aborted(service: Service) {
    let client = &mut service.client().await;
    let old = create(client, "ada@example.com").await.unwrap();
    let new = update(client, old.clone(), &["display_name"]).await.unwrap();

    assert_eq!(
        code(update(client, old.clone(), &["display_name"]).await),
        Code::Aborted
    );
    assert_eq!(delete(client, &old.id, &old.etag).await, Err(Code::Aborted));
    let regardless = User {
        etag: String::new(),
        ..old
    };
    assert!(update(client, regardless, &["display_name"]).await.is_ok());
    assert_eq!(delete(client, &new.id, &new.etag).await, Err(Code::Aborted));
}

async fn nobody_is_not_found(service: Service) {
    let client = &mut service.client().await;
    for id in ["01234567-89ab-7fff-bfff-ffffffffffff", "no-such-id"] {
        assert_eq!(code(read(client, id).await), Code::NotFound);
        assert_eq!(delete(client, id, "").await, Err(Code::NotFound));
        let user = User {
            id: id.to_owned(),
            display_name: "Nobody".to_owned(),
            ..User::default()
        };
        assert_eq!(code(update(client, user, &["display_name"]).await), Code::NotFound);
    }
}
