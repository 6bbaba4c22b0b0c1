//! Receivers told over real connections by stand-ins that keep what they are sent, and the outbox over restarts.

mod channels;
mod limits;
mod mail;
mod mail_tls;
mod once;
mod queue;
mod stand;
mod stories;
