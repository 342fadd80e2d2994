//! Changed copies in the feature cache: beside the pictures, never in their place.

use std::path::PathBuf;

use pbas::backbone::Backbone;
use pbas::demo::{self, DemoKind};
use pbas::features::Extractor;
use pbas::image::DecodeOptions;
use pbas::preprocess::InputSize;
use pbas::settings::{Augment, Preset, Settings};
use pbas::train::feature_cache::{FeatureCache, Pass};
use pbas::train::observer::Silent;

#[test]
fn copies_lie_beside_the_pictures_and_leave_them_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut pictures: Vec<PathBuf> = (0..3)
        .map(|i| {
            let path = folder.path().join(format!("{i}.png"));
            demo::render(DemoKind::Good, i).picture.write_png(&path).unwrap();
            path
        })
        .collect();
    // One that cannot be read has no copies either.
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, b"no picture").unwrap();
    pictures.insert(1, broken);

    let settings = Settings::preset(Preset::Fast);
    let backbone = Backbone::embedded().unwrap();
    let sizes = [InputSize::square(64), InputSize::square(32)];
    let extractors = sizes.map(|size| Extractor::for_view(&backbone, size, &settings).unwrap());
    let decode = DecodeOptions::default();
    let fill = |augment, memory_limit| {
        let pass = Pass {
            pictures: &pictures,
            extractors: &[&extractors[0], &extractors[1]],
            roi: None,
            decode: &decode,
            augment,
            memory_limit,
            temp_dir: None,
        };
        FeatureCache::fill(&pass, &Silent).unwrap()
    };
    let pooled = |cache: &FeatureCache, view, entry| {
        let mut values = Vec::new();
        cache.pooled(view, entry, &mut values);
        values
    };
    let (plain, of_plain) = fill(None, 1 << 30);
    assert_eq!((plain.pictures(), plain.entries()), (3, 3));
    for (augment, copies) in [(Augment::Light, 1), (Augment::Strong, 3), (Augment::Rotations, 3)] {
        let (cache, survey) = fill(Some((augment, 5)), 1 << 30);
        let (on_disk, _) = fill(Some((augment, 5)), 0);
        let (other, _) = fill(Some((augment, 6)), 1 << 30);
        assert_eq!((cache.pictures(), cache.entries()), (3, 3 * (1 + copies)));
        assert_eq!((survey.digest, survey.skipped.len()), (of_plain.digest.clone(), 1));
        for view in 0..2 {
            for picture in 0..3 {
                let original = pooled(&plain, view, picture);
                assert_eq!(pooled(&cache, view, picture), original);
                let mut before = original;
                for copy in 1..=copies {
                    let entry = picture + copy * 3;
                    let changed = pooled(&cache, view, entry);
                    assert!(changed != before, "{augment:?}, view {view}, picture {picture}, copy {copy}");
                    assert_eq!(changed, pooled(&on_disk, view, entry));
                    assert_ne!(changed, pooled(&other, view, entry), "the seed counts");
                    // Every patch comes from the entry that is asked for.
                    let dim = cache.embedding(view).dim();
                    let (mut row, mut all) = (vec![0.0; dim], vec![0.0; cache.positions(view).count() * dim]);
                    cache.gather_all(view, entry, &mut all, pbas::Threads::One);
                    cache.gather(view, entry, cache.positions(view).nth(2), &mut row, &mut Vec::new());
                    assert_eq!(all[2 * dim..3 * dim], row);
                    before = changed;
                }
            }
        }
    }
}
