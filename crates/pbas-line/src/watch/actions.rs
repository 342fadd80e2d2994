//! What is done about a recorded part, and noted once it is done.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use pbas::detector::Verdict;
use pbas::error::chain;
use pbas::image::Rgb8;
use pbas::{Error, Result, Threads};
use serde::Serialize;

use super::moving::{Moved, move_file};
use super::take::shown;
use super::{Print, Say, Slot, Wanted, exec, heatmap, scan, take};
use crate::record::ledger::{Action, Kind};
use crate::record::{Part, Record};

/// A part as it is printed, handed to a command and sent.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    part: &'a Part,
    /// Where the file is now; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// The JSON object of a part, on one line.
///
/// # Errors
/// The part is not in the record.
pub fn line(record: &Record, id: i64) -> Result<String> {
    let part = record
        .part(id)?
        .ok_or_else(|| Error::input(format!("part {id}: expected one in the record, found none")))?;
    line_of(record, &part)
}

fn line_of(record: &Record, part: &Part) -> Result<String> {
    let file = record.taken(part.id)?.map(|t| t.moved_to.unwrap_or(t.path));
    let line = Line { part, file: file.map(|f| f.to_string_lossy().into_owned()) };
    serde_json::to_string(&line).map_err(|e| Error::input(format!("part {}", part.id)).with_source(e))
}

/// What came of an action.
enum Done {
    /// It is done, or never will be: why.
    Noted(Option<String>),
    /// It is to be tried again: why.
    Later(String),
    /// Nobody reads the lines any more.
    Closed,
}

/// Does what is to be done.
pub struct Doer {
    /// The record.
    pub record: Record,
    /// The model, for heatmaps of parts that were judged before a restart.
    pub model: Slot,
    /// What is wanted now.
    pub wanted: Wanted,
    /// Warnings.
    pub say: Say,
    /// Lines.
    pub print: Print,
    /// Actions of which it was said that they are tried again.
    pub told: HashSet<i64>,
}

impl Doer {
    /// The actions that are wanted of a part, in the order in which they are done.
    #[must_use]
    pub fn asked(&self, verdict: Option<Verdict>) -> Vec<Kind> {
        let w = &self.wanted;
        let asked = |kind: &Kind| match kind {
            Kind::Heatmap => w.heatmaps.is_some() && verdict.is_some(),
            Kind::Move => self.destination(verdict).is_some(),
            Kind::Print => true,
            Kind::Exec => w.exec.is_some(),
            Kind::Mqtt => w.mqtt.is_some(),
        };
        Kind::ALL.into_iter().filter(asked).collect()
    }

    fn destination(&self, verdict: Option<Verdict>) -> Option<&PathBuf> {
        match verdict {
            Some(Verdict::Normal) => self.wanted.good.as_ref(),
            Some(Verdict::Anomalous) => self.wanted.anomalous.as_ref(),
            None => self.wanted.unreadable.as_ref(),
        }
    }

    /// Does the actions of a part and notes them; messages are the sender's. `false` where nobody reads the lines any more.
    ///
    /// # Errors
    /// The record cannot be written, or stdout.
    pub fn act(&mut self, part: &Part, actions: &[Action], mut drawn: Option<Rgb8>) -> Result<bool> {
        let mut noted = Vec::new();
        let mut open = true;
        for action in actions {
            let done = match action.kind {
                Kind::Heatmap => self.heatmap(part, drawn.take())?,
                Kind::Move => self.move_file(part)?,
                Kind::Print => self.print(part)?,
                Kind::Exec => self.exec(part)?,
                Kind::Mqtt => continue,
            };
            match done {
                Done::Noted(error) => {
                    if let Some(e) = &error {
                        (self.say)(&format!(
                            "part {} ({:?}): {}: {e}",
                            part.id,
                            part.name,
                            action.kind.word()
                        ));
                    }
                    noted.push((action.id, error));
                }
                Done::Later(e) => {
                    if self.told.insert(action.id) {
                        (self.say)(&format!(
                            "part {} ({:?}): {}: {e}; it is tried again and again",
                            part.id,
                            part.name,
                            action.kind.word()
                        ));
                    }
                }
                Done::Closed => open = false,
            }
        }
        self.record.note_done(&noted)?;
        Ok(open)
    }

    /// Does what an earlier process, or an earlier try, has left of a folder, in order; stops where something is still to be tried later.
    ///
    /// # Errors
    /// As [`Doer::act`].
    pub fn resume(&mut self, folder: &Path) -> Result<bool> {
        let kinds = [Kind::Heatmap, Kind::Move, Kind::Print, Kind::Exec];
        let mut after = 0;
        loop {
            let actions = self.record.to_do(folder, &kinds, after, 100)?;
            for of_part in actions.chunk_by(|a, b| a.part == b.part) {
                if let Some(part) = self.record.part(of_part[0].part)?
                    && !self.act(&part, of_part, None)?
                {
                    return Ok(false);
                }
            }
            match actions.last() {
                Some(last) => after = last.id,
                None => return Ok(true),
            }
        }
    }

    fn heatmap(&self, part: &Part, drawn: Option<Rgb8>) -> Result<Done> {
        let Some(folder) = &self.wanted.heatmaps else {
            return Ok(Done::Noted(Some("no longer wanted".into())));
        };
        let drawn = match drawn {
            Some(drawn) => drawn,
            // Judged before a restart.
            None => match self.draw_again(part)? {
                Ok(drawn) => drawn,
                Err(reason) => return Ok(Done::Noted(Some(reason))),
            },
        };
        Ok(match heatmap::write(folder, part.id, &part.name, &drawn) {
            Ok(()) => Done::Noted(None),
            Err(e) => Done::Later(chain(&e)),
        })
    }

    /// The heatmap of a part whose file is still as it was, or why there is none.
    fn draw_again(&self, part: &Part) -> Result<Result<Rgb8, String>> {
        let Some(taken) = self.record.taken(part.id)? else { return Ok(Err("its file is not known".into())) };
        let path = taken.moved_to.as_ref().unwrap_or(&taken.path);
        let Some((size, mtime_ns)) = scan::state(path) else {
            return Ok(Err("its file is not there any more".into()));
        };
        let judge = self.model.judge();
        if judge.digest != part.model_digest {
            return Ok(Err("another model is in service than the one that judged it".into()));
        }
        let candidate = scan::Candidate { path: path.clone(), size, mtime_ns, last_try: true };
        let extras = take::Extras { pictures: false, heatmap: true };
        let outcome = take::take(&judge, &candidate, extras, &mut Default::default(), Threads::All);
        Ok(match outcome {
            take::Outcome::Ready(again, Some(drawn)) if again.sha256 == part.sha256 => Ok(drawn),
            _ => Err("its file is not as it was any more".into()),
        })
    }

    fn move_file(&self, part: &Part) -> Result<Done> {
        let Some(folder) = self.destination(part.said.as_ref().map(|s| s.verdict)) else {
            return Ok(Done::Noted(Some("no longer wanted".into())));
        };
        let Some(taken) = self.record.taken(part.id)? else {
            return Ok(Done::Noted(Some("its file is not known".into())));
        };
        if let Err(e) = std::fs::create_dir_all(folder) {
            return Ok(Done::Later(chain(&Error::io("cannot make folder", folder, e))));
        }
        Ok(match move_file(&taken, part.id, folder) {
            Ok(Moved::To(target)) => {
                self.record.note_moved(part.id, &target)?;
                Done::Noted(None)
            }
            Ok(Moved::Never(reason)) => Done::Noted(Some(reason)),
            Err(e) => Done::Later(chain(&e)),
        })
    }

    fn print(&mut self, part: &Part) -> Result<Done> {
        let line = line_of(&self.record, part)?;
        Ok(if (self.print)(&line)? { Done::Noted(None) } else { Done::Closed })
    }

    fn exec(&self, part: &Part) -> Result<Done> {
        let Some(program) = &self.wanted.exec else {
            return Ok(Done::Noted(Some("no longer wanted".into())));
        };
        let file = self.record.taken(part.id)?.map(|t| t.moved_to.unwrap_or(t.path));
        let file = file.unwrap_or_else(|| shown(Path::new(&part.name)).into());
        let ran = exec::run(program, part, &file, &line_of(&self.record, part)?);
        // A command that fails is not run for ever: what it did is not known.
        Ok(Done::Noted(ran.err().map(|e| chain(&e))))
    }
}
