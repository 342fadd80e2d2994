//! A tiny model, trained once a process, and parts to fill a record with.
#![allow(dead_code)] // Each test binary uses a part.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pbas::backbone::Backbone;
use pbas::demo::{DemoKind, render};
use pbas::preprocess::InputSize;
use pbas::settings::{Batch, Length, Preset, Settings, Sizes};
use pbas::train::{TrainJob, observer::Silent, train};

/// The file of a model that was trained on a dozen washers in a second or two.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let pictures: Vec<PathBuf> = (0..12)
            .map(|i| {
                let path = folder.path().join(format!("{i}.png"));
                render(DemoKind::Good, i).picture.write_png(&path).unwrap();
                path
            })
            .collect();
        let mut settings = Settings::preset(Preset::Fast);
        settings.sizes = Sizes::Fixed(vec![InputSize { height: 64, width: 64 }]);
        settings.folds = pbas::settings::Folds::Fixed(2);
        settings.head.hidden = 16;
        settings.head.length = Length::Steps(5);
        settings.head.batch = Batch::Patches(100);
        let job = TrainJob {
            pictures: &pictures,
            backbone: Backbone::embedded().unwrap(),
            settings,
            cache_limit: 1 << 30,
            temp_dir: None,
            checkpoints: None,
            resume: false,
        };
        let trained = train(job, &Silent).unwrap();
        let path = folder.path().join("washer.pbas");
        pbas::model_file::save(&trained.model, &path).unwrap();
        (folder, path)
    });
    path
}

/// A picture file of a washer.
pub fn picture(kind: DemoKind, seed: u64) -> Vec<u8> {
    render(kind, seed).picture.png().unwrap()
}
