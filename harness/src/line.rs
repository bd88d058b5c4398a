//! HTTP/1.1 on bare connections, for clients that time their own requests.
//!
//! No pool and no retries: who asks decides what a broken connection means. Every call ends within its limit.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to be made.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// One request at a time.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Connects to `target`; what is sent goes out while the connection is polled.
async fn connect(target: &str) -> Result<(Sender, Connection<TokioIo<TcpStream>, Full<Bytes>>), String> {
    let failed = |error: &dyn Display| format!("{target}: {error}");
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await;
    let stream = stream.map_err(|_| failed(&"no connection in time"))?.map_err(|e| failed(&e))?;
    stream.set_nodelay(true).map_err(|e| failed(&e))?;
    http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))
}

/// A connection that lives on the local task set of whoever asks.
pub(crate) async fn open(target: &str) -> Result<Sender, String> {
    let (sender, connection) = connect(target).await?;
    // Ends with its sender; what breaks it is told to the request under way.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// One question on a connection of its own: the status and the whole answer.
pub(crate) async fn ask(target: &str, path: &str, limit: Duration) -> Result<(StatusCode, Bytes), String> {
    let failed = |error: &dyn Display| format!("{target}: {error}");
    let exchange = async {
        let (mut sender, connection) = connect(target).await?;
        let request = Request::get(path).header(header::HOST, target).body(Full::default());
        let request = request.map_err(|e| failed(&e))?;
        let talk = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        // The connection ends with its sender, which is gone when the answer is whole.
        let (answer, _) = join(talk, connection).await;
        answer.map_err(|e| failed(&e))
    };
    timeout(limit, exchange).await.map_err(|_| failed(&format_args!("no answer within {limit:?}")))?
}
