//! What a watched folder has taken, and what is still to be done about it.
//!
//! A picture is recorded together with its file and the actions that it asks for, in one transaction, before any of them is begun. An
//! action that is not noted as done is done again after a restart.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pbas::Result;
use rusqlite::OptionalExtension;
use serde::Serialize;

use super::{NewPart, Part, Record, write};

/// What is done about a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A heatmap is written.
    Heatmap,
    /// The file is moved.
    Move,
    /// A JSON line goes to stdout.
    Print,
    /// A command is run.
    Exec,
    /// A message goes to the broker.
    Mqtt,
}

impl Kind {
    /// In the order in which they are done.
    pub const ALL: [Self; 5] = [Self::Heatmap, Self::Move, Self::Print, Self::Exec, Self::Mqtt];

    /// As it stands in the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Heatmap => "heatmap",
            Self::Move => "move",
            Self::Print => "print",
            Self::Exec => "exec",
            Self::Mqtt => "mqtt",
        }
    }
}

/// A file as it was when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The watched folder.
    pub folder: PathBuf,
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Where it is now, if it was moved.
    pub moved_to: Option<PathBuf>,
}

/// A recorded file.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    /// Now, with the actions to be done in the order in which they were asked for.
    New(Box<Part>, Vec<Action>),
    /// It had been before: the number of the part.
    Known(i64),
}

/// Something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Its number.
    pub id: i64,
    /// About which part.
    pub part: i64,
    /// What.
    pub kind: Kind,
}

impl Record {
    /// Records a part with its file and the actions that are to be done, unless the same file (path, size, time and content) was recorded
    /// before.
    ///
    /// # Errors
    /// As [`Record::add`].
    pub fn add_file(&self, part: &NewPart, file: &Taken, actions: &[Kind]) -> Result<Added> {
        let added = self.write(|t| {
            let size = i64::try_from(file.size).unwrap_or(i64::MAX);
            let sql = "SELECT part FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND sha256 = ?";
            let known: Option<i64> = t
                .prepare_cached(sql)?
                .query_row((bytes(&file.path), size, file.mtime_ns, &part.sha256), |r| r.get(0))
                .optional()?;
            if let Some(id) = known {
                return Ok(Err(id));
            }
            let id = write::insert(t, part)?;
            let sql =
                "INSERT INTO files (part, folder, path, size, mtime_ns, sha256) VALUES (?, ?, ?, ?, ?, ?)";
            t.prepare_cached(sql)?.execute((
                id,
                bytes(&file.folder),
                bytes(&file.path),
                size,
                file.mtime_ns,
                &part.sha256,
            ))?;
            let mut asked = Vec::new();
            for &kind in actions {
                let sql = "INSERT INTO actions (part, kind) VALUES (?, ?)";
                t.prepare_cached(sql)?.execute((id, kind.word()))?;
                asked.push(Action { id: t.last_insert_rowid(), part: id, kind });
            }
            Ok(Ok((id, asked)))
        })?;
        Ok(match added {
            Ok((id, asked)) => Added::New(Box::new(write::recorded(id, part)), asked),
            Err(id) => Added::Known(id),
        })
    }

    /// The part that was recorded of a file of this size and time, and whether the file was moved away since.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn known(&self, path: &Path, size: u64, mtime_ns: i64) -> Result<Option<(i64, bool)>> {
        let connection = self.reader();
        let found = || {
            let sql = "SELECT part, moved_to IS NOT NULL FROM files WHERE path = ? AND size = ? AND mtime_ns = ? \
                       ORDER BY part DESC LIMIT 1";
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            connection
                .prepare_cached(sql)?
                .query_row((bytes(path), size, mtime_ns), |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()
        };
        found().map_err(|e| self.fault(e))
    }

    /// The file of a part.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn taken(&self, part: i64) -> Result<Option<Taken>> {
        let connection = self.reader();
        let found = || {
            let sql = "SELECT folder, path, size, mtime_ns, moved_to FROM files WHERE part = ?";
            connection
                .prepare_cached(sql)?
                .query_row([part], |r| {
                    Ok(Taken {
                        folder: path(r.get(0)?),
                        path: path(r.get(1)?),
                        size: r.get::<_, i64>(2)?.unsigned_abs(),
                        mtime_ns: r.get(3)?,
                        moved_to: r.get::<_, Option<Vec<u8>>>(4)?.map(path),
                    })
                })
                .optional()
        };
        found().map_err(|e| self.fault(e))
    }

    /// Notes where a part's file is now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_moved(&self, part: i64, to: &Path) -> Result<()> {
        self.write(|t| {
            t.prepare_cached("UPDATE files SET moved_to = ? WHERE part = ?")?
                .execute((bytes(to), part))
                .map(|_| ())
        })
    }

    /// Actions of a folder that are not done, in order: those of these kinds with numbers above `after`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn to_do(&self, folder: &Path, kinds: &[Kind], after: i64, limit: usize) -> Result<Vec<Action>> {
        let words: Vec<String> = kinds.iter().map(|k| format!("'{}'", k.word())).collect();
        let sql = format!(
            "SELECT actions.id, actions.part, kind FROM actions JOIN files ON files.part = actions.part \
             WHERE done_us IS NULL AND actions.id > ? AND folder = ? AND kind IN ({}) ORDER BY actions.id LIMIT {limit}",
            words.join(", ")
        );
        let connection = self.reader();
        let found = || -> rusqlite::Result<Vec<Action>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((after, bytes(folder)))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let word: String = row.get(2)?;
                if let Some(kind) = Kind::ALL.into_iter().find(|k| k.word() == word) {
                    found.push(Action { id: row.get(0)?, part: row.get(1)?, kind });
                }
            }
            Ok(found)
        };
        found().map_err(|e| self.fault(e))
    }

    /// Notes actions as done; with an error where they could not be, and will not be tried again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_done(&self, done: &[(i64, Option<String>)]) -> Result<()> {
        if done.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now().as_microsecond();
        self.write(|t| {
            for (id, error) in done {
                let sql = "UPDATE actions SET done_us = ?, error = ? WHERE id = ?";
                t.prepare_cached(sql)?.execute((now, error, id))?;
            }
            Ok(())
        })
    }

    /// Forgets files of a folder whose parts retention has removed, once they are not there any more.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn forget_files(&self, folder: &Path, is_there: impl Fn(&Path) -> bool) -> Result<()> {
        let found = {
            let connection = self.reader();
            let found = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
                let sql =
                    "SELECT part, path FROM files WHERE folder = ? AND part NOT IN (SELECT id FROM parts)";
                let mut statement = connection.prepare_cached(sql)?;
                statement.query_map([bytes(folder)], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
            };
            found().map_err(|e| self.fault(e))?
        };
        let gone: Vec<i64> =
            found.into_iter().filter(|(_, p)| !is_there(&path(p.clone()))).map(|(id, _)| id).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.write(|t| {
            for id in &gone {
                t.prepare_cached("DELETE FROM files WHERE part = ?")?.execute([id])?;
            }
            Ok(())
        })
    }
}

/// A path as bytes: names of files need not be UTF-8.
#[cfg(unix)]
fn bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}
#[cfg(not(unix))]
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> PathBuf {
    let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    name.into()
}
#[cfg(not(unix))]
fn path(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}
