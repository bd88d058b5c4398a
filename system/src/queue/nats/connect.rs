//! Connections to the server, with a time limit and with errors that say what was refused.
//!
//! A publishing connection does not reconnect by itself: what was written to a socket that broke is lost
//! without a word, so its owner (`link`) must decide what to send again before anything newer leaves.
//! The others reconnect by themselves, without limit, at most four seconds apart.

use std::sync::Arc;
use std::time::Duration;

use async_nats::rustls::Error as TlsError;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::time::{Instant, timeout_at};

use super::config::setting;
use super::{BACKEND, NatsAuth, NatsConfig};
use crate::queue::QueueError;

/// Pause between two rounds over the servers while opening.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// No connection is ever made to port 0, so a client that knows only this address gives up at once.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// What a connection tells its owner.
pub(super) type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;

/// A connection that reconnects by itself.
pub(super) async fn connect(
    config: &NatsConfig,
    name: &str,
    subscription_capacity: usize,
    on_event: OnEvent,
) -> Result<Client, QueueError> {
    let addresses = addresses(config)?;
    let mut attempts = Attempts::new(config);
    loop {
        let options = options(config, name, subscription_capacity, &on_event).await?;
        let outcome = timeout_at(attempts.deadline, options.connect(addresses.as_slice())).await;
        if let Some(client) = attempts.judge(outcome.ok())? {
            return Ok(client);
        }
        attempts.pause().await;
    }
}

/// A connection that is over when it breaks; [`Event::Disconnected`] tells.
pub(super) async fn connect_once(
    config: &NatsConfig,
    name: &str,
    capacity: usize,
    on_event: OnEvent,
) -> Result<Client, QueueError> {
    let addresses = addresses(config)?;
    let nowhere: ServerAddr = NOWHERE.parse().map_err(|error| failed(&format!("{error}")))?;
    let mut attempts = Attempts::new(config);
    loop {
        for address in &addresses {
            let options = options(config, name, capacity, &on_event)
                .await?
                .client_capacity(capacity)
                .max_reconnects(1)
                .reconnect_delay_callback(|_| Duration::ZERO);
            let outcome = timeout_at(attempts.deadline, options.connect(address)).await;
            if let Some(client) = attempts.judge(outcome.ok())? {
                client
                    .set_server_pool(std::slice::from_ref(&nowhere))
                    .await
                    .map_err(|error| failed(&format!("the connection broke at once: {}", chain(&error))))?;
                return Ok(client);
            }
        }
        attempts.pause().await;
    }
}

/// Repeated attempts to connect, for as long as the network is at fault and time is left.
struct Attempts<'a> {
    config: &'a NatsConfig,
    deadline: Instant,
    reason: String,
}

impl<'a> Attempts<'a> {
    fn new(config: &'a NatsConfig) -> Self {
        let deadline = Instant::now() + config.connect_timeout();
        Self { config, deadline, reason: "no answer".to_owned() }
    }

    /// The connection, or an error that no further attempt would cure, or neither. `None`: out of time.
    fn judge(&mut self, outcome: Option<Result<Client, ConnectError>>) -> Result<Option<Client>, QueueError> {
        let addresses = || self.config.servers.join(", ");
        match outcome {
            Some(Ok(client)) => return Ok(Some(client)),
            Some(Err(error)) => match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    let who =
                        self.config.auth.as_ref().map_or_else(|| "nobody".to_owned(), NatsAuth::describe);
                    let reason =
                        format!("server at {} refused the log-in as {who}: check `auth`", addresses());
                    return Err(failed(&reason));
                }
                ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => {
                    return Err(failed(&format!("no connection to {}: {}", addresses(), chain(&error))));
                }
                _ if is_tls(&error) => {
                    let reason = format!("no TLS with {}: {}; check `tls`", addresses(), chain(&error));
                    return Err(failed(&reason));
                }
                _ => self.reason = chain(&error),
            },
            None => {}
        }
        if Instant::now() < self.deadline {
            return Ok(None);
        }
        Err(QueueError::Unreachable {
            backend: BACKEND,
            address: addresses(),
            waited: self.config.connect_timeout(),
            reason: std::mem::take(&mut self.reason),
        })
    }

    async fn pause(&self) {
        tokio::time::sleep_until(self.deadline.min(Instant::now() + ROUND_PAUSE)).await;
    }
}

/// Whether the TLS library said no; the network is not at fault then.
fn is_tls(error: &ConnectError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<TlsError>())
        {
            return true;
        }
        source = cause.source();
    }
    false
}

async fn options(
    config: &NatsConfig,
    name: &str,
    subscription_capacity: usize,
    on_event: &OnEvent,
) -> Result<ConnectOptions, QueueError> {
    let on_event = Arc::clone(on_event);
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(config.connect_timeout())
        .request_timeout(Some(config.request_timeout()))
        .ping_interval(Duration::from_millis(config.ping_interval_ms))
        .subscription_capacity(subscription_capacity)
        // The only subjects that we publish to were checked when the configuration was read, or come from
        // the server.
        .skip_subject_validation(true)
        .retain_servers_order()
        .event_callback(move |event| {
            on_event(&event);
            std::future::ready(())
        });
    options = match &config.auth {
        None => options,
        Some(NatsAuth::UserPassword { user, password }) => {
            options.user_and_password(user.clone(), password.reveal().to_owned())
        }
        Some(NatsAuth::Token(token)) => options.token(token.reveal().to_owned()),
        Some(NatsAuth::NkeySeed(seed)) => options.nkey(seed.reveal().to_owned()),
        Some(NatsAuth::CredentialsFile(path)) => options
            .credentials_file(path)
            .await
            .map_err(|error| setting("auth", &format!("credentials file {}: {error}", path.display())))?,
    };
    if let Some(tls) = &config.tls {
        options = options.require_tls(true);
        if let Some(file) = &tls.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        if tls.handshake_first {
            options = options.tls_first();
        }
    }
    Ok(options)
}

fn addresses(config: &NatsConfig) -> Result<Vec<ServerAddr>, QueueError> {
    config
        .servers
        .iter()
        .map(|text| {
            text.parse().map_err(|error| setting("servers", &format!("`{text}` is no address: {error}")))
        })
        .collect()
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

pub(super) fn failed(reason: &str) -> QueueError {
    QueueError::Failed { backend: BACKEND, reason: reason.to_owned() }
}
