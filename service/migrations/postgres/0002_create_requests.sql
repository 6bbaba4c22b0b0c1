-- Expands: what a CreateUser with a request id made, so that the same request made again makes nothing.
CREATE TABLE create_requests (
    request_id TEXT PRIMARY KEY,
    user_id BYTEA NOT NULL,
    email TEXT NOT NULL,
    display_name TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
CREATE INDEX create_requests_by_age ON create_requests (create_time);
