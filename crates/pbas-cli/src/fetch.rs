//! `pbas backbone fetch`: the one place that uses the network, and only when asked to.
//!
//! A download goes to a file beside the store, is gone on with where it broke off, and is taken only if its SHA-256 is the expected one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pbas::backbone::{Backbone, Imported, Store, WeightFormat, check_name, hex, known};
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::args::Fetch;
use crate::output::{Printer, bytes};
use crate::progress::Progress;

/// A download that breaks off is begun again so often, from where it was.
const ATTEMPTS: usize = 4;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of a piece of progress.
const PIECE: u64 = 1 << 20;
/// More than any backbone has.
const MOST: u64 = 4 << 30;

/// Downloads a backbone and puts it into the store.
///
/// # Errors
/// An unknown name, a server that refuses or is silent, a file that is not the expected one (it is deleted).
pub fn run(store: &Store, args: &Fetch, printer: Printer) -> Result<(Imported, Backbone)> {
    check_name(&args.name)?;
    let known = known(&args.name);
    let url = args.from_url.as_deref().or(known.map(|k| k.url));
    let digest = args.sha256.as_deref().or(known.map(|k| k.sha256_prefix));
    let (Some(url), Some(digest)) = (url, digest) else {
        return Err(Error::caller(format!(
            "backbone `{}`: its address and SHA-256 are not known",
            args.name
        ))
        .with_hint(
            "`pbas backbone list` names those that are; for others give `--from-url` and `--sha256`",
        ));
    };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(Error::caller(format!(
            "`--from-url`: expected an address with http or https, found `{url}`"
        )));
    }
    if store.path(&args.name).exists() && !args.force {
        return Err(Error::caller(format!("backbone `{}` is there already", args.name))
            .with_hint("`--backbone` takes it by this name; `--force` downloads it again"));
    }
    printer.say(&format!("address  {url}"));
    printer.say(&format!(
        "size     {}",
        known.map_or("not known".into(), |k| format!("about {}", bytes(k.bytes)))
    ));
    printer.say(&format!("licence  {}", known.map_or("not known", |k| k.licence)));
    printer.say(&format!("sha256   {digest}{}", if digest.len() < 64 { "..." } else { "" }));

    fs::create_dir_all(store.dir()).map_err(|e| Error::io("cannot make folder", store.dir(), e))?;
    let part = store.dir().join(format!("{}-{}.part", args.name, &digest[..8]));
    let progress = Progress::new(printer);
    download(url, &part, Duration::from_secs(args.patience), &progress)?;
    let found = digest_of(&part)?;
    if !found.starts_with(digest) {
        fs::remove_file(&part).map_err(|e| Error::io("cannot delete", &part, e))?;
        return Err(Error::input(format!("`{url}`: expected a file with SHA-256 {digest}, found {found}"))
            .with_hint("the download was deleted; another file lies at this address, or somebody changed it on the way"));
    }
    let format = WeightFormat::from(args.format);
    let licence = known.map(|k| k.licence);
    let (imported, backbone) = store.import(&part, Some(&args.name), format, (licence, args.force))?;
    fs::remove_file(&part).map_err(|e| Error::io("cannot delete", &part, e))?;
    Ok((imported, backbone))
}

/// Downloads into `part`, going on after what is there.
fn download(url: &str, part: &Path, patience: Duration, progress: &Progress) -> Result<()> {
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            progress.warn(&format!("the download broke off; attempt {} of {ATTEMPTS}", attempt + 1));
            std::thread::sleep(PAUSE);
        }
        match one_attempt(url, part, patience, progress) {
            Ok(()) => return Ok(()),
            Err(Broken::Again(e)) => last = Some(e),
            Err(Broken::For(e)) => return Err(e),
        }
    }
    let error = last.unwrap_or_else(|| Error::new(ErrorKind::Io, format!("cannot download `{url}`")));
    Err(error.with_hint("what has come so far is kept: the same command goes on from there"))
}

/// How an attempt ended.
enum Broken {
    /// Another one may get further.
    Again(Error),
    /// It would go the same way.
    For(Error),
}

fn one_attempt(
    url: &str,
    part: &Path,
    patience: Duration,
    progress: &Progress,
) -> std::result::Result<(), Broken> {
    let have = fs::metadata(part).map_or(0, |m| m.len());
    // An error says that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The system's certificates, among them those of a company's own mirror. Proxies come from the environment.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .build();
    let agent: Agent = config.into();
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let cannot = |what: &str| Error::new(ErrorKind::Io, format!("cannot download `{url}`: {what}"));
    let response = request.call().map_err(|e| Broken::Again(cannot("no answer").with_source(e)))?;
    let status = response.status().as_u16();
    let (start, opened) = match status {
        200 => (0, File::create(part)),
        206 => (have, OpenOptions::new().append(true).open(part)),
        416 if have > 0 => {
            // Nothing comes after what is there: it is whole, or of another file, which the digest will tell.
            return Ok(());
        }
        404 | 410 => return Err(Broken::For(cannot(&format!("no such file (status {status})")))),
        500..=599 => return Err(Broken::Again(cannot(&format!("the server failed (status {status})")))),
        _ => return Err(Broken::For(cannot(&format!("the server answered with status {status}")))),
    };
    let mut file = opened.map_err(|e| Broken::For(Error::io("cannot write", part, e)))?;
    let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|l| start + l > MOST) {
        return Err(Broken::For(cannot(&format!("the file is larger than {}", bytes(MOST)))));
    }
    progress.begin("download", length.map_or(0, |l| (start + l).div_ceil(PIECE)), "MiB");
    if start >= PIECE {
        progress.advance(start / PIECE);
    }
    let mut got = start;
    // Reading waits in a thread of its own, so that silence can be told from slowness. It ends with the connection or the program.
    let (sender, receiver) = sync_channel::<std::io::Result<Vec<u8>>>(4);
    let mut body = response.into_body().into_reader();
    std::thread::spawn(move || {
        loop {
            let mut block = vec![0; 64 << 10];
            let read = body.read(&mut block).map(|n| {
                block.truncate(n);
                block
            });
            let end = read.as_ref().map_or(true, Vec::is_empty);
            if sender.send(read).is_err() || end {
                return;
            }
        }
    });
    loop {
        if progress.interrupted() {
            return Err(Broken::For(
                Error::new(ErrorKind::Interrupted, "the download was stopped")
                    .with_hint("the same command goes on from there"),
            ));
        }
        match receiver.recv_timeout(patience) {
            Ok(Ok(block)) if block.is_empty() => break,
            Ok(Ok(block)) => {
                file.write_all(&block).map_err(|e| Broken::For(Error::io("cannot write", part, e)))?;
                let before = got / PIECE;
                got += block.len() as u64;
                (before..got / PIECE).for_each(|_| progress.advance(1));
                if got > MOST {
                    return Err(Broken::For(cannot(&format!("the file is larger than {}", bytes(MOST)))));
                }
            }
            Ok(Err(e)) => return Err(Broken::Again(cannot("the connection broke").with_source(e))),
            Err(RecvTimeoutError::Disconnected) => return Err(Broken::Again(cannot("the connection broke"))),
            Err(RecvTimeoutError::Timeout) => {
                return Err(Broken::Again(cannot(&format!("nothing came for {} s", patience.as_secs()))));
            }
        }
    }
    file.sync_all().map_err(|e| Broken::For(Error::io("cannot write", part, e)))?;
    progress.end();
    match length {
        Some(l) if start + l != got => {
            Err(Broken::Again(cannot(&format!("expected {} bytes, {got} came", start + l))))
        }
        _ => Ok(()),
    }
}

fn digest_of(path: &Path) -> Result<String> {
    let io = |e| Error::io("cannot read", path, e);
    let mut file = File::open(path).map_err(io)?;
    let (mut digest, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).map_err(io)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&block[..n]),
        }
    }
}
