//! `pbas watch`: pictures that are dropped into a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pbas::{Error, Result};
use pbas_line::hub::Hub;
use pbas_line::judge::Judge;
use pbas_line::record::Record;
use pbas_line::record::retain::Retention;
use pbas_line::serve::Limits;
use pbas_line::serve::http::ListenOptions;
use pbas_line::watch::exec::Program;
use pbas_line::watch::mqtt::{Broker, PASSWORD};
use pbas_line::watch::{Page, Patience, Slot, Wanted, Watch as Watching, run as watch};

use super::tokens;
use crate::args::{MoveOf, Watch};
use crate::output::{Printer, Status, data, to_stderr};
use crate::progress::is_stop_wished;

/// Runs the command.
///
/// # Errors
/// What is asked for makes no sense, the model or the record cannot be used, or the folder is not there.
pub fn run(args: &Watch, printer: Printer) -> Result<Status> {
    let judge = Judge::load(&args.model)?;
    let wanted = wanted(args, &judge)?;
    let record = Record::open(&args.db)?;
    printer.say(&format!(
        "watching {} with model {}; the record is {}",
        args.folder.display(),
        judge.name,
        args.db.display()
    ));
    let (hub, model) = (Hub::new(record), Slot::new(judge));
    let page = args.page.map(|address| page(args, address, &hub, &model)).transpose()?;
    if let Some(page) = &page {
        printer.say(&format!("the page is at {}", page.url()));
    }
    let watching = Watching {
        folder: args.folder.clone(),
        model,
        hub,
        patience: Patience {
            poll: args.poll,
            quiet: args.quiet_time,
            give_up: args.give_up,
            done_files: args.done_files,
        },
        wanted,
        pictures: !args.no_pictures,
        retention: Retention { keep: args.keep, max_size: args.max_size },
        say: Arc::new(|text: &str| to_stderr(&format!("warning: {text}"))),
        print: Box::new(|line: &str| data(format!("{line}\n").as_bytes())),
    };
    watch(watching, &is_stop_wished)?;
    Ok(Status::Done)
}

fn page(args: &Watch, address: SocketAddr, hub: &Hub, model: &Slot) -> Result<Page> {
    let tokens = tokens(args.tokens.as_deref())?;
    let listen = ListenOptions {
        address,
        tls: None,
        tokens,
        insecure: args.insecure,
        limits: Limits::default(),
        observer: None,
    };
    Page::start(hub.clone(), model.clone(), listen)
}

fn wanted(args: &Watch, judge: &Judge) -> Result<Wanted> {
    let mut wanted = Wanted {
        unreadable: match &args.unreadable {
            Some(folder) if folder == Path::new("keep") => None,
            Some(folder) => Some(folder.clone()),
            None => Some(args.folder.join("unreadable")),
        },
        heatmaps: args.heatmaps.clone(),
        ..Wanted::default()
    };
    for (of, folder) in &args.moves {
        let place = match of {
            MoveOf::Good => &mut wanted.good,
            MoveOf::Anomalous => &mut wanted.anomalous,
        };
        if place.replace(folder.clone()).is_some() {
            return Err(Error::caller(format!(
                "--move: expected one folder for each verdict, found another: `{}`",
                folder.display()
            )));
        }
    }
    if let Some(command) = &args.exec {
        wanted.exec = Some(Program::parse(command, args.exec_timeout)?);
    }
    if let Some(url) = &args.mqtt {
        let password = std::env::var(PASSWORD).ok();
        wanted.mqtt = Some(Broker::parse(url, &format!("pbas/{}", judge.name), password)?);
    }
    Ok(wanted)
}
