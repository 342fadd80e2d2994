//! A folder of models that changes while the server runs.

use std::fs;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pbas::demo::DemoKind;
use pbas_line::judge::Judge;
use pbas_line::record::Filter;
use pbas_line::serve::folder::Folder;
use pbas_line::serve::{Limits, Metrics, Problems, Registry};

use crate::client::post;
use crate::line_model;
use crate::server::{Server, options, other_model};

struct Watched {
    dir: tempfile::TempDir,
    registry: Registry,
    problems: Problems,
    folder: Folder,
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (registry, problems) = (Registry::default(), Problems::default());
        let folder = Folder::new(dir.path(), registry.clone(), Metrics::default(), problems.clone()).unwrap();
        Self { dir, registry, problems, folder }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Two looks: the first sees a change, the second that it has come to rest.
    fn look(&mut self) -> Vec<(String, String)> {
        self.folder.look();
        self.folder.look();
        self.registry.all().iter().map(|j| (j.name.clone(), j.digest.clone())).collect()
    }
}

#[test]
fn models_come_change_and_go_with_their_files() {
    let mut watched = Watched::new();
    assert!(watched.look().is_empty());
    fs::copy(line_model::model(), watched.file("washer.pbas")).unwrap();
    // Files beside models that are none.
    fs::write(watched.file("washer.pbas.kept-1-abc"), "old").unwrap();
    fs::write(watched.file(".hidden.pbas"), "half").unwrap();
    watched.folder.look();
    assert!(watched.registry.all().is_empty(), "a file that may still grow is left alone");
    let first = watched.look();
    assert_eq!((first.len(), first[0].0.as_str()), (1, "washer"));
    let in_use = watched.registry.get("washer").unwrap();

    other_model(&watched.file("washer.pbas"));
    let second = watched.look();
    assert!(second.len() == 1 && second[0].1 != first[0].1);
    assert_eq!(in_use.digest, first[0].1, "requests already taken keep theirs");

    // A bad one, copied over in place.
    fs::write(watched.file("washer.pbas"), "no model").unwrap();
    assert_eq!(watched.look(), second);
    let problems = watched.problems.all();
    assert!(problems.len() == 1 && problems[0].1.contains("washer.pbas"), "{problems:?}");

    // Put right again.
    fs::copy(line_model::model(), watched.file("washer.pbas")).unwrap();
    assert_eq!(watched.look(), first);
    assert!(watched.problems.all().is_empty());

    fs::remove_file(watched.file("washer.pbas")).unwrap();
    assert!(watched.look().is_empty());
}

#[test]
fn a_folder_that_vanishes_takes_no_model_along() {
    let mut watched = Watched::new();
    fs::copy(line_model::model(), watched.file("washer.pbas")).unwrap();
    assert_eq!(watched.look().len(), 1);
    let aside = watched.dir.path().with_extension("away");
    fs::rename(watched.dir.path(), &aside).unwrap();
    assert_eq!(watched.look().len(), 1);
    fs::rename(&aside, watched.dir.path()).unwrap();
    assert_eq!(watched.look().len(), 1);
}

#[test]
fn a_model_of_a_name_in_service_is_not_taken_from_elsewhere() {
    let mut watched = Watched::new();
    watched.registry.put(crate::server::judge());
    other_model(&watched.file("washer.pbas"));
    let before = watched.registry.get("washer").unwrap().digest.clone();
    assert_eq!(watched.look(), [("washer".to_owned(), before)]);
    assert!(watched.problems.all()[0].1.contains("is in service already"));
}

#[test]
fn models_are_exchanged_without_dropping_a_request() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("washer.pbas");
    fs::copy(line_model::model(), &file).unwrap();
    let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
    let server = Server::of(vec![Judge::load(&file).unwrap()], options(limits)).unwrap();
    let state = &server.state;
    let (registry, problems) = (state.registry().clone(), state.problems().clone());
    let mut folder = Folder::new(dir.path(), registry.clone(), state.metrics().clone(), problems).unwrap();
    folder.take_all();
    let (good, enough) = (line_model::picture(DemoKind::Good, 1), AtomicBool::new(false));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let client = || {
            let mut statuses = Vec::new();
            while !enough.load(Ordering::Relaxed) {
                statuses.push(post(server.address, "/v1/predict/washer", &good).status);
            }
            statuses
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        for round in 0..6 {
            let before = registry.get("washer").unwrap().digest.clone();
            let judged = state.hub().record().count(&Filter::default()).unwrap();
            match round % 2 {
                0 => other_model(&file),
                _ => drop(fs::copy(line_model::model(), &file).unwrap()),
            }
            folder.take_all();
            assert_ne!(registry.get("washer").unwrap().digest, before);
            // Each model judges some.
            for _ in 0..24_000 {
                if state.hub().record().count(&Filter::default()).unwrap() > judged + 6 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        enough.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|c| c.join().unwrap()).collect()
    });
    assert!(statuses.len() > 30 && statuses.iter().all(|&s| s == 200), "{statuses:?}");
    let parts = state.hub().record().parts(&Filter::default()).unwrap();
    let digests: BTreeSet<String> = parts.into_iter().map(|p| p.model_digest).collect();
    assert_eq!(digests.len(), 2, "both models have judged");
}
