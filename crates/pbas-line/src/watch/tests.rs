//! Which files are taken and when, moves that can be repeated, commands, brokers' addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pbas::detector::Verdict;

use super::exec::{self, Program};
use super::moving::{Moved, move_file};
use super::mqtt::Broker;
use super::scan::{Scanner, state};
use super::*;
use crate::record::Record;
use crate::record::ledger::{Added, Taken};
use crate::record::tests::{failed, judged};

/// A folder with its scanner; the test is the clock.
struct Bench {
    folder: tempfile::TempDir,
    scanner: Scanner,
    record: Record,
    start: Instant,
}

impl Bench {
    fn new(done_files: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience { done_files, ..Patience::default() };
        let scanner = Scanner::new(folder.path(), patience);
        Self { scanner, folder, record: Record::in_memory().unwrap(), start: Instant::now() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mtime: u64) {
        fs::write(self.at(name), text).unwrap();
        self.date(name, mtime);
    }

    fn date(&self, name: &str, mtime: u64) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + mtime);
        fs::File::options().write(true).open(self.at(name)).unwrap().set_modified(time).unwrap();
    }

    /// Names of the candidates after so many milliseconds, and what is said.
    fn look(&mut self, ms: u64) -> (Vec<String>, Vec<String>) {
        let look = self.scanner.look(&self.record, self.start + Duration::from_millis(ms)).unwrap();
        let names = look.candidates.iter().map(|c| take::shown(&c.path) + if c.last_try { "!" } else { "" });
        (names.collect(), look.remarks)
    }

    fn names(&mut self, ms: u64) -> Vec<String> {
        self.look(ms).0
    }

    /// As if it was judged: the candidates of this look are recorded.
    fn record_all(&mut self, ms: u64) {
        let look = self.scanner.look(&self.record, self.start + Duration::from_millis(ms)).unwrap();
        for c in &look.candidates {
            let file = Taken {
                folder: self.folder.path().into(),
                path: c.path.clone(),
                size: c.size,
                mtime_ns: c.mtime_ns,
                moved_to: None,
            };
            self.record.add_file(&judged("x", 0, Verdict::Normal), &file, &[]).unwrap();
            self.scanner.settle(c);
        }
    }
}

#[test]
fn files_are_taken_once_they_are_still_in_order_of_arrival() {
    let mut b = Bench::new(false);
    b.write("b.png", "1", 5);
    b.write("a.PNG", "1", 5);
    b.write("z.jpg", "1", 3);
    for other in ["note.txt", ".hidden.png", "upload.png.part", "c.done"] {
        b.write(other, "1", 1);
    }
    fs::create_dir(b.at("folder.png")).unwrap();
    assert_eq!(b.names(0), [""; 0], "nothing is known to be still yet");
    assert_eq!(b.names(999), [""; 0]);
    assert_eq!(b.names(1000), ["z.jpg", "a.PNG", "b.png"]);
    b.record_all(1000);
    assert_eq!(b.names(1500), [""; 0]);
    // The same name with other content is another picture.
    b.write("z.jpg", "22", 9);
    assert_eq!((b.names(2000), b.names(3000)), (vec![], vec!["z.jpg".to_owned()]));
}

#[test]
fn a_growing_file_waits_is_spoken_of_once_and_holds_up_nobody() {
    let mut b = Bench::new(false);
    b.write("still.png", "1", 50);
    let mut said = Vec::new();
    for i in 0..70_u64 {
        b.write("grows.png", &"x".repeat(i as usize), i);
        let (names, remarks) = b.look(i * 900);
        assert!(!names.contains(&"grows.png".to_owned()), "{i}");
        assert_eq!(names.iter().any(|n| n.starts_with("still.png")), i >= 2, "{i}");
        said.extend(remarks);
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("\"grows.png\" has not stayed the same"), "{said:?}");
    assert!(b.names(70 * 900 + 1000).contains(&"grows.png".to_owned()), "it may end after all");
}

#[test]
fn what_cannot_be_decoded_is_tried_again_when_it_changes_and_given_up_in_the_end() {
    let mut b = Bench::new(false);
    b.write("a.png", "half", 1);
    b.names(0);
    let look = b.scanner.look(&b.record, b.start + Duration::from_secs(1)).unwrap();
    b.scanner.not_yet(&look.candidates[0]);
    assert_eq!(b.names(5_000), [""; 0]);
    b.write("a.png", "whole", 2);
    assert_eq!((b.names(6_000), b.names(7_000)), (vec![], vec!["a.png".to_owned()]));
    let look = b.scanner.look(&b.record, b.start + Duration::from_secs(7)).unwrap();
    b.scanner.not_yet(&look.candidates[0]);
    assert_eq!((b.names(35_999), b.names(36_000)), (vec![], vec!["a.png!".to_owned()]));
}

#[test]
fn a_file_that_was_renamed_or_has_its_mark_is_taken_at_once() {
    let mut b = Bench::new(false);
    for name in ["renamed.png", "marked.png", "stem.png", "other.png"] {
        b.write(name, "1", 1);
    }
    b.write("marked.png.done", "", 1);
    b.write("stem.done", "", 1);
    b.scanner.renamed(&b.at("renamed.png"));
    assert_eq!(b.names(0), ["marked.png", "renamed.png", "stem.png"]);

    let mut b = Bench::new(true);
    b.write("a.png", "1", 1);
    b.write("b.png", "1", 1);
    b.scanner.renamed(&b.at("a.png"));
    assert_eq!(b.names(0), [""; 0], "only the mark counts");
    b.write("b.png.done", "", 1);
    assert_eq!(b.names(60_000), ["b.png!"]);
}

#[test]
fn after_a_restart_the_record_knows_what_was_taken() {
    let mut b = Bench::new(false);
    b.write("a.png", "1", 1);
    b.write("b.png", "1", 1);
    b.names(0);
    b.record_all(1000);
    b.write("c.png", "1", 2);
    b.scanner = Scanner::new(b.folder.path(), Patience::default());
    assert_eq!((b.names(2000), b.names(3000)), (vec![], vec!["c.png".to_owned()]));
    // Moved away and there again: only its content can tell.
    b.record.note_moved(1, Path::new("/good/a.png")).unwrap();
    b.scanner = Scanner::new(b.folder.path(), Patience::default());
    assert_eq!((b.names(4000), b.names(5000)), (vec![], vec!["a.png".to_owned(), "c.png".to_owned()]));
}

#[test]
fn a_folder_that_vanishes_is_spoken_of_once_and_may_come_back() {
    let mut b = Bench::new(false);
    b.write("a.png", "1", 1);
    b.names(0);
    let away = b.folder.path().with_extension("away");
    fs::rename(b.folder.path(), &away).unwrap();
    let (names, said) = b.look(1000);
    assert!(names.is_empty() && said.len() == 1 && said[0].contains("cannot be read"), "{said:?}");
    assert!(b.scanner.is_gone() && b.look(1500).1.is_empty());
    fs::rename(&away, b.folder.path()).unwrap();
    let (names, said) = b.look(2000);
    assert!(names == ["a.png"] && said.len() == 1 && said[0].ends_with("is back"), "{names:?} {said:?}");
}

/// A file of part 7 in one folder, to be moved to another.
fn to_move() -> (tempfile::TempDir, Taken, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("good");
    fs::create_dir(&target).unwrap();
    let path = folder.path().join("a b\n'\".png");
    fs::write(&path, "picture").unwrap();
    let (size, mtime_ns) = state(&path).unwrap();
    let taken = Taken { folder: folder.path().into(), path, size, mtime_ns, moved_to: None };
    (folder, taken, target)
}

#[test]
fn a_move_can_be_repeated_and_overwrites_nothing() {
    let (_folder, taken, target) = to_move();
    let name = taken.path.file_name().unwrap();
    fs::write(taken.path.with_extension("png.done"), "").unwrap();
    let there = Moved::To(target.join(name));
    assert_eq!(move_file(&taken, 7, &target).unwrap(), there);
    assert_eq!(fs::read_to_string(target.join(name)).unwrap(), "picture");
    assert!(!taken.path.exists() && !taken.path.with_extension("png.done").exists());
    // Killed before it was noted.
    assert_eq!(move_file(&taken, 7, &target).unwrap(), there);

    let (_folder, taken, target) = to_move();
    let name = taken.path.file_name().unwrap();
    fs::write(target.join(name), "another picture").unwrap();
    let numbered = target.join("a b\n'\".7.png");
    for _ in 0..2 {
        assert_eq!(move_file(&taken, 7, &target).unwrap(), Moved::To(numbered.clone()));
    }
    assert_eq!(fs::read_to_string(target.join(name)).unwrap(), "another picture");
}

#[test]
fn a_copy_that_was_complete_before_a_kill_is_not_made_twice() {
    let (_folder, taken, target) = to_move();
    let copy = target.join(taken.path.file_name().unwrap());
    fs::copy(&taken.path, &copy).unwrap();
    let time = fs::metadata(&taken.path).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
    assert_eq!(move_file(&taken, 7, &target).unwrap(), Moved::To(copy));
    assert!(!taken.path.exists());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn what_was_replaced_or_taken_away_is_not_moved() {
    let (_folder, taken, target) = to_move();
    fs::write(&taken.path, "the next picture").unwrap();
    assert!(
        matches!(move_file(&taken, 7, &target).unwrap(), Moved::Never(why) if why.contains("another file"))
    );
    assert!(taken.path.exists(), "the next picture stays");
    fs::remove_file(&taken.path).unwrap();
    assert!(matches!(move_file(&taken, 7, &target).unwrap(), Moved::Never(why) if why.contains("not there")));
}

#[test]
fn commands_are_split_without_a_shell() {
    let words = |command: &str| Program::parse(command, Duration::from_secs(1)).map(|p| p.words);
    assert_eq!(words("  a  'b c' \"d 'e'\" f'g h'  ''").unwrap(), ["a", "b c", "d 'e'", "fg h", ""]);
    assert_eq!(words("a $(b) ; c > d").unwrap(), ["a", "$(b)", ";", "c", ">", "d"]);
    assert_eq!(words("a 'b").unwrap_err().to_string(), "command `a 'b`: expected another ', found the end");
    assert!(words(" ").is_err());
}

#[cfg(unix)]
#[test]
fn a_command_gets_the_verdict_and_is_ended_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let record = Record::in_memory().unwrap();
    let awkward = "a'; $(touch x) \"\n../b.png";
    let part = record.add(&judged(awkward, 0, Verdict::Anomalous)).unwrap();
    let script = folder.path().join("script");
    fs::write(
        &script,
        "cat > \"$1/stdin\"; printf '%s|%s|%s' \"$PBAS_ID\" \"$PBAS_VERDICT\" \"$PBAS_NAME\" > \"$1/env\"",
    )
    .unwrap();
    let program =
        |words: &[&str], limit| Program { words: words.iter().map(|w| (*w).to_owned()).collect(), limit };
    let (shown, out) = (script.display().to_string(), folder.path().display().to_string());
    let long = Duration::from_secs(60);
    exec::run(&program(&["sh", &shown, &out], long), &part, Path::new("f"), "{\"id\":1}").unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("stdin"), "{\"id\":1}\n");
    assert_eq!(read("env"), format!("1|anomalous|{awkward}"));
    let says = |words: &[&str], limit| {
        // Longer than a pipe holds, and nobody reads it.
        let line = "x".repeat(1 << 20);
        exec::run(&program(words, limit), &part, Path::new("f"), &line).unwrap_err().to_string()
    };
    assert!(says(&["sh", "-c", "exit 3"], long).contains("exit status: 3"));
    assert!(says(&["sleep", "600"], Duration::from_millis(50)).contains("was ended"));
    assert!(says(&["/nowhere/program"], long).contains("cannot run `/nowhere/program`"));
}

#[test]
fn addresses_of_brokers() {
    let parse = |url| Broker::parse(url, "pbas/part", None);
    let of = |url| parse(url).map(|b| (b.host, b.port, b.topic, b.user)).unwrap();
    assert_eq!(of("mqtt://host"), ("host".into(), 1883, "pbas/part".into(), None));
    assert_eq!(of("mqtt://me@host:99/a/b"), ("host".into(), 99, "a/b".into(), Some("me".into())));
    assert_eq!(of("mqtt://[::1]:99").0, "::1");
    for (url, says) in [
        ("host", "no mqtt://"),
        ("mqtt://me:secret@host", "a password"),
        ("mqtt://host:port", "a port"),
        ("mqtt:///topic", "no host"),
        ("mqtt://host/a/#", "a topic"),
        ("mqtts://host", "mqtts"),
    ] {
        let e = parse(url).unwrap_err().to_string();
        assert!(e.contains(says) && !e.contains("secret"), "{url}: {e}");
    }
}

#[test]
fn two_names_with_one_content_are_two_parts() {
    let mut b = Bench::new(false);
    b.write("a.png", "same", 1);
    b.write("b.png", "same", 1);
    b.names(0);
    b.record_all(1000);
    let file = |name: &str| Taken {
        folder: b.folder.path().into(),
        path: b.at(name),
        size: 4,
        mtime_ns: 1_700_000_001_000_000_000,
        moved_to: None,
    };
    let part = judged("x", 0, Verdict::Normal);
    assert_eq!(b.record.add_file(&part, &file("a.png"), &[]).unwrap(), Added::Known(1));
    assert_eq!(b.record.add_file(&part, &file("b.png"), &[]).unwrap(), Added::Known(2));
    assert!(matches!(b.record.add_file(&failed("x", 0), &file("c.png"), &[]).unwrap(), Added::New(..)));
}
