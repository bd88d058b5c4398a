//! Signals: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::say;
use crate::exit::Exit;

/// Cancels `stop` at the first SIGINT or SIGTERM. Call within a runtime.
pub(super) fn cancel_on_signal(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        say("warning: signals cannot be caught; Ctrl-C will end without an orderly stop");
        return;
    };
    // Owned by the runtime, which ends with the command.
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        say("stopping; once more to stop at once");
        stop.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Children and containers are tied to this process or swept by the next start.
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
}
