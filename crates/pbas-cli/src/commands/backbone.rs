//! `pbas backbone`: networks that are built in, imported, or can be fetched.

use std::path::PathBuf;

use pbas::backbone::{Backbone, EMBEDDED_NAME, Imported, KNOWN, Store, WeightFormat};
use pbas::{Error, ErrorKind, Result};
use serde_json::json;

use crate::args::{BackboneArgs, BackboneCommand};
use crate::output::{Printer, Status, Table, bytes, data};

/// Runs the command.
///
/// # Errors
/// A file that is no backbone, a name that is taken, a download that fails or is not what it should be.
pub fn run(args: &BackboneArgs, printer: Printer) -> Result<Status> {
    let store = store(args.store.clone())?;
    match &args.command {
        BackboneCommand::List(list) => show(&store, list.json),
        BackboneCommand::Import(import) => {
            let format = WeightFormat::from(import.format);
            let kept = store.import(&import.file, import.name.as_deref(), format, (None, import.force))?;
            Ok(say_kept(&kept, printer))
        }
        BackboneCommand::Fetch(fetch) => Ok(say_kept(&crate::fetch::run(&store, fetch, printer)?, printer)),
    }
}

/// The user's store, or another that was asked for.
///
/// # Errors
/// No folder is given, and the system names no home.
pub fn store(given: Option<PathBuf>) -> Result<Store> {
    let folder = given.or_else(|| data_folder().map(|d| d.join("backbones")));
    folder.map(Store::new).ok_or_else(|| {
        Error::caller("backbones: the system names no folder for the user's data")
            .with_hint("set PBAS_DATA_DIR to one")
    })
}

/// Where programs keep what belongs to a user, by the habit of each system.
fn data_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(own) = variable("PBAS_DATA_DIR") {
        return Some(own);
    }
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        std::env::home_dir().map(|h| h.join("Library").join("Application Support"))
    } else {
        variable("XDG_DATA_HOME").or_else(|| std::env::home_dir().map(|h| h.join(".local").join("share")))
    };
    base.map(|b| b.join("pbas"))
}

fn show(store: &Store, as_json: bool) -> Result<Status> {
    let imported = store.list()?;
    let text = if as_json {
        let value = json!({ "built_in": [EMBEDDED_NAME], "imported": imported, "known": KNOWN, "folder": store.dir() });
        let text = serde_json::to_string_pretty(&value);
        text.map_err(|e| Error::new(ErrorKind::Io, "cannot write the list").with_source(e))? + "\n"
    } else {
        let mut table = Table::new(&["name", "size", "where"]);
        table.row(&[EMBEDDED_NAME, "", "built in"]);
        for i in &imported {
            table.row(&[&i.name, &bytes(i.bytes), "imported"]);
        }
        for k in KNOWN.iter().filter(|k| imported.iter().all(|i| i.name != k.name)) {
            table.row(&[k.name, &bytes(k.bytes), "known: `pbas backbone fetch` downloads it"]);
        }
        format!("{}\nimported ones lie in {}\n", table.render(), store.dir().display())
    };
    data(text.as_bytes())?;
    Ok(Status::Done)
}

/// Says what was put into the store, and how to use it.
fn say_kept((imported, backbone): &(Imported, Backbone), printer: Printer) -> Status {
    printer.say(&format!(
        "{}: {} with {}, {} in {}\nuse it with: --backbone {}",
        imported.name,
        backbone.info.name,
        backbone.feature_layers().join(", "),
        bytes(imported.bytes),
        imported.path.display(),
        imported.name
    ));
    Status::Done
}
