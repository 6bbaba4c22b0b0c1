//! A name server that knows one address for every name, as a cluster's DNS would answer a pod. It must not know who asks.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::{net::UdpSocket, task::JoinHandle};

const HEADER: usize = 12;

/// A running name server. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) at: Ipv4Addr,
    task: JoinHandle<()>,
}

impl Names {
    /// Serves on port 53 of this address: resolv.conf can name no other.
    pub(crate) async fn start(at: Ipv4Addr, answer: Ipv4Addr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((at, 53))
            .await
            .with_context(|| format!("listening on {at}:53"))?;
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(response) = query.get(..length).and_then(|query| respond(query, answer)) {
                    let _ = socket.send_to(&response, from).await;
                }
            }
        });
        Ok(Self { at, task })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The address for a question of type A; for any other type, that the name has none such.
fn respond(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(HEADER..HEADER + name + 5)?;
    let has_address = question.get(name + 1..name + 3)? == [0, 1];
    let mut response = query.get(..2)?.to_vec();
    // An answer without recursion's errors: one question, so many answers, nothing more.
    response.extend([0x81, 0x80, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    response.extend(question);
    if has_address {
        // The name is the question's; type A, class IN, one second, four bytes.
        response.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        response.extend(answer.octets());
    }
    Some(response)
}
