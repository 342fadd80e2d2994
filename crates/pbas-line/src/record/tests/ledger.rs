//! Files are recorded once, with what is to be done about them.

use std::path::PathBuf;

use super::super::ledger::{Added, Kind, Taken};
use super::*;

/// A file in a folder.
pub fn taken(name: &str) -> Taken {
    let folder = PathBuf::from("/line");
    Taken { path: folder.join(name), folder, size: 10, mtime_ns: 77, moved_to: None }
}

#[test]
fn a_file_is_recorded_once() {
    let record = Record::in_memory().unwrap();
    let part = judged("a", 0, Verdict::Normal);
    let Added::New(first, actions) = record.add_file(&part, &taken("a"), &[Kind::Move, Kind::Mqtt]).unwrap()
    else {
        panic!("it is new");
    };
    assert_eq!((first.id, actions.len()), (1, 2));
    assert_eq!(record.add_file(&part, &taken("a"), &[Kind::Move]).unwrap(), Added::Known(1));
    // Another name with the same content, and the same name with another content, time or size are others.
    let others = [
        (part.clone(), taken("b")),
        (NewPart { sha256: "ef".repeat(32), ..part.clone() }, taken("a")),
        (part.clone(), Taken { mtime_ns: 78, ..taken("a") }),
        (part.clone(), Taken { size: 11, ..taken("a") }),
    ];
    for (i, (part, file)) in others.into_iter().enumerate() {
        let added = record.add_file(&part, &file, &[]).unwrap();
        assert!(matches!(added, Added::New(ref p, _) if p.id == i as i64 + 2), "{i}: {added:?}");
    }
    assert_eq!(record.known(&taken("b").path, 10, 77).unwrap(), Some((2, false)));
    assert_eq!(record.known(&taken("b").path, 10, 78).unwrap(), None);
    assert_eq!(record.count(&Filter::default()).unwrap(), 5);
}

#[test]
fn what_is_to_be_done_is_known_until_it_is_noted() {
    let record = Record::in_memory().unwrap();
    let part = judged("a", 0, Verdict::Normal);
    record.add_file(&part, &taken("a"), &[Kind::Move, Kind::Mqtt]).unwrap();
    record.add_file(&part, &taken("b"), &[Kind::Move, Kind::Mqtt]).unwrap();
    let to_do = |kinds: &[Kind], after| -> Vec<i64> {
        let found = record.to_do(&taken("a").folder, kinds, after, 10).unwrap();
        found.iter().map(|a| a.id).collect()
    };
    assert_eq!(to_do(&[Kind::Move], 0), [1, 3]);
    assert_eq!(to_do(&Kind::ALL, 1), [2, 3, 4]);
    assert_eq!(record.to_do(Path::new("/other"), &Kind::ALL, 0, 10).unwrap(), []);
    record.note_moved(1, Path::new("/good/a")).unwrap();
    record.note_done(&[(1, None), (4, Some("no".into()))]).unwrap();
    assert_eq!(to_do(&Kind::ALL, 0), [2, 3]);
    assert_eq!(record.taken(1).unwrap().unwrap().moved_to, Some(PathBuf::from("/good/a")));
    assert_eq!(record.known(&taken("a").path, 10, 77).unwrap(), Some((1, true)));
}

#[cfg(unix)]
#[test]
fn names_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let record = Record::in_memory().unwrap();
    let folder = PathBuf::from("/line");
    let path = folder.join(OsStr::from_bytes(b"\xff\n'\".png"));
    let file = Taken { path: path.clone(), ..taken("x") };
    record.add_file(&judged("x", 0, Verdict::Normal), &file, &[]).unwrap();
    assert_eq!(record.taken(1).unwrap().unwrap().path, path);
}
