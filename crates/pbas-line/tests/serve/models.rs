//! A folder of models that changes while the server runs.

use std::fs;

use pbas_line::serve::folder::Folder;
use pbas_line::serve::{Metrics, Problems, Registry};

use crate::line_model;
use crate::server::other_model;

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
