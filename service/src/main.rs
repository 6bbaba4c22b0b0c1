//! The program `user-service`. It must not know more than how to start the library and when to stop it.

use std::process::ExitCode;

use clap::Parser as _;
use user_service::{Config, Server, logging, signals};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = logging::init(&config.log) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.as_ref(), "user-service ends with an error");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = signals::termination()?;
    Server::bind(config).await?.run(stop).await?;
    Ok(())
}
