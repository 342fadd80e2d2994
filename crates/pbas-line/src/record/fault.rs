//! What SQLite says, in words of who can fix it.

use std::path::Path;

use pbas::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// An error of SQLite with the record at `path` (`None`: in memory).
pub fn fault(path: Option<&Path>, e: rusqlite::Error) -> Error {
    let shown = path.unwrap_or(Path::new(":memory:"));
    let shown = shown.display();
    let (kind, text, hint) = match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Io,
            format!("record `{shown}` is locked: another program has been writing for more than 5 s"),
            "end the other program's transaction; reading never locks it",
        ),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Io,
            format!("record `{shown}`: the disk is full; nothing was written"),
            "make room, or limit the record by `--keep` or `--max-size`",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            ErrorKind::Io,
            format!("record `{shown}` cannot be written: it is read-only"),
            "give this user the right to write to the file and to its folder",
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Io,
            format!("cannot open record `{shown}`"),
            "expected a file in a folder that is there and may be written: SQLite keeps its log beside the file",
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Input,
            format!("`{shown}`: expected a record of pbas, found no SQLite database"),
            "give the path of a new file, or of one that `pbas watch` or `pbas serve --db` has made",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Input,
            format!("record `{shown}` is damaged"),
            "restore a copy, or save what can be read with sqlite3's `.recover`; begin another record",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            ErrorKind::Io,
            format!("record `{shown}`: the disk refused to read or to write"),
            "look at the disk and at the system's log",
        ),
        _ => return Error::new(ErrorKind::Io, format!("record `{shown}`")).with_source(e),
    };
    let error = Error::new(kind, text).with_hint(hint);
    match e.sqlite_error_code() {
        // The text says all of it.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::NotADatabase,
        ) => error,
        _ => error.with_source(e),
    }
}
