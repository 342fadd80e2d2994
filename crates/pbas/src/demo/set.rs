//! The set on disk, in the MVTec layout: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.

use super::{DemoKind, DemoPicture, render};
use crate::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// The file that marks a folder as a demo set of ours, which may be written over.
pub const MARKER: &str = "pbas-demo.json";

const TRAIN_GOOD: usize = 60;
const TEST_GOOD: usize = 16;
const TEST_EACH: usize = 6;

/// What [`write_set`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoSet {
    /// The folder of the category: holds `train`, `test` and `ground_truth`.
    pub root: PathBuf,
    /// The seed it was rendered from.
    pub seed: u64,
    /// Pictures in `train/good`.
    pub train_good: usize,
    /// Pictures in `test/good`.
    pub test_good: usize,
    /// Pictures in the other folders of `test`, each with a mask.
    pub test_defective: usize,
}

/// One picture to be written.
struct Job {
    kind: DemoKind,
    seed: u64,
    picture: PathBuf,
    mask: PathBuf,
}

/// Renders 60 good pictures for training and 40 for the test (16 good, 6 of each defect, with masks) into `dir`.
/// `progress` is called on the calling thread with the number of pictures written so far (from 0) and of all.
///
/// `dir` is made if missing. A set that was written here before is written over; other files stay.
///
/// # Errors
/// `dir` is not a folder, or it holds files but not the marker [`MARKER`] (then nothing is written); the
/// operating system refuses to write.
pub fn write_set(dir: &Path, seed: u64, progress: &mut dyn FnMut(usize, usize)) -> Result<DemoSet> {
    claim(dir)?;
    write_marker(dir, seed, false)?;
    let jobs = jobs(dir, seed);
    let masks = jobs.iter().filter(|job| job.kind != DemoKind::Good).map(|job| &job.mask);
    for folder in jobs.iter().map(|job| &job.picture).chain(masks).filter_map(|path| path.parent()) {
        fs::create_dir_all(folder).map_err(|e| Error::io("cannot create folder", folder, e))?;
    }
    progress(0, jobs.len());
    let mut done = 0;
    for batch in jobs.chunks(2 * rayon::current_num_threads()) {
        batch.par_iter().map(write_one).collect::<Result<Vec<()>>>()?;
        done += batch.len();
        progress(done, jobs.len());
    }
    write_marker(dir, seed, true)?;
    Ok(DemoSet {
        root: dir.to_path_buf(),
        seed,
        train_good: TRAIN_GOOD,
        test_good: TEST_GOOD,
        test_defective: TEST_EACH * DemoKind::DEFECTS.len(),
    })
}

/// Makes sure that nothing of the user's can be written over.
fn claim(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot create folder", dir, e))?;
    let mut entries = fs::read_dir(dir).map_err(|e| Error::io("cannot list folder", dir, e))?;
    if entries.next().is_some() && !dir.join(MARKER).is_file() {
        let message = format!(
            "`{}`: expected an empty folder or an earlier demo set, found other files",
            dir.display()
        );
        return Err(Error::caller(message).with_hint("name a folder that does not exist yet"));
    }
    Ok(())
}

/// Written before the first picture (so that a run that was cut off can be repeated) and after the last.
fn write_marker(dir: &Path, seed: u64, complete: bool) -> Result<()> {
    let path = dir.join(MARKER);
    let content = serde_json::json!({
        "about": "pictures rendered by `pbas demo`; this file lets it write over them",
        "version": env!("CARGO_PKG_VERSION"),
        "seed": seed,
        "complete": complete,
    });
    fs::write(&path, format!("{content:#}\n")).map_err(|e| Error::io("cannot write", &path, e))
}

fn jobs(dir: &Path, seed: u64) -> Vec<Job> {
    let folders = [("train", DemoKind::Good, TRAIN_GOOD), ("test", DemoKind::Good, TEST_GOOD)];
    let defects = DemoKind::DEFECTS.map(|kind| ("test", kind, TEST_EACH));
    let mut jobs = Vec::new();
    for (split, kind, count) in folders.into_iter().chain(defects) {
        for i in 0..count {
            jobs.push(Job {
                kind,
                seed: picture_seed(seed, jobs.len() as u64),
                picture: dir.join(split).join(kind.name()).join(format!("{i:03}.png")),
                mask: dir.join("ground_truth").join(kind.name()).join(format!("{i:03}_mask.png")),
            });
        }
    }
    jobs
}

/// The seed of the picture with a running number, far from its neighbours' (SplitMix64).
fn picture_seed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn write_one(job: &Job) -> Result<()> {
    let DemoPicture { picture, mask } = render(job.kind, job.seed);
    save(&job.picture, &picture.data, picture.width, picture.height, image::ColorType::Rgb8)?;
    match mask {
        Some(mask) => {
            let white: Vec<u8> = mask.data.iter().map(|&v| v * 255).collect();
            save(&job.mask, &white, mask.width, mask.height, image::ColorType::L8)
        }
        None => Ok(()),
    }
}

fn save(path: &Path, data: &[u8], width: usize, height: usize, colour: image::ColorType) -> Result<()> {
    image::save_buffer_with_format(path, data, width as u32, height as u32, colour, image::ImageFormat::Png)
        .map_err(|e| match e {
            image::ImageError::IoError(e) => Error::io("cannot write", path, e),
            e => Error::input(format!("cannot encode `{}`", path.display())).with_source(e),
        })
}
