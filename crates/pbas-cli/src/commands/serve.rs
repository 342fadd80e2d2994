//! `pbas serve`: verdicts over HTTP until Ctrl-C.

use std::time::Duration;

use pbas::{Error, Result};
use pbas_line::hub::Hub;
use pbas_line::record::Record;
use pbas_line::record::retain::Retention;
use pbas_line::serve::http::{ListenOptions, TlsFiles};
use pbas_line::serve::{self, Format, Limits, Options};

use super::tokens;
use crate::args::{LogFormat, Serve};
use crate::output::{Printer, Status, to_stderr};
use crate::progress::is_stop_wished;

/// Runs the command.
///
/// # Errors
/// A model, a token file, a certificate, the record or the address is at fault.
pub fn run(args: &Serve, printer: Printer) -> Result<Status> {
    let format = match args.log {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    serve::init_log(format, printer == Printer::Quiet);
    let tokens = tokens(args.tokens.as_deref())?;
    let tls = args.cert.clone().zip(args.key.clone()).map(|(cert, key)| TlsFiles { cert, key });
    if tokens.is_some() && tls.is_none() && !args.listen.ip().is_loopback() {
        to_stderr(
            "warning: tokens travel unencrypted: everybody on the way can read them; use `--cert` and `--key`",
        );
    }
    let record = match &args.db {
        Some(path) => Record::open(path)?,
        None => Record::in_memory()?,
    };
    let options = Options {
        models: args.files.clone(),
        folder: args.models.clone(),
        hub: Hub::new(record),
        retention: Retention { keep: args.keep, max_size: args.max_size },
        listen: ListenOptions {
            address: args.listen,
            tls,
            tokens,
            insecure: args.insecure,
            limits: limits(args)?,
            observer: None,
        },
    };
    serve::run(options, |url| printer.say(&format!("listening on {url}")), is_stop_wished)?;
    Ok(Status::Done)
}

fn limits(args: &Serve) -> Result<Limits> {
    let bytes = |n: u64, option: &str| {
        usize::try_from(n)
            .ok()
            .filter(|&n| (1024..1 << 40).contains(&n))
            .ok_or_else(|| Error::caller(format!("`{option}`: expected 1 KiB to 1 TiB, found {n} bytes")))
    };
    let limits = Limits {
        queue: usize::from(args.queue),
        deadline: Duration::from_secs_f64(args.deadline),
        body: bytes(args.max_body, "--max-body")?,
        bodies: bytes(args.max_bodies, "--max-bodies")?,
        pixels: args.max_pixels,
        connections: usize::from(args.max_connections),
        ..Limits::default()
    };
    if limits.bodies < limits.body {
        return Err(Error::caller(format!(
            "`--max-bodies`: expected at least `--max-body`, {} bytes, found {}",
            limits.body, limits.bodies
        )));
    }
    Ok(limits)
}
