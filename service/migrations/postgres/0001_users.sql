-- Times are microseconds since 1970. `email_key` is the address as it is compared: in lower case.
CREATE TABLE users (
    id BYTEA PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    version BIGINT NOT NULL
);
