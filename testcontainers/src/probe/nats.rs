//! NATS: connected, introduced, and JetStream answers.

use std::time::Duration;

use async_nats::ConnectOptions;
use tokio::time::{Instant, sleep, timeout};

use super::{NotReady, Ready, Target};
use crate::external::Credentials;

/// Between two attempts.
const INTERVAL: Duration = Duration::from_millis(50);
/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

pub(crate) async fn until_ready(target: &Target<'_>, limit: Duration) -> Result<Ready, NotReady> {
    let deadline = Instant::now() + limit;
    let mut last = "no answer".to_owned();
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        else {
            return Err(NotReady::Yet(last));
        };
        match timeout(left.min(ATTEMPT), attempt(target)).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(NotReady::Never(reason))) => return Err(NotReady::Never(reason)),
            Ok(Err(NotReady::Yet(reason))) => last = reason,
            // An attempt that the deadline cut short has less to say than the one before it.
            Err(_) if left >= ATTEMPT => last = format!("no answer within {ATTEMPT:?}"),
            Err(_) => {}
        }
        sleep(INTERVAL).await;
    }
}

async fn attempt(target: &Target<'_>) -> Result<Ready, NotReady> {
    let servers: Vec<&str> = target.address.split(',').map(str::trim).collect();
    let client = options(target.credentials)
        .await
        .map_err(NotReady::Never)?
        .connection_timeout(ATTEMPT)
        .max_reconnects(0)
        .connect(servers)
        .await
        .map_err(|error| NotReady::Yet(error.to_string()))?;
    let info = client.server_info();
    if target.identity.is_some_and(|identity| identity != info.server_name) {
        return Err(NotReady::Yet(format!("another server answers, `{}`", info.server_name)));
    }
    let mut jetstream = async_nats::jetstream::new(client.clone());
    jetstream.set_timeout(ATTEMPT);
    let account = jetstream.query_account().await.map_err(|error| error.to_string());
    let _ = client.drain().await;
    match account {
        Ok(_) => Ok(Ready { version: Some(info.version) }),
        Err(reason) if !info.jetstream && target.identity.is_none() => {
            Err(NotReady::Never(format!("JetStream is not enabled: {reason}")))
        }
        Err(reason) => Err(NotReady::Yet(format!("JetStream does not answer: {reason}"))),
    }
}

async fn options(credentials: &Credentials) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new().name("queuebench probe");
    if let (Some(user), Some(password)) = (&credentials.user, &credentials.password) {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &credentials.token {
        options = options.token(token.clone());
    }
    if let Some(file) = &credentials.credentials_file {
        options = options
            .credentials_file(file)
            .await
            .map_err(|error| format!("credentials file {}: {error}", file.display()))?;
    }
    if let Some(ca) = &credentials.tls_ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (&credentials.tls_certificate, &credentials.tls_key) {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}
