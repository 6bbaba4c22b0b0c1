//! Stories of the image of user-service.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{net::TcpListener, time::timeout};
use user_proto::{CreateUserRequest, GetUserRequest, User, user_service_client::UserServiceClient};

use crate::{
    container::{Container, is_unprivileged},
    names::Names,
    workshop::{VERSION, Workshop, size},
};

const MOST: u64 = 15_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn the_image_is_one_static_program_within_its_size(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let image = &workshop.service;
    let program = image.rootfs.join("user-service");
    let bytes = fs::read(&program).context("reading the program")?;
    ensure!(
        !has_loader(&bytes).context("reading the program's head")?,
        "it wants a loader, which the image has not"
    );
    // Nothing else has a byte, so the program's size is the image's.
    ensure!(
        size(&image.rootfs)? == u64::try_from(bytes.len())?,
        "there is more than the program"
    );
    if Workshop::is_release()? {
        ensure!(size(&image.rootfs)? <= MOST, "{} bytes", bytes.len());
    }
    let config = &image.config;
    ensure!(
        config.user == "65532:65532" && config.entrypoint == ["/user-service"],
        "{config:?}"
    );
    let label = |name: &str| {
        config
            .labels
            .get(&format!("org.opencontainers.image.{name}"))
            .map(String::as_str)
    };
    ensure!(
        label("title") == Some("user-service") && label("version") == Some(VERSION),
        "{config:?}"
    );
    ensure!(label("revision").is_some_and(|commit| !commit.is_empty()), "{config:?}");
    Ok(())
}

/// Whether an ELF file of 64 bits has a program header of the type PT_INTERP.
fn has_loader(elf: &[u8]) -> Option<bool> {
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum: usize, byte| (sum << 8) | usize::from(*byte)),
        )
    };
    elf.strip_prefix(b"\x7fELF\x02")?;
    let (headers, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds = (0..count)
        .map(|nth| number(headers + nth * size, 4))
        .collect::<Option<Vec<_>>>()?;
    Some(kinds.contains(&3))
}

pub(crate) async fn it_answers_calls_read_only_and_without_privileges(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let (net, image) = (&workshop.net, &workshop.service);
    let address = (net.infra().to_string(), net.free_port()?);
    let container = Container::of(&workshop, image, &[])?
        .env("BIND_ADDRESS", &address.0)
        .env("GRPC_PORT", &address.1.to_string())
        .env("HTTP_PORT", &net.free_port()?.to_string())
        .env("DATABASE_URL", "sqlite:///tmp/users.db");
    let child = container.start().await?;
    let said = container.until_healthy(&child, &["/user-service", "--health"]).await?;
    ensure!(said.trim() == "serving", "{said}");
    is_unprivileged(&container.status(&child).await?)?;

    let mut client = UserServiceClient::connect(format!("http://{}:{}", address.0, address.1)).await?;
    let user = User {
        display_name: "Ann".to_owned(),
        email: "ann@example.com".to_owned(),
        ..User::default()
    };
    let request = CreateUserRequest {
        user: Some(user),
        ..CreateUserRequest::default()
    };
    let created = client.create_user(request).await?.into_inner();
    let found = client
        .get_user(GetUserRequest { id: created.id.clone() })
        .await?
        .into_inner();
    ensure!(found == created && found.display_name == "Ann", "{found:?}");
    Ok(())
}

pub(crate) async fn it_finds_its_database_by_name(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let net = &workshop.net;
    let database = TcpListener::bind((net.infra(), net.free_port()?)).await?;
    let names = Names::start(net.pod_address(), net.infra()).await?;
    let port = database.local_addr()?.port();
    let container = Container::of(&workshop, &workshop.service, &[])?
        .file("/etc/resolv.conf", &format!("nameserver {}\n", names.at))?
        .env("BIND_ADDRESS", &net.infra().to_string())
        .env("GRPC_PORT", "0")
        .env("HTTP_PORT", "0")
        .env(
            "DATABASE_URL",
            &format!("postgres://user:secret@users.database.svc.cluster.local:{port}/users"),
        );
    let _child = container.start().await?;
    let met = timeout(PATIENCE, database.accept()).await;
    met.with_context(|| {
        let log = fs::read_to_string(container.log()).unwrap_or_default();
        format!("nobody came to where the name leads; the service says: {log}")
    })??;
    Ok(())
}
