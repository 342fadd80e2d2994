//! HTTP for whatever router: an address, TLS, tokens, limits on heads and bodies, an end that finishes what was begun.

mod auth;
mod body;
mod connection;
mod front;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pbas::{Error, ErrorKind, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use auth::Tokens;
pub use front::{Note, Observer, Seen};

use super::limits::Limits;

/// Time for answers that are being sent once the server has closed its door.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Time without an accept after the system has refused one (too many open files).
const BREATH: Duration = Duration::from_millis(50);
/// Connections beyond the limit that are told so at once; more are closed without a word.
const TURNED_AWAY: usize = 64;

/// Certificate and key, as PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where and how to listen.
#[derive(Clone)]
pub struct ListenOptions {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Encrypted, with these.
    pub tls: Option<TlsFiles>,
    /// Tokens that requests need.
    pub tokens: Option<Tokens>,
    /// Beyond this machine without a token.
    pub insecure: bool,
    /// Limits.
    pub limits: Limits,
    /// Told of every answer.
    pub observer: Option<Observer>,
}

/// A door that is open; connections wait until [`Listener::run`].
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    options: ListenOptions,
}

/// Listens and serves until `shutdown`; then takes no more connections, finishes the answers that were begun, and returns.
///
/// # Errors
/// As [`Listener::bind`].
pub async fn run(router: Router, options: ListenOptions, shutdown: impl Future<Output = ()>) -> Result<()> {
    Listener::bind(options).await?.run(router, shutdown).await;
    Ok(())
}

impl Listener {
    /// Opens the door.
    ///
    /// # Errors
    /// An address in use or not of this machine; one beyond this machine with neither tokens nor consent; certificate or key unfit.
    pub async fn bind(options: ListenOptions) -> Result<Self> {
        let address = options.address;
        if !address.ip().is_loopback() && options.tokens.is_none() && !options.insecure {
            return Err(Error::caller(format!(
                "`{address}` can be reached from other machines: expected tokens, found none"
            ))
            .with_hint("give a file with `--tokens`, or `--insecure` where everybody on the network may ask and change"));
        }
        let tls = options.tls.as_ref().map(tls_acceptor).transpose()?;
        let tcp = TcpListener::bind(address).await.map_err(|e| {
            let in_use = e.kind() == std::io::ErrorKind::AddrInUse;
            let error = Error::new(ErrorKind::Io, format!("cannot listen on `{address}`")).with_source(e);
            match in_use {
                true => error.with_hint(
                    "another program listens there; end it, or choose another port with `--listen`",
                ),
                false => error,
            }
        })?;
        let address = tcp
            .local_addr()
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot listen on `{address}`")).with_source(e))?;
        Ok(Self { tcp, address, tls, options })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a browser wants it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `shutdown`.
    pub async fn run(self, router: Router, shutdown: impl Future<Output = ()>) {
        let limits = self.options.limits.clone();
        let (stop, stopping) = watch::channel(false);
        let front = front::Front::new(&self.options, self.address, stopping.clone());
        let router = front.before(router);
        let room = Arc::new(Semaphore::new(limits.connections));
        let door = Arc::new(Semaphore::new(TURNED_AWAY));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                // Ended ones are let go of as they end.
                Some(_) = connections.join_next() => continue,
                accepted = self.tcp.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot take a connection");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                if let Ok(place) = Arc::clone(&door).try_acquire_owned() {
                    connections.spawn(async move {
                        connection::turn_away(stream).await;
                        drop(place);
                    });
                }
                continue;
            };
            let (router, tls, limits, stopping) =
                (router.clone(), self.tls.clone(), limits.clone(), stopping.clone());
            connections.spawn(async move {
                one(stream, tls, router, &limits, stopping).await;
                drop(place);
            });
        }
        drop(self.tcp);
        // Nobody listens where no connection is open.
        let _ = stop.send(true);
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ANSWERS, rest).await.is_err() {
            tracing::warn!("some clients did not take their answers in time");
        }
    }
}

/// A connection from its first byte to its last.
async fn one(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: &Limits,
    stopping: watch::Receiver<bool>,
) {
    // Answers are short: they are not to wait for more. A connection that is broken already shows below.
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection::serve(stream, router, limits, stopping).await,
        Some(tls) => match tokio::time::timeout(limits.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection::serve(stream, router, limits, stopping).await,
            Ok(Err(e)) => tracing::debug!(error = %e, "TLS was not agreed on"),
            Err(_) => tracing::debug!("TLS was not agreed on in time"),
        },
    }
}

fn tls_acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let unfit = |what: &str, path: &PathBuf, e: rustls::pki_types::pem::Error| {
        Error::input(format!("cannot read {what} `{}`: expected PEM", path.display())).with_source(e)
    };
    let certificates = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| unfit("certificate", &files.cert, e))?;
    if certificates.is_empty() {
        return Err(Error::input(format!(
            "`{}`: expected a certificate in PEM, found none",
            files.cert.display()
        )));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unfit("private key", &files.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |e: rustls::Error| {
        Error::input(format!(
            "certificate `{}` and key `{}` are unfit",
            files.cert.display(),
            files.key.display()
        ))
        .with_source(e)
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
