-- Expands: what a CreateUser with a request id made, so that the same request made again makes nothing.
CREATE TABLE create_requests (
    request_id TEXT PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL,
    email TEXT NOT NULL,
    display_name TEXT NOT NULL,
    create_time INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX create_requests_by_age ON create_requests (create_time);
