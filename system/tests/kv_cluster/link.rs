//! A link from one node to another: a proxy that hands bytes on, or keeps them to itself while it is cut.
//!
//! A cut is silent, as in a network that drops packets: connections stay open and nothing arrives. When it is
//! healed, connections from before are closed, and new ones pass.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) struct Link {
    pub(crate) port: u16,
    cut: watch::Sender<bool>,
    silenced: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    pub(crate) async fn open(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, state) = watch::channel(false);
        let silenced = Arc::new(AtomicU64::new(0));
        let counter = silenced.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (state, counter) = (state.clone(), counter.clone());
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await {
                        let _ = (near.set_nodelay(true), far.set_nodelay(true));
                        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                        // An end may have said all it has to say and still wait for answers.
                        let _ = tokio::try_join!(
                            pass(near_in, far_out, state.clone(), &counter),
                            pass(far_in, near_out, state, &counter),
                        );
                    }
                });
            }
        });
        Self { port, cut, silenced, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn set(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub(crate) fn silenced(&self) -> u64 {
        self.silenced.load(Ordering::Relaxed)
    }
}

/// Hands bytes on until one end has no more; fails when the connection breaks, or was silenced and the cut is
/// healed.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
    silenced: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if *cut.borrow() {
            silenced.fetch_add(1, Ordering::Relaxed);
            let _ = cut.wait_for(|cut| !cut).await;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
