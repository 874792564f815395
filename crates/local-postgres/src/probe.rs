//! Does a PostgreSQL answer at this socket? Just enough of its protocol (version 3.0, "Start-up" in the chapter
//! "Message Flow" of its manual) to know, so that no client program has to be installed.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

const PROTOCOL_3_0: i32 = 196_608;

/// True once the server lets `user` in; false while it starts, recovers or shuts down, or when nobody listens.
pub(crate) async fn accepts_connections(socket: &Path, user: &str, database: &str) -> bool {
    timeout(Duration::from_secs(2), greet(socket, user, database))
        .await
        .is_ok_and(|greeted| greeted.unwrap_or(false))
}

async fn greet(socket: &Path, user: &str, database: &str) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket).await?;
    let parameters = format!("user\0{user}\0database\0{database}\0\0");
    let mut message = Vec::with_capacity(8 + parameters.len());
    message.extend_from_slice(&(8 + parameters.len() as i32).to_be_bytes());
    message.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    message.extend_from_slice(parameters.as_bytes());
    stream.write_all(&message).await?;
    // 'R', authentication: let in. 'E': an error, such as "the database system is starting up".
    let let_in = stream.read_u8().await? == b'R';
    if let_in {
        stream.write_all(&[b'X', 0, 0, 0, 4]).await?; // Terminate
    }
    Ok(let_in)
}
