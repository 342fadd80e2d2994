//! `pbas watch` and `pbas history` from end to end: drops, kills, moves, commands, a broker.
#![cfg(unix)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, files, folder, model, pbas, set};
use pbas_line::record::{Filter, Part, Record};
use serde_json::Value;

/// Whatever a test waits for comes within this time, or it fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder to be watched with what belongs to it.
struct Line {
    root: tempfile::TempDir,
    more: Vec<String>,
}

impl Line {
    fn new(more: &[&str]) -> Self {
        let root = folder();
        fs::create_dir(root.path().join("in")).unwrap();
        Self { root, more: more.iter().map(|s| (*s).to_owned()).collect() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn start(&self) -> Running {
        let (inside, db, model) =
            (self.shown("in"), self.shown("line.sqlite"), model().display().to_string());
        let mut args = vec!["watch", &inside, "--model", &model, "--db", &db, "--quiet-time", "100ms"];
        args.extend(["--poll", "50ms", "--give-up", "1s"]);
        args.extend(self.more.iter().map(String::as_str));
        let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running(Some(child))
    }

    /// A picture of the set, put into the folder under a name.
    fn drop_picture(&self, from: &str, name: impl AsRef<OsStr>) {
        let to = self.at("in").join(name.as_ref());
        let half = self.at("half");
        fs::copy(set().join(from), &half).unwrap();
        fs::rename(half, to).unwrap();
    }

    fn parts(&self) -> Vec<Part> {
        Record::open_to_read(&self.at("line.sqlite"))
            .and_then(|r| r.parts(&Filter::default()))
            .unwrap_or_default()
    }

    fn wait_for(&self, parts: usize) -> Vec<Part> {
        wait(|| Some(self.parts()).filter(|p| p.len() >= parts))
    }

    fn holds(&self) {
        let run = pbas(&["history", "verify", &self.shown("line.sqlite")]).code(0);
        assert!(run.stdout.contains("every digest fits"), "{run:#?}");
    }
}

/// Asks again until there is an answer.
#[track_caller]
fn wait<T>(ask: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "it took too long");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A process, killed when the test ends in whatever way.
struct Running(Option<Child>);

impl Running {
    fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; it must end well. What it wrote.
    fn end(mut self) -> (Vec<Value>, String) {
        let mut child = self.0.take().unwrap();
        signal("-TERM", child.id());
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let code = child.wait().unwrap();
        assert!(code.success() && !err.contains("panicked"), "{code}: {err}");
        (out.lines().map(|l| serde_json::from_str(l).unwrap()).collect(), err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(which: &str, id: u32) {
    assert!(Command::new("kill").args([which, &id.to_string()]).status().unwrap().success());
}

#[test]
fn pictures_are_recorded_printed_moved_and_drawn() {
    let mut line = Line::new(&[]);
    line.more = vec![
        "--move".into(),
        format!("good={},anomalous={}", line.shown("good"), line.shown("bad")),
        "--heatmaps".into(),
        line.shown("maps"),
    ];
    let names = ["a \"b\".png", "new\nline'.png", "x\\..\\y.png"];
    for (name, from) in names.iter().zip(["test/good/000.png", "test/good/001.png", "test/scratch/000.png"]) {
        line.drop_picture(from, name);
    }
    line.drop_picture("test/dent/000.png", OsStr::from_bytes(b"\xff\xfe.png"));
    fs::write(line.at("in/broken.png"), "no picture").unwrap();
    let running = line.start();
    let parts = line.wait_for(5);
    wait(|| files(&line.at("in")).iter().all(|f| f.starts_with("unreadable/")).then_some(()));
    let (lines, err) = running.end();
    assert_eq!(files(&line.at("in")), ["unreadable/broken.png"]);
    assert_eq!(files(&line.at("good")).len() + files(&line.at("bad")).len(), 4);
    assert_eq!(files(&line.at("maps")).len(), 4);
    assert_eq!(lines.len(), 5);
    for (part, printed) in parts.iter().zip(&lines) {
        assert_eq!((printed["id"].as_i64(), printed["name"].as_str()), (Some(part.id), Some(&*part.name)));
        let judged = part.said.as_ref().map(|s| s.verdict.word());
        assert_eq!(printed["verdict"].as_str(), judged);
        let file = printed["file"].as_str().unwrap();
        assert!(file.contains('\u{fffd}') || Path::new(file).exists(), "{file}");
    }
    let broken: Vec<_> = parts.iter().filter(|p| p.error.is_some()).collect();
    assert_eq!((broken.len(), &*broken[0].name), (1, "broken.png"));
    assert_eq!(err.matches("\"broken.png\" is set aside").count(), 1, "{err}");
    line.holds();
    // Another process finds nothing new.
    let running = line.start();
    line.drop_picture("test/dent/001.png", "last.png");
    assert_eq!(line.wait_for(6).len(), 6);
    let lines = wait_line(running);
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

/// Ends a process after it has had time to print.
fn wait_line(running: Running) -> Vec<Value> {
    std::thread::sleep(Duration::from_millis(300));
    running.end().0
}

#[test]
fn a_kill_loses_no_picture_and_records_none_twice() {
    let line = Line::new(&["--no-pictures"]);
    let count = 40;
    for i in 0..count {
        line.drop_picture(["test/good/000.png", "test/dent/000.png"][i % 2], format!("{i:03}.png"));
    }
    for killed in 0..5 {
        let running = line.start();
        line.wait_for((killed + 1) * 5);
        running.kill();
    }
    // One more: where all were judged before the last kill, there would be nothing to wait for before the end.
    line.drop_picture("test/good/000.png", format!("{count:03}.png"));
    let running = line.start();
    line.wait_for(count + 1);
    running.end();
    let mut names: Vec<String> = line.parts().into_iter().map(|p| p.name).collect();
    names.sort();
    assert_eq!(names, (0..=count).map(|i| format!("{i:03}.png")).collect::<Vec<_>>());
    line.holds();
}

#[test]
fn what_a_kill_left_to_be_done_is_done_at_the_next_start() {
    let mut line = Line::new(&[]);
    // The command never ends: the process is killed with the line not yet noted.
    line.more = vec!["--exec".into(), "sleep 60".into(), "--exec-timeout".into(), "1h".into()];
    line.drop_picture("test/good/000.png", "a.png");
    let running = line.start();
    line.wait_for(1);
    running.kill();
    line.more = vec!["--exec".into(), format!("touch {}", line.shown("ran"))];
    let running = line.start();
    wait(|| line.at("ran").exists().then_some(()));
    let lines = wait_line(running);
    assert_eq!(lines.iter().map(|l| l["id"].as_i64()).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(line.parts().len(), 1);
    let lines = wait_line(line.start());
    assert_eq!(lines, Vec::<Value>::new(), "it was noted");
}

#[test]
fn a_broker_that_restarts_loses_no_verdict() {
    if Command::new("mosquitto").arg("-h").output().is_err() {
        eprintln!("skipped: mosquitto is not installed");
        return;
    }
    let mut line = Line::new(&["--no-pictures"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    line.more.extend(["--mqtt".into(), format!("mqtt://127.0.0.1:{port}/parts")]);
    // Beside a broker that keeps nothing, so that only what the line keeps can come.
    let broker = || {
        let child =
            Command::new("mosquitto").args(["-p", &port.to_string()]).stderr(Stdio::null()).spawn().unwrap();
        wait(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Running(Some(child))
    };
    let listen = || {
        // Its lines come as they are, not when a buffer is full.
        let mut listener = Command::new("stdbuf");
        listener.args(["-oL", "mosquitto_sub", "-p", &port.to_string(), "-q", "1", "-t", "parts", "-d"]);
        let mut child = listener.stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            use std::io::BufRead;
            for line in std::io::BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        // Its own words say that it listens; what comes before would be lost.
        let subscribed = Instant::now();
        while !lines.recv_timeout(PATIENCE).unwrap().contains("Subscribed") {
            assert!(subscribed.elapsed() < PATIENCE);
        }
        (Running(Some(child)), lines)
    };
    let came = |lines: &std::sync::mpsc::Receiver<String>, ids: std::ops::RangeInclusive<i64>| {
        let mut missing: Vec<i64> = ids.collect();
        while !missing.is_empty() {
            let line = lines.recv_timeout(PATIENCE).expect("a message");
            if let Ok(message) = serde_json::from_str::<Value>(&line) {
                missing.retain(|id| message["id"].as_i64() != Some(*id));
            }
        }
    };
    // Nobody is there at first.
    let running = line.start();
    line.drop_picture("test/good/000.png", "0.png");
    line.wait_for(1);
    let first = broker();
    let (listener, lines) = listen();
    for i in 1..6 {
        line.drop_picture("test/good/001.png", format!("{i}.png"));
    }
    line.wait_for(6);
    came(&lines, 2..=6);
    drop(listener);
    first.kill();
    for i in 6..12 {
        line.drop_picture("test/good/002.png", format!("{i}.png"));
    }
    line.wait_for(12);
    // Killed too: what waits is in the record alone.
    running.kill();
    let second = broker();
    let (_listener, lines) = listen();
    let running = line.start();
    came(&lines, 7..=12);
    let (_, err) = running.end();
    assert!(!err.contains("cannot be reached"), "{err}");
    drop(second);
    let record = Record::open_to_read(&line.at("line.sqlite")).unwrap();
    let left = record
        .to_do(&line.at("in").canonicalize().unwrap(), &[pbas_line::record::ledger::Kind::Mqtt], 0, 99)
        .unwrap();
    assert_eq!(left, [], "every message was acknowledged and noted");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let line = Line::new(&[]);
    let running = line.start();
    line.drop_picture("test/good/000.png", "a.png");
    line.wait_for(1);
    let (inside, db, model) = (line.shown("in"), line.shown("line.sqlite"), model().display().to_string());
    pbas(&["watch", &inside, "-m", &model, "--db", &db]).code(2).says(&["found another `pbas watch`"]);
    running.end();
}

#[test]
fn a_folder_that_vanishes_is_spoken_of_and_watched_again_when_it_is_back() {
    let line = Line::new(&[]);
    let running = line.start();
    line.drop_picture("test/good/000.png", "a.png");
    line.wait_for(1);
    fs::rename(line.at("in"), line.at("away")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::rename(line.at("away"), line.at("in")).unwrap();
    line.drop_picture("test/good/001.png", "b.png");
    line.wait_for(2);
    let (lines, err) = running.end();
    assert_eq!(lines.len(), 2, "the first one is not taken again");
    assert!(err.matches("cannot be read").count() == 1 && err.matches("is back").count() == 1, "{err}");
}

#[test]
fn a_locked_record_holds_up_the_line_and_loses_nothing() {
    let line = Line::new(&[]);
    let running = line.start();
    line.drop_picture("test/good/000.png", "a.png");
    line.wait_for(1);
    let other = rusqlite::Connection::open(line.at("line.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    line.drop_picture("test/good/001.png", "b.png");
    // Longer than its patience with the lock.
    std::thread::sleep(Duration::from_millis(6_500));
    assert_eq!(line.parts().len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    line.wait_for(2);
    let (lines, err) = running.end();
    assert_eq!(lines.len(), 2);
    assert!(err.contains("is locked") && err.contains("the record can be written again"), "{err}");
}

#[test]
fn a_clock_set_back_is_spoken_of_and_a_folder_that_cannot_be_moved_to_is_tried_again() {
    let mut line = Line::new(&[]);
    line.drop_picture("test/good/000.png", "a.png");
    let running = line.start();
    line.wait_for(1);
    running.end();
    // As if that part had been recorded in an hour.
    let edited = rusqlite::Connection::open(line.at("line.sqlite")).unwrap();
    edited.execute("UPDATE parts SET time_us = time_us + 3600000000", []).unwrap();
    drop(edited);
    line.more = vec!["--move".into(), format!("good={0},anomalous={0}", line.shown("away"))];
    let running = line.start();
    wait(|| line.at("away").is_dir().then_some(()));
    fs::remove_dir(line.at("away")).unwrap();
    // A file in its place: as good as a share that is gone.
    fs::write(line.at("away"), "").unwrap();
    line.drop_picture("test/good/001.png", "b.png");
    line.wait_for(2);
    std::thread::sleep(Duration::from_millis(300));
    assert!(line.at("in/b.png").exists());
    fs::remove_file(line.at("away")).unwrap();
    wait(|| line.at("away/b.png").exists().then_some(()));
    let (lines, err) = running.end();
    assert_eq!(lines.len(), 1, "it is printed once, though moved later");
    assert_eq!(err.matches("the clock went back by").count(), 1, "{err}");
    assert_eq!(err.matches("it is tried again and again").count(), 1, "{err}");
    assert_eq!(line.parts().len(), 2);
}

#[test]
fn a_camera_of_another_size_is_spoken_of_once() {
    let line = Line::new(&[]);
    for i in 0..3 {
        common::noise(&line.at("half.png"), 30, 24);
        fs::rename(line.at("half.png"), line.at("in").join(format!("{i}.png"))).unwrap();
    }
    let running = line.start();
    line.wait_for(3);
    let (_, err) = running.end();
    assert_eq!(err.matches("ANOTHER CAMERA: pictures are 30 x 24 pixels").count(), 1, "{err}");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let line = Line::new(&[]);
    let (inside, db) = (line.shown("in"), line.shown("line.sqlite"));
    let model = model().display().to_string();
    let start = ["watch", &inside, "--model", &model, "--db", &db];
    let refused = |more: &[&str], says: &[&str]| {
        pbas(&[&start[..], more].concat()).code(2).says(says);
    };
    refused(&["--move", "good"], &["expected good=DIR or anomalous=DIR"]);
    refused(&["--move", "good=a,good=b"], &["expected one folder for each verdict"]);
    refused(&["--move", &format!("good={inside}")], &["expected another one than the watched folder"]);
    refused(&["--exec", "a 'b"], &["expected another '"]);
    refused(&["--mqtt", "http://x"], &["MQTT broker: expected mqtt://"]);
    refused(&["--keep", "90 days"], &["expected a duration"]);
    let nowhere = line.shown("nowhere");
    pbas(&["watch", &nowhere, "-m", &model, "--db", &db]).code(2).says(&["cannot watch folder", "nowhere"]);
    fs::write(line.at("text"), "no database ".repeat(100)).unwrap();
    pbas(&["watch", &inside, "-m", &model, "--db", &line.shown("text")])
        .code(2)
        .says(&["found no SQLite database"]);
}

#[test]
fn history_lists_filters_and_verifies() {
    let line = Line::new(&["--no-pictures"]);
    let (path, shown) = (line.at("line.sqlite"), line.shown("line.sqlite"));
    for (i, from) in ["test/good/000.png", "test/dent/000.png", "test/scratch/000.png"].iter().enumerate() {
        line.drop_picture(from, format!("{i}.png"));
    }
    let running = line.start();
    wait(|| {
        Record::open_to_read(&path).ok().and_then(|r| r.count(&Filter::default()).ok()).filter(|n| *n == 3)
    });
    running.end();
    let lines = |more: &[&str]| {
        pbas(&[&["history", &shown, "--format", "jsonl"], more].concat()).code(0).json_lines()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 3);
    assert_eq!(lines(&["--limit", "2"]), all[1..]);
    assert_eq!(lines(&["--model", "washers"]).len(), 3);
    assert_eq!(lines(&["--model", &all[0]["model_digest"].as_str().unwrap()[..12]]).len(), 3);
    assert_eq!(lines(&["--model", "other"]).len(), 0);
    assert_eq!(lines(&["--verdict", "error"]).len(), 0);
    assert_eq!(lines(&["--since", "1h"]).len(), 3);
    assert_eq!(lines(&["--until", "1h"]).len(), 0);
    assert_eq!(lines(&["--review", "none"]).len(), 3);
    let out = line.at("parts.parquet");
    pbas(&["history", &shown, "--format", "parquet", "-o", &out.display().to_string()])
        .code(0)
        .says(&["3 parts in"]);
    assert_eq!(&fs::read(&out).unwrap()[..4], b"PAR1");
    let table = pbas(&["history", &shown]).code(0).stdout;
    assert_eq!(table.lines().count(), 4, "{table}");

    let run = pbas(&["history", "verify", &shown]).code(0);
    let head = run.stdout.lines().find_map(|l| l.strip_prefix("last part  ")).unwrap().to_owned();
    pbas(&["history", "verify", &shown, "--expect", &head]).code(0);
    let other = format!("2:{}", "0".repeat(64));
    let run = pbas(&["history", "verify", &shown, "--expect", &other]).code(2);
    assert!(run.stdout.contains("fault      part 2: expected digest 0000"), "{run:#?}");
    pbas(&["history", &line.shown("none.sqlite")]).code(2).says(&["cannot read record"]);
}
