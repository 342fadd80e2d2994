//! How long a data set of VisA's size (10,821 pictures of 12 objects) takes to list: `cargo bench -p pbas --bench dataset`. Issued by every
//! command that is given a set, it should stay well under a second.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::Criterion;
use pbas::dataset::open;

const OBJECTS: usize = 12;
const PICTURES: usize = 10_821;

/// An empty file at a path whose folder need not exist.
fn touch(path: &Path) {
    fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
    fs::write(path, "").expect("a file");
}

/// VisA as published, of empty files: nothing may be decoded to list it.
fn visa(root: &Path) {
    let mut csv = "object,split,label,image,mask\n".to_owned();
    for i in 0..PICTURES {
        let (object, n) = (format!("object{:02}", i % OBJECTS), i / OBJECTS);
        let (split, label, folder) = match n % 10 {
            9 => ("test", "anomaly", "Anomaly"),
            8 => ("test", "normal", "Normal"),
            _ => ("train", "normal", "Normal"),
        };
        let image = format!("{object}/Data/Images/{folder}/{n:04}.JPG");
        touch(&root.join(&image));
        let mask = match label {
            "anomaly" => format!("{object}/Data/Masks/Anomaly/{n:04}.png"),
            _ => String::new(),
        };
        if !mask.is_empty() {
            touch(&root.join(&mask));
        }
        csv.push_str(&format!("{object},{split},{label},{image},{mask}\n"));
    }
    fs::create_dir_all(root.join("split_csv")).expect("a folder");
    fs::write(root.join("split_csv/1cls.csv"), csv).expect("a file");
}

fn main() {
    let root = tempfile::tempdir().expect("a temporary folder");
    visa(root.path());
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    criterion.bench_function("list VisA", |b| {
        b.iter(|| {
            let set = open(black_box(root.path())).expect("VisA");
            let listed: usize = set.categories.iter().map(|c| c.good.len() + c.test.samples.len()).sum();
            assert_eq!(listed, PICTURES);
        });
    });
    criterion.final_summary();
}
