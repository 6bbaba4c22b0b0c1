//! Users in this process's memory: gone when it ends, unknown to other pods. It must not know gRPC.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::{Change, NewUser, Seen, Store, StoreError, User, UserId};

/// Keeps users in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    users: BTreeMap<UserId, User>,
    /// Who has an address; in lower case, as the case of letters makes no other address.
    emails: HashMap<String, UserId>,
}

impl Tables {
    fn claim(&self, email: &str, id: UserId) -> Result<String, StoreError> {
        let key = email.to_ascii_lowercase();
        match self.emails.get(&key) {
            Some(owner) if *owner != id => Err(StoreError::EmailTaken(email.to_owned())),
            _ => Ok(key),
        }
    }

    fn seen(&self, id: UserId, seen: Seen) -> Result<&User, StoreError> {
        let user = self.users.get(&id).ok_or(StoreError::NotFound(id))?;
        if seen.is(user.version) {
            Ok(user)
        } else {
            Err(StoreError::Stale(id))
        }
    }
}

impl MemoryStore {
    // Every change is checked before the first table is touched: a panic leaves no half of one.
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn create(&self, user: NewUser, now: Timestamp) -> Result<User, StoreError> {
        let NewUser { email, display_name } = user;
        let id = UserId::new(now, rand::random());
        let mut tables = self.write();
        let key = tables.claim(&email, id)?;
        let user = User {
            id,
            email,
            display_name,
            create_time: now,
            update_time: now,
            version: 1,
        };
        tables.emails.insert(key, id);
        tables.users.insert(id, user.clone());
        Ok(user)
    }

    async fn get(&self, id: UserId) -> Result<User, StoreError> {
        self.read().users.get(&id).cloned().ok_or(StoreError::NotFound(id))
    }

    async fn update(&self, id: UserId, seen: Seen, change: Change, now: Timestamp) -> Result<User, StoreError> {
        let Change { email, display_name } = change;
        let mut tables = self.write();
        let old = tables.seen(id, seen)?;
        let old_key = old.email.to_ascii_lowercase();
        let user = User {
            id,
            email: email.unwrap_or_else(|| old.email.clone()),
            display_name: display_name.unwrap_or_else(|| old.display_name.clone()),
            create_time: old.create_time,
            update_time: now,
            version: old.version + 1,
        };
        let key = tables.claim(&user.email, id)?;
        tables.emails.remove(&old_key);
        tables.emails.insert(key, id);
        tables.users.insert(id, user.clone());
        Ok(user)
    }

    async fn delete(&self, id: UserId, seen: Seen) -> Result<(), StoreError> {
        let mut tables = self.write();
        let key = tables.seen(id, seen)?.email.to_ascii_lowercase();
        tables.emails.remove(&key);
        tables.users.remove(&id);
        Ok(())
    }

    async fn list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self
            .read()
            .users
            .range((start, Bound::Unbounded))
            .take(limit)
            .map(|(_, user)| user.clone())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ada() -> NewUser {
        NewUser {
            email: "Ada@example.com".to_owned(),
            display_name: "Ada".to_owned(),
        }
    }

    fn email(text: &str) -> Change {
        Change {
            email: Some(text.to_owned()),
            display_name: None,
        }
    }

    #[tokio::test]
    async fn an_address_has_one_owner_whatever_its_case() {
        let store = MemoryStore::default();
        store.create(ada(), at(1)).await.unwrap();
        let again = NewUser {
            email: "ada@EXAMPLE.com".to_owned(),
            ..ada()
        };
        assert_eq!(
            store.create(again.clone(), at(2)).await,
            Err(StoreError::EmailTaken(again.email))
        );
    }

    #[tokio::test]
    async fn an_address_given_up_is_free_again() {
        let store = MemoryStore::default();
        let first = store.create(ada(), at(1)).await.unwrap();
        store
            .update(first.id, Seen::Any, email("new@example.com"), at(2))
            .await
            .unwrap();
        let second = store.create(ada(), at(3)).await.unwrap();
        store.delete(second.id, Seen::Any).await.unwrap();
        store.create(ada(), at(4)).await.unwrap();
    }

    #[tokio::test]
    async fn the_own_address_may_change_its_case() {
        let store = MemoryStore::default();
        let user = store.create(ada(), at(1)).await.unwrap();
        let user = store
            .update(user.id, Seen::Any, email("ADA@example.com"), at(2))
            .await
            .unwrap();
        assert_eq!(user.email, "ADA@example.com");
        assert_eq!((user.create_time, user.update_time, user.version), (at(1), at(2), 2));
    }

    #[tokio::test]
    async fn a_refused_change_changes_nothing() {
        let store = MemoryStore::default();
        let user = store.create(ada(), at(1)).await.unwrap();
        let other = NewUser {
            email: "bob@example.com".to_owned(),
            display_name: String::new(),
        };
        store.create(other, at(2)).await.unwrap();
        let taken = store.update(user.id, Seen::Any, email("bob@example.com"), at(3)).await;
        assert_eq!(taken, Err(StoreError::EmailTaken("bob@example.com".to_owned())));
        assert_eq!(store.get(user.id).await, Ok(user));
    }

    #[tokio::test]
    async fn of_two_changes_of_one_state_the_second_is_stale() {
        let store = MemoryStore::default();
        let user = store.create(ada(), at(1)).await.unwrap();
        let seen = Seen::Version(user.version);
        store
            .update(user.id, seen, email("a@example.com"), at(2))
            .await
            .unwrap();
        let second = store.update(user.id, seen, email("b@example.com"), at(3)).await;
        assert_eq!(second, Err(StoreError::Stale(user.id)));
        assert_eq!(store.delete(user.id, seen).await, Err(StoreError::Stale(user.id)));
        assert_eq!(store.delete(user.id, Seen::Version(2)).await, Ok(()));
        assert_eq!(
            store.delete(user.id, Seen::Any).await,
            Err(StoreError::NotFound(user.id))
        );
    }
}
