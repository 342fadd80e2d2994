//! The tables of a record, and how older files become newer ones. `docs/line.md` describes every column.

use std::path::Path;
use std::time::Duration;

use pbas::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::fault;

/// `PRAGMA application_id` of a record: "PBAS".
const APPLICATION: i32 = 0x5042_4153;
/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this many bytes once it has been longer.
const LOG_LIMIT: i64 = 16 << 20;

/// What makes schema `n + 1` of schema `n`. Only added to: files of every earlier program are brought up to date by the rest of them.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// The schema that this program writes.
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// Opens a file to write, made if there is none, and brings it up to date.
pub fn open(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open(path).map_err(|e| fault(Some(path), e))?;
    prepare(&mut connection, Some(path))?;
    Ok(connection)
}

/// A new one in memory.
pub fn in_memory() -> Result<Connection> {
    let mut connection = Connection::open_in_memory().map_err(|e| fault(None, e))?;
    prepare(&mut connection, None)?;
    Ok(connection)
}

/// Opens a file to read it alone; it must be there.
pub fn open_to_read(path: &Path) -> Result<Connection> {
    std::fs::metadata(path).map_err(|e| Error::io("cannot read record", path, e))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| fault(Some(path), e))?;
    connection.busy_timeout(PATIENCE).map_err(|e| fault(Some(path), e))?;
    let connection = match version(&connection) {
        Ok(_) => connection,
        // A file on a medium that cannot be written: the index of its log cannot be made there. With no log nothing is missed by passing over it.
        Err(e) if cannot_make_index(&e) && !log_holds_something(path) => unchanging(path)?,
        Err(e) => return Err(fault(Some(path), e)),
    };
    let found = version(&connection).map_err(|e| fault(Some(path), e))?;
    check_kind(&connection, Some(path))?;
    if found == 0 {
        return Err(not_a_record(Some(path)));
    }
    check_version(found, Some(path))?;
    if found < VERSION {
        return Err(Error::unsupported(format!(
            "record `{}`: expected schema {VERSION}, found the older {found}",
            path.display()
        ))
        .with_hint("`pbas watch` and `pbas serve` bring it up to date when they open it to write"));
    }
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |r| r.get(0))
}

fn cannot_make_index(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as C;
    matches!(e.sqlite_error_code(), Some(C::CannotOpen | C::ReadOnly))
}

fn log_holds_something(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|m| m.len() > 0)
}

fn unchanging(path: &Path) -> Result<Connection> {
    let escaped: String = path
        .to_str()
        .ok_or_else(|| Error::caller(format!("record `{}`: expected a path in UTF-8", path.display())))?
        .chars()
        .map(|c| match c {
            '%' => "%25".to_owned(),
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            c => c.to_string(),
        })
        .collect();
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
        .map_err(|e| fault(Some(path), e))
}

fn prepare(connection: &mut Connection, path: Option<&Path>) -> Result<()> {
    let failed = |e| fault(path, e);
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    let found = version(connection).map_err(failed)?;
    check_kind(connection, path)?;
    check_version(found, path)?;
    // Every verdict is on the disk before anything is done about it: a log synced at each commit. Both sides of a review's link are kept.
    connection
        .execute_batch(&format!(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = {LOG_LIMIT};"
        ))
        .map_err(failed)?;
    if found < VERSION {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // Another process may have been quicker.
        let found = version(&transaction).map_err(failed)?;
        for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(step).map_err(failed)?;
        }
        transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// A file of another program is left alone.
fn check_kind(connection: &Connection, path: Option<&Path>) -> Result<()> {
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(|e| fault(path, e))?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
        .map_err(|e| fault(path, e))?;
    if application == APPLICATION || (application == 0 && tables == 0) {
        return Ok(());
    }
    Err(not_a_record(path))
}

fn not_a_record(path: Option<&Path>) -> Error {
    let shown = path.unwrap_or(Path::new(":memory:"));
    Error::new(
        ErrorKind::Input,
        format!("`{}`: expected a record of pbas, found another SQLite database", shown.display()),
    )
    .with_hint("give the path of a new file, or of one that `pbas watch` or `pbas serve --db` has made")
}

fn check_version(found: i32, path: Option<&Path>) -> Result<()> {
    if found <= VERSION {
        return Ok(());
    }
    let shown = path.unwrap_or(Path::new(":memory:"));
    Err(Error::unsupported(format!(
        "record `{}`: expected schema {VERSION} or older, found {found}",
        shown.display()
    ))
    .with_hint("a later pbas has written it: use that one, or begin another record"))
}
