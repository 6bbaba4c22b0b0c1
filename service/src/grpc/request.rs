//! From request messages to what the store is asked, or the status that says what is wrong with them.
//! It must not ask the store anything.

use tonic::Status;
use user_proto::{CreateUserRequest, ListUsersRequest, UpdateUserRequest};

use super::status;
use crate::page;
use crate::store::{Change, NewUser, RequestId, Seen, StoreError, UserId};
use crate::validate::{self, Violation};

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 1000;

/// Which users a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) after: Option<UserId>,
    pub(super) size: usize,
}

pub(super) fn create(request: CreateUserRequest) -> Result<(NewUser, Option<RequestId>), Status> {
    let CreateUserRequest { user, request_id } = request;
    let request_id = match request_id.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Violation {
            field: "request_id",
            rule: "must have at most 64 printable ASCII characters and no space, such as a UUID",
        })?),
    };
    let user = user.ok_or(Violation {
        field: "user",
        rule: "must be set",
    })?;
    let (email, display_name) =
        validate::both(validate::email(&user.email), validate::display_name(&user.display_name))?;
    Ok((NewUser { email, display_name }, request_id))
}

pub(super) fn update(request: UpdateUserRequest) -> Result<(UserId, Seen, Change), Status> {
    let UpdateUserRequest { user, update_mask } = request;
    let user = user.ok_or(Violation {
        field: "user",
        rule: "must be set",
    })?;
    let id = id("user.id", &user.id)?;
    let seen = seen(&user.etag, id)?;
    let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();

    let (mut email, mut display_name) = (false, false);
    if paths.is_empty() {
        (email, display_name) = (!user.email.is_empty(), !user.display_name.is_empty());
    }
    for path in &paths {
        match path.as_str() {
            "email" => email = true,
            "display_name" => display_name = true,
            "*" => (email, display_name) = (true, true),
            _ => {
                return Err(Violation {
                    field: "update_mask",
                    rule: "names a field that cannot be changed; use email, display_name or *",
                }
                .into());
            }
        }
    }
    let (email, display_name) = validate::both(
        email.then(|| validate::email(&user.email)).transpose(),
        display_name
            .then(|| validate::display_name(&user.display_name))
            .transpose(),
    )?;
    Ok((id, seen, Change { email, display_name }))
}

pub(super) fn page(request: &ListUsersRequest) -> Result<Page, Status> {
    let size = usize::try_from(request.page_size).map_err(|_| Violation {
        field: "page_size",
        rule: "must not be negative",
    })?;
    let size = if size == 0 {
        DEFAULT_PAGE_SIZE
    } else {
        size.min(MAX_PAGE_SIZE)
    };
    Ok(Page {
        after: page::start_of(&request.page_token)?,
        size,
    })
}

/// Ids are opaque to clients: one that was never given out is no mistake of form, it is nobody's.
pub(super) fn id(field: &'static str, text: &str) -> Result<UserId, Status> {
    if text.is_empty() {
        return Err(Violation {
            field,
            rule: "must not be empty",
        }
        .into());
    }
    text.parse().map_err(|_| status::not_found(text))
}

pub(super) fn etag(version: i64) -> String {
    format!("v{version}")
}

/// An etag that this service never gave out cannot be the present one either.
pub(super) fn seen(text: &str, id: UserId) -> Result<Seen, Status> {
    if text.is_empty() {
        return Ok(Seen::Any);
    }
    text.strip_prefix('v')
        .and_then(|version| version.parse().ok())
        .map(Seen::Version)
        .ok_or_else(|| StoreError::Stale(id).into())
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;
    use tonic::Code;
    use user_proto::User;

    use super::*;

    const ID: &str = "01234567-89ab-7fff-bfff-ffffffffffff";

    fn changed(email: &str, display_name: &str, mask: Option<&[&str]>) -> Result<Change, Code> {
        let user = User {
            id: ID.into(),
            email: email.into(),
            display_name: display_name.into(),
            ..User::default()
        };
        let update_mask = mask.map(|paths| FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        });
        update(UpdateUserRequest {
            user: Some(user),
            update_mask,
        })
        .map(|(_, _, change)| change)
        .map_err(|status| status.code())
    }

    fn change(email: Option<&str>, display_name: Option<&str>) -> Change {
        Change {
            email: email.map(str::to_owned),
            display_name: display_name.map(str::to_owned),
        }
    }

    #[test]
    fn a_mask_says_what_changes_even_to_nothing() {
        assert_eq!(changed("a@b", "Ada", Some(&["email"])), Ok(change(Some("a@b"), None)));
        assert_eq!(changed("a@b", "", Some(&["display_name"])), Ok(change(None, Some(""))));
        assert_eq!(changed("a@b", "", Some(&["*"])), Ok(change(Some("a@b"), Some(""))));
        assert_eq!(
            changed("", "Ada", Some(&["email", "display_name"])),
            Err(Code::InvalidArgument)
        );
    }

    #[test]
    fn without_a_mask_what_is_not_empty_changes() {
        for mask in [None, Some(&[][..])] {
            assert_eq!(changed("a@b", "", mask), Ok(change(Some("a@b"), None)));
            assert_eq!(changed("", "Ada", mask), Ok(change(None, Some("Ada"))));
            assert_eq!(changed("", "", mask), Ok(change(None, None)));
        }
    }

    #[test]
    fn what_the_service_sets_cannot_be_changed() {
        for path in [
            "id",
            "create_time",
            "update_time",
            "etag",
            "user.email",
            "shoe_size",
            "",
        ] {
            assert_eq!(changed("a@b", "", Some(&[path])), Err(Code::InvalidArgument), "{path}");
        }
    }

    #[test]
    fn page_sizes_have_a_default_and_a_limit() {
        let size = |page_size| {
            page(&ListUsersRequest {
                page_size,
                page_token: String::new(),
            })
            .map(|page| page.size)
            .map_err(|status| status.code())
        };
        assert_eq!(size(0), Ok(50));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(i32::MAX), Ok(1000));
        assert_eq!(size(-1), Err(Code::InvalidArgument));
    }

    #[test]
    fn ids_are_missing_or_unknown_but_never_malformed() {
        assert_eq!(id("id", "").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(id("id", "u-1").unwrap_err().code(), Code::NotFound);
        assert!(id("id", ID).is_ok());
    }

    #[test]
    fn etags_of_others_are_stale() {
        let id = ID.parse().unwrap();
        assert_eq!(seen(&etag(3), id).unwrap(), Seen::Version(3));
        assert_eq!(seen("", id).unwrap(), Seen::Any);
        assert_eq!(seen("W/\"3\"", id).unwrap_err().code(), Code::Aborted);
    }
}
