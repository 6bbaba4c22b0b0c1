//! A container's health check by the program itself: asks the service that runs beside it, as an image from scratch has nothing
//! else to ask with. It must not know what makes a service ready.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::Config;

const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the service that listens where this configuration says is ready; either way, what it answers.
pub fn check(config: &Config) -> Result<String, String> {
    let address = reachable(config.http_address());
    let answer = ask(address).map_err(|error| format!("asking {address} whether it is ready: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.trim().to_owned())
    } else {
        Err(format!("{address} answers {status}: {}", body.trim()))
    }
}

/// What listens on all addresses is asked on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, port).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, port).into(),
        other => other,
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A service that answers once, with this.
    fn config_of(answer: &'static str) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // What is left unread would break the connection before the answer is read.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /ready "));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Config::read(["user-service", "--health", "--http-port", &port]).unwrap()
    }

    #[test]
    fn a_service_is_healthy_when_it_says_so() {
        let config = config_of("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nserving\n");
        assert!(config.health);
        assert_eq!(check(&config), Ok("serving".to_owned()));
    }

    #[test]
    fn one_that_drains_or_does_not_answer_is_not_healthy() {
        let error = check(&config_of("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n")).unwrap_err();
        assert!(error.ends_with("answers 503: draining"), "{error}");
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config::read(["user-service", "--http-port", &gone.port().to_string()]).unwrap();
        assert!(check(&config).unwrap_err().contains("whether it is ready"));
    }
}
