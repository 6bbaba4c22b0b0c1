//! Runs git-http-backend for one request, streaming both ways. It must not know who asks.

use anyhow::{Context as _, bail};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::BytesMut;
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::{Shared, isolated};
use crate::process::Program;

/// More than any header that git writes.
const HEAD_LIMIT: usize = 16 * 1024;

pub(super) async fn run(shared: &Shared, request: Request) -> anyhow::Result<Response> {
    let (parts, body) = request.into_parts();
    let header = |name: HeaderName| {
        parts
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let mut program = isolated(Program::new(&shared.backend), &shared.home)
        .env("GIT_PROJECT_ROOT", &shared.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REMOTE_USER", "lab")
        .env("CONTENT_TYPE", header(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", header(HeaderName::from_static("git-protocol")))
        .log(&shared.log);
    // A body in chunks has no length; git then reads to its end.
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        program = program.env("CONTENT_LENGTH", length.to_str()?);
    }
    let (child, mut stdin, mut stdout) = program.spawn_piped().await?;
    tokio::spawn(async move {
        let mut body = body.into_data_stream();
        while let Some(Ok(chunk)) = body.next().await {
            // git may stop reading before the end; its answer says why.
            if stdin.write_all(&chunk).await.is_err() {
                break;
            }
        }
    });
    let (head, rest) = read_head(&mut stdout)
        .await
        .context("reading what git-http-backend answers")?;
    let (status, headers) = parse_head(&head)?;
    // The child lives as long as somebody reads the answer.
    let body = stream::unfold((Some(rest), stdout, child), |(rest, mut stdout, child)| async move {
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            return Some((Ok(rest.freeze()), (None, stdout, child)));
        }
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        match stdout.read_buf(&mut buffer).await {
            Ok(0) => {
                child.wait().await;
                None
            }
            Ok(_) => Some((Ok(buffer.freeze()), (None, stdout, child))),
            Err(error) => Some((Err(error), (None, stdout, child))),
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The header block without the empty line behind it, and what was read of the body.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<(Vec<u8>, BytesMut)> {
    let mut read = BytesMut::new();
    loop {
        if let Some((end, gap)) = head_end(&read) {
            let head = read.split_to(end).to_vec();
            let _ = read.split_to(gap);
            return Ok((head, read));
        }
        if read.len() > HEAD_LIMIT || from.read_buf(&mut read).await? == 0 {
            bail!("there is no header: {:?}", String::from_utf8_lossy(&read));
        }
    }
}

/// Where the header ends, and how many bytes part it from the body.
fn head_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let find = |gap: &[u8]| {
        bytes
            .windows(gap.len())
            .position(|window| window == gap)
            .map(|at| (at, gap.len()))
    };
    [find(b"\r\n\r\n"), find(b"\n\n")].into_iter().flatten().min()
}

/// A CGI header: `Status` is the status, which is 200 without it.
fn parse_head(head: &[u8]) -> anyhow::Result<(StatusCode, HeaderMap)> {
    let text = std::str::from_utf8(head).context("the header is not text")?;
    let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
    for line in text.lines() {
        let (name, value) = line.split_once(':').with_context(|| format!("{line:?} is no header"))?;
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("status") {
            status = value.split_whitespace().next().unwrap_or_default().parse()?;
        } else {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
    }
    Ok((status, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_without_status_means_200() {
        let (status, headers) =
            parse_head(b"Content-Type: text/plain\r\nExpires: Fri, 01 Jan 1980 00:00:00 GMT").unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers.get("expires").unwrap(), "Fri, 01 Jan 1980 00:00:00 GMT");
    }

    #[test]
    fn a_status_is_taken_out_of_the_header() {
        let (status, headers) = parse_head(b"Status: 404 Not Found\nX: y").unwrap();
        assert_eq!((status, headers.len()), (StatusCode::NOT_FOUND, 1));
        assert!(parse_head(b"no header").is_err());
    }

    #[tokio::test]
    async fn the_body_begins_after_the_first_empty_line() {
        for text in ["A: b\r\n\r\nbody\n\nmore", "A: b\n\nbody\n\nmore"] {
            let (head, rest) = read_head(&mut text.as_bytes()).await.unwrap();
            assert_eq!((&*head, &*rest), (&b"A: b"[..], &b"body\n\nmore"[..]));
        }
        assert!(read_head(&mut &b"A: b\r\n"[..]).await.is_err());
    }
}
