//! `pbas serve`: what it refuses to start with, and its life from the first line to SIGTERM.
mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{command, folder, model, pbas};
use jiff::{SignedDuration, Timestamp};
use pbas_line::record::{Filter, NewPart, Record};

#[test]
fn what_cannot_be_served_is_refused() {
    let dir = folder();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let model = model().display().to_string();
    pbas(&["serve"]).code(2).says(&["<MODEL"]);
    pbas(&["serve", &file("no.pbas", "no model")]).refused(&["cannot load model", "no.pbas"]);
    pbas(&["serve", &model, &model]).refused(&["have the same name"]);
    pbas(&["serve", "--models", &dir.path().join("none").display().to_string()])
        .refused(&["cannot read models' folder"]);
    pbas(&["serve", &model, "--listen", "0.0.0.0:0"])
        .refused(&["can be reached from other machines", "--insecure"]);
    pbas(&["serve", &model, "--tokens", &file("empty", "")]).refused(&["found no token"]);
    pbas(&["serve", &model, "--cert", &file("cert.pem", "")]).code(2).says(&["--key"]);
    pbas(&["serve", &model, "--deadline", "0"]).code(2).says(&["expected seconds from 0.1 to 600"]);
    pbas(&["serve", &model, "--max-body", "1GB"]).refused(&["--max-bodies"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    pbas(&["serve", &model, "--listen", &address])
        .refused(&[&format!("cannot listen on `{address}`"), "another program listens there"]);
}

#[cfg(unix)]
#[test]
fn it_listens_answers_and_ends_well_on_sigterm() {
    let dir = folder();
    let tokens = dir.path().join("tokens");
    fs::write(&tokens, "read rrrrrrrrrrrrrrrrrrrr\n").unwrap();
    let record = dir.path().join("line.sqlite");
    add_part_of(&record, 100);
    add_part_of(&record, 10);
    let model = model().display().to_string();
    let args = ["serve", &model, "--listen", "127.0.0.1:0", "--keep", "90d", "--log", "json", "--tokens"];
    let args: Vec<String> = args
        .map(str::to_owned)
        .into_iter()
        .chain([tokens.display().to_string(), "--db".to_owned(), record.display().to_string()])
        .collect();
    let mut child = command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut before = Vec::new();
    let address = loop {
        let line = said.next().unwrap_or_else(|| panic!("it ended: {before:?}"));
        if let Some(address) = line.strip_prefix("listening on http://") {
            break address.to_owned();
        }
        before.push(line);
    };
    assert!(
        before.iter().any(|l| l.starts_with("warning: token file") && l.contains("can be read by others")),
        "{before:?}"
    );

    let ask = |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let head = format!(
            "{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\nauthorization: Bearer rrrrrrrrrrrrrrrrrrrr\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let picture = fs::read(common::set().join("test/dent/000.png")).unwrap();
    let answer = ask("POST /v1/predict/washers?name=secret-name.png", &picture);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"image_score\":"), "{answer}");
    assert!(ask("POST /v1/predict/washers", b"no picture").starts_with("HTTP/1.1 422"));

    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let log: Vec<String> = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{log:?}");
    let requests: Vec<serde_json::Value> = log
        .iter()
        .filter_map(|l| serde_json::from_str(l).ok())
        .filter(|v: &serde_json::Value| v["message"] == "request")
        .collect();
    assert_eq!(requests.len(), 2, "one line a request: {log:?}");
    assert_eq!((&requests[0]["status"], &requests[0]["model"]), (&200.into(), &"washers".into()));
    assert_eq!((&requests[1]["status"], &requests[1]["kind"]), (&422.into(), &"picture".into()));
    assert!(log.iter().all(|l| !l.contains("secret-name") && !l.contains("rrrr")), "{log:?}");
    let left = Record::open_to_read(&record).unwrap();
    let names: Vec<String> = left.parts(&Filter::default()).unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names[0], "10 days old.png", "what is older than --keep is gone: {names:?}");
    assert_eq!((names.len(), left.verify().unwrap().faults.len()), (3, 0), "{names:?}");
}

/// Puts a part that was judged so many days ago into a record.
fn add_part_of(record: &Path, days: i64) {
    let part = NewPart {
        time: Timestamp::now() - SignedDuration::from_hours(24 * days),
        name: format!("{days} days old.png"),
        size: 1,
        sha256: "00".repeat(32),
        model: "washers".to_owned(),
        model_digest: "11".repeat(32),
        outcome: Err("not a picture".to_owned()),
    };
    Record::open(record).unwrap().add(&part).unwrap();
}
