//! Walking over all users, a page at a time.

use tonic::{Code, Status};
use user_proto::{DeleteUserRequest, ListUsersRequest, ListUsersResponse};

use crate::harness::{Client, Service, create, on_each_database};

async fn page(client: &mut Client, page_size: i32, page_token: &str) -> Result<ListUsersResponse, Status> {
    let request = ListUsersRequest {
        page_size,
        page_token: page_token.to_owned(),
    };
    Ok(client.list_users(request).await?.into_inner())
}

/// The ids of each page, up to the last one.
async fn walk(client: &mut Client, page_size: i32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = page(client, page_size, &token).await.unwrap();
        pages.push(page.users.into_iter().map(|user| user.id).collect());
        token = page.next_page_token;
        if token.is_empty() {
            return pages;
        }
    }
}

async fn create_many(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(create(client, &format!("user{number}@example.com")).await.unwrap().id);
    }
    ids.sort();
    ids
}

on_each_database!(
    all_pages_together_hold_each_user_once,
    without_users_there_is_one_empty_page,
    a_user_deleted_between_pages_moves_no_other,
    a_token_of_someone_else_is_an_invalid_argument,
);

async fn all_pages_together_hold_each_user_once(service: Service) {
    let client = &mut service.client().await;
    let ids = create_many(client, 25).await;

    let sizes = |pages: &[Vec<String>]| pages.iter().map(Vec::len).collect::<Vec<_>>();
    for (page_size, expected) in [(10, vec![10, 10, 5]), (5, vec![5; 5]), (25, vec![25]), (0, vec![25])] {
        let pages = walk(client, page_size).await;
        assert_eq!(sizes(&pages), expected);
        assert_eq!(pages.concat(), ids);
    }
}

async fn without_users_there_is_one_empty_page(service: Service) {
    assert_eq!(walk(&mut service.client().await, 10).await, [Vec::<String>::new()]);
}

async fn a_user_deleted_between_pages_moves_no_other(service: Service) {
    let client = &mut service.client().await;
    let ids = create_many(client, 6).await;

    let first = page(client, 3, "").await.unwrap();
    for gone in &ids[1..4] {
        client
            .delete_user(DeleteUserRequest {
                id: gone.clone(),
                etag: String::new(),
            })
            .await
            .unwrap();
    }
    let second = page(client, 3, &first.next_page_token).await.unwrap();
    let second: Vec<_> = second.users.into_iter().map(|user| user.id).collect();
    assert_eq!(second, ids[4..]);
}

async fn a_token_of_someone_else_is_an_invalid_argument(service: Service) {
    let client = &mut service.client().await;
    for (page_size, token) in [(10, "2"), (10, "AAAA"), (-1, "")] {
        assert_eq!(
            page(client, page_size, token).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}
