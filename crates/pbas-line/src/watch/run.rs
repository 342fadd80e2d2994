//! The loop: look, judge on all cores, record in order, see to the actions.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use pbas::detector::Scratch;
use pbas::error::chain;
use pbas::ordered::in_order;
use pbas::{Error, Result, Threads};
use sha2::{Digest, Sha256};

use super::actions::Doer;
use super::camera::Camera;
use super::mqtt::Sender;
use super::scan::{Candidate, Scanner};
use super::take::{Extras, Outcome, take};
use super::{Say, Watch};
use crate::judge::{Judge, hex};
use crate::record::ledger::{Added, Kind, Taken};
use crate::record::retain::{EVERY, Retention};
use crate::record::{Filter, Record};

/// Pictures that are judged between two looks.
const AT_ONCE: usize = 256;
/// Events of one change come together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Between two tries of what failed.
const AGAIN: Duration = Duration::from_secs(10);
/// A clock that goes back by more, in microseconds, is spoken of.
const BACK: i64 = 5_000_000;

/// Watches until `stop` says so, or nobody reads the lines any more.
///
/// # Errors
/// The folder is not there at the beginning, a folder that files are to go to cannot be made, the record cannot be written at the beginning, or
/// stdout. What goes wrong later is said and tried again.
pub fn run(watch: Watch, stop: &dyn Fn() -> bool) -> Result<()> {
    let folder = std::fs::canonicalize(&watch.folder).map_err(|e| {
        Error::io("cannot watch folder", &watch.folder, e).with_hint("expected a folder that is there")
    })?;
    if !folder.is_dir() {
        return Err(Error::caller(format!(
            "cannot watch `{}`: expected a folder, found a file",
            folder.display()
        )));
    }
    let mut wanted = watch.wanted;
    for target in [&mut wanted.good, &mut wanted.anomalous, &mut wanted.unreadable, &mut wanted.heatmaps] {
        let Some(target) = target else { continue };
        std::fs::create_dir_all(&*target).map_err(|e| Error::io("cannot make folder", target, e))?;
        *target = std::fs::canonicalize(&*target).map_err(|e| Error::io("cannot read folder", target, e))?;
        if *target == folder {
            return Err(Error::caller(format!(
                "folder `{}`: expected another one than the watched folder",
                target.display()
            )));
        }
    }
    let record = watch.hub.record().clone();
    // Held until the end: two processes would do every action twice.
    let _alone = alone(&record, &folder)?;
    let sender = match wanted.mqtt.clone() {
        Some(broker) => Some(Sender::start(broker, record.clone(), folder.clone(), Arc::clone(&watch.say))?),
        None => {
            if !record.to_do(&folder, &[Kind::Mqtt], 0, 1)?.is_empty() {
                (watch.say)(
                    "the record holds verdicts that no broker has taken; they wait until --mqtt is given again",
                );
            }
            None
        }
    };
    let mut camera = Camera::default();
    let mut last_time = None;
    let latest = Filter { latest_first: true, limit: Some(1), ..Filter::default() };
    if let Some(part) = record.parts(&latest)?.pop() {
        last_time = Some(part.time);
        if let Some(said) = part.said {
            camera.remember(said.width, said.height);
        }
    }
    let say = Arc::clone(&watch.say);
    let doer = Doer {
        record,
        model: watch.model.clone(),
        wanted,
        say: Arc::clone(&say),
        print: watch.print,
        told: Default::default(),
    };
    let mut line = Line {
        scanner: Scanner::new(&folder, watch.patience),
        folder,
        hub: watch.hub,
        doer,
        sender,
        camera,
        last_time,
        pictures: watch.pictures,
        retention: watch.retention,
        told_over: false,
        say,
    };
    line.watch(watch.patience.poll, stop)
}

/// Makes sure that no other process watches this folder with this record; the system lets go of the lock however a process ends.
fn alone(record: &Record, folder: &Path) -> Result<Option<File>> {
    let Some(path) = record.path() else { return Ok(None) };
    let digest = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes()));
    let mut name = path.as_os_str().to_owned();
    name.push(format!("-watch-{}", &digest[..8]));
    let path = PathBuf::from(name);
    let file = File::create(&path).map_err(|e| Error::io("cannot make", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::caller(format!(
            "folder `{}`: expected nobody else, found another `pbas watch` with this record",
            folder.display()
        ))
        .with_hint("end the other one first")),
        Err(TryLockError::Error(e)) => Err(Error::io("cannot lock", &path, e)),
    }
}

/// A watched folder at work.
struct Line {
    folder: PathBuf,
    scanner: Scanner,
    hub: crate::hub::Hub,
    doer: Doer,
    sender: Option<Sender>,
    camera: Camera,
    last_time: Option<Timestamp>,
    pictures: bool,
    retention: Retention,
    told_over: bool,
    say: Say,
}

impl Line {
    fn watch(&mut self, poll: Duration, stop: &dyn Fn() -> bool) -> Result<()> {
        let (mut alarm, mut trouble) = (Alarm::new(&self.folder), None::<String>);
        let (mut retained, mut resumed) = (None::<Instant>, None::<Instant>);
        while !stop() {
            let resume = resumed.is_none_or(|at| at.elapsed() >= AGAIN);
            if resume {
                resumed = Some(Instant::now());
            }
            // What goes wrong with the record now (a full disk, a lock) loses nothing: files stay where they are, and are tried again.
            match self.turn(resume, stop) {
                Ok(true) => {
                    if trouble.take().is_some() {
                        (self.say)("the record can be written again");
                    }
                }
                Ok(false) => return Ok(()),
                Err(e) if is_passing(&e) => {
                    let text = chain(&e);
                    if trouble.as_ref() != Some(&text) {
                        (self.say)(&format!("{text}; nothing is lost: pictures wait, and it is tried again"));
                        trouble = Some(text);
                    }
                }
                Err(e) => return Err(e),
            }
            if retained.is_none_or(|at| at.elapsed() >= EVERY) {
                self.retain();
                retained = Some(Instant::now());
            }
            alarm.wait(poll, &mut self.scanner);
        }
        Ok(())
    }

    /// What was left before, then what is new.
    fn turn(&mut self, resume: bool, stop: &dyn Fn() -> bool) -> Result<bool> {
        Ok((!resume || self.doer.resume(&self.folder)?) && self.round(stop)?)
    }

    /// One look, and all that is complete. `false` where nobody reads the lines any more.
    fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<bool> {
        loop {
            let look = self.scanner.look(self.hub.record(), Instant::now())?;
            look.remarks.iter().for_each(|r| (self.say)(r));
            let some = &look.candidates[..look.candidates.len().min(AT_ONCE)];
            if some.is_empty() || stop() {
                return Ok(true);
            }
            if !self.judge(some, stop)? {
                return Ok(false);
            }
            if some.len() == look.candidates.len() {
                return Ok(true);
            }
        }
    }

    fn judge(&mut self, candidates: &[Candidate], stop: &dyn Fn() -> bool) -> Result<bool> {
        let judge = self.doer.model.judge();
        let extras = Extras { pictures: self.pictures, heatmap: self.doer.wanted.heatmaps.is_some() };
        let mut open = true;
        if let [one] = candidates {
            let outcome = take(&judge, one, extras, &mut Scratch::default(), Threads::All);
            return self.keep(one, outcome, &judge);
        }
        let work = |scratch: &mut Scratch, c: &Candidate| take(&judge, c, extras, scratch, Threads::One);
        in_order(candidates, Scratch::default, work, |candidate, outcome| {
            open = self.keep(candidate, outcome, &judge)?;
            Ok(open && !stop())
        })?;
        Ok(open)
    }

    /// Records what came of a candidate and does what is asked for.
    fn keep(&mut self, candidate: &Candidate, outcome: Outcome, judge: &Judge) -> Result<bool> {
        let Outcome::Ready(mut part, drawn) = outcome else {
            self.scanner.not_yet(candidate);
            return Ok(true);
        };
        part.time = Timestamp::now();
        let said = part.outcome.as_ref().ok();
        if let Some(remark) = said.and_then(|s| self.camera.look(judge, s.width, s.height)) {
            (self.say)(&remark);
        }
        let asked = self.doer.asked(said.map(|s| s.verdict));
        let file = Taken {
            folder: self.folder.clone(),
            path: candidate.path.clone(),
            size: candidate.size,
            mtime_ns: candidate.mtime_ns,
            moved_to: None,
        };
        let (part, actions) = match self.hub.record().add_file(&part, &file, &asked)? {
            Added::New(part, actions) => (Arc::new(*part), actions),
            Added::Known(id) => {
                (self.say)(&format!(
                    "{:?} is the file of part {id}, which was recorded before; it is left where it is",
                    part.name
                ));
                self.scanner.settle(candidate);
                return Ok(true);
            }
        };
        self.scanner.settle(candidate);
        self.hub.tell(&part);
        if let Some(error) = &part.error {
            (self.say)(&format!("part {}: {:?} is set aside: {error}", part.id, part.name));
        }
        if let Some(last) = self.last_time.replace(part.time)
            && last.as_microsecond() - part.time.as_microsecond() > BACK
        {
            let back = (last.as_microsecond() - part.time.as_microsecond()) / 1_000_000;
            (self.say)(&format!("part {}: the clock went back by {back} s; numbers keep the order", part.id));
        }
        let open = self.doer.act(&part, &actions, drawn)?;
        if let Some(sender) = &self.sender {
            sender.wake();
        }
        Ok(open)
    }

    fn retain(&mut self) {
        if self.retention == Retention::default() {
            return;
        }
        let record = self.hub.record();
        let there = |path: &Path| self.scanner.is_gone() || path.exists();
        let done = record.retain(&self.retention, Timestamp::now()).and_then(|done| {
            record.forget_files(&self.folder, there)?;
            Ok(done)
        });
        match done {
            Ok(done) if done.over => {
                if !std::mem::replace(&mut self.told_over, true) {
                    (self.say)(&done.over_text());
                }
            }
            Ok(_) => self.told_over = false,
            Err(e) => (self.say)(&format!("nothing could be removed from the record: {}", chain(&e))),
        }
    }
}

/// Time or a person mends it.
fn is_passing(e: &Error) -> bool {
    e.kind() == pbas::ErrorKind::Io && e.to_string().starts_with("record ")
}

/// Tells of changes in the folder where the system does; otherwise the clock does.
struct Alarm {
    folder: PathBuf,
    watcher: Option<RecommendedWatcher>,
    events: Receiver<notify::Result<notify::Event>>,
    sender: std::sync::mpsc::Sender<notify::Result<notify::Event>>,
}

impl Alarm {
    fn new(folder: &Path) -> Self {
        let (sender, events) = channel();
        let mut alarm = Self { folder: folder.to_owned(), watcher: None, events, sender };
        alarm.set();
        alarm
    }

    /// Without the system's help, as on network shares, the clock is enough.
    fn set(&mut self) {
        let sender = self.sender.clone();
        self.watcher = notify::recommended_watcher(move |event| {
            // Nobody listens at the end.
            let _ = sender.send(event);
        })
        .and_then(|mut watcher| watcher.watch(&self.folder, RecursiveMode::NonRecursive).map(|()| watcher))
        .ok();
    }

    /// Until something changes, or for so long.
    fn wait(&mut self, poll: Duration, scanner: &mut Scanner) {
        let end = Instant::now() + poll;
        let mut gone = scanner.is_gone() || self.watcher.is_none();
        let mut changed = false;
        while !changed {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => changed = self.hear(event, scanner, &mut gone),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if changed {
            std::thread::sleep(TOGETHER);
            while let Ok(event) = self.events.try_recv() {
                self.hear(event, scanner, &mut gone);
            }
        }
        if gone {
            // A folder that comes back is another one to the system.
            self.watcher = None;
            self.set();
        }
    }

    /// Whether an event is worth a look. Looking itself opens the folder, and reading opens files: these events would never end.
    fn hear(&self, event: notify::Result<notify::Event>, scanner: &mut Scanner, gone: &mut bool) -> bool {
        let Ok(event) = event else {
            *gone = true;
            return true;
        };
        let into = matches!(
            event.kind,
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both | RenameMode::Any))
        );
        if into && let Some(path) = event.paths.last() {
            scanner.renamed(path);
        }
        *gone |= event.kind.is_remove() && event.paths.contains(&self.folder);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        }
    }
}
