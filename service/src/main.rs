//! The program `user-service`. It must not know more than how to start the library and when to stop it.

use std::process::ExitCode;

use user_service::{Config, Server, health, logging, signals};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if config.health {
        return match health::check(&config) {
            Ok(answer) => {
                println!("{answer}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let telemetry = match logging::init(&config) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let served = serve(config).await;
    if let Err(error) = &served {
        tracing::error!(error = error.as_ref(), "user-service ends with an error");
    }
    telemetry.shutdown().await;
    if served.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = signals::termination()?;
    Server::bind(config).await?.run(stop).await?;
    Ok(())
}
