//! `pbas bench`: unattended, resumable, honest about what fails.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Run, TINY, command, folder, grey, pbas};
use pbas::demo::{DemoKind, render};
use serde_json::Value;

const CATEGORIES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Three small categories.
fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let root = folder().keep().join("parts");
        let mut seed = 1000;
        for category in CATEGORIES {
            for (part, kind, count) in [
                ("train/good", DemoKind::Good, 6),
                ("test/good", DemoKind::Good, 2),
                ("test/scratch", DemoKind::Scratch, 2),
                ("test/dent", DemoKind::Dent, 1),
            ] {
                for i in 0..count {
                    seed += 1;
                    let shown = render(kind, seed);
                    let file = root.join(category).join(part).join(format!("{i:03}.png"));
                    fs::create_dir_all(file.parent().unwrap()).unwrap();
                    shown.picture.write_png(&file).unwrap();
                    if let Some(mask) = shown.mask {
                        let file = root
                            .join(category)
                            .join("ground_truth")
                            .join(kind.name())
                            .join(format!("{i:03}_mask.png"));
                        fs::create_dir_all(file.parent().unwrap()).unwrap();
                        grey(&file, mask.width as u32, mask.height as u32, &mask.data);
                    }
                }
            }
        }
        fs::write(root.join("README.md"), "no category").unwrap();
        root
    })
}

fn arguments(data: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let mut args =
        vec!["bench".to_owned(), data.display().to_string(), "-o".into(), out.display().to_string()];
    args.extend(more.iter().map(|s| (*s).to_owned()));
    args
}

fn bench(data: &Path, out: &Path, more: &[&str]) -> Run {
    pbas(&arguments(data, out, &[&TINY, more].concat()))
}

/// The finished runs, without what they took.
fn results(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("results.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    let of_line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        assert!(value.as_object_mut().unwrap().remove("cost").is_some());
        value
    };
    text.lines().map(of_line).collect()
}

fn names(results: &[Value]) -> Vec<String> {
    results.iter().map(|r| format!("{} {}", r["category"].as_str().unwrap(), r["seed"])).collect()
}

fn start(data: &Path, out: &Path, more: &[&str]) -> Child {
    let mut command = command(&arguments(data, out, &[&TINY, more].concat()));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Numbers that are spread and always the same.
fn spread(i: u64) -> u64 {
    (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

#[test]
fn killed_again_and_again_it_ends_as_if_never_disturbed() {
    let dir = folder();
    let (calm, killed) = (dir.path().join("calm"), dir.path().join("killed"));
    let started = Instant::now();
    let run = bench(data(), &calm, &["--seeds", "2"]).code(0);
    let whole = started.elapsed();
    assert!(run.stdout.contains("alpha") && run.stdout.contains("mean"), "{run:#?}");
    let expected = results(&calm);
    let wanted: Vec<String> = CATEGORIES.iter().flat_map(|c| [format!("{c} 0"), format!("{c} 1")]).collect();
    assert_eq!(names(&expected), wanted);

    let mut kills = 0;
    for i in 0..10 {
        let mut child = start(data(), &killed, &["--seeds", "2"]);
        let moment = whole.mul_f64((spread(i) % 1000) as f64 / 1000.0 * 0.4);
        std::thread::sleep(moment);
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 3, "most were to be killed at work, {kills} were");
    bench(data(), &killed, &["--seeds", "2"]).code(0);
    assert_eq!(results(&killed), expected);
    // A finished benchmark has nothing left to do.
    let again = bench(data(), &killed, &["--seeds", "2"]).code(0).says(&["6 done before"]);
    assert!(!again.stderr.contains("features"), "{again:#?}");
    assert_eq!(results(&killed), expected);

    // Two machines, joined.
    let shards = ["0/2", "1/2"].map(|s| {
        let out = dir.path().join(s.replace('/', "of"));
        bench(data(), &out, &["--seeds", "2", "--shard", s, "--jobs", "2"]).code(0);
        out
    });
    assert!(shards.iter().all(|s| results(s).len() == 3));
    let joined = dir.path().join("joined");
    let [a, b] = shards.each_ref().map(|p| p.display().to_string());
    pbas(&["bench", "merge", &a, &b, &a, "-o", &joined.display().to_string()])
        .code(0)
        .says(&["6 runs", "3 there more than once"]);
    assert_eq!(results(&joined), expected);
    for record in results(&joined) {
        for picture in record["gallery"].as_array().into_iter().flatten() {
            assert!(joined.join("gallery").join(picture["file"].as_str().unwrap()).exists());
        }
    }
}

#[test]
fn a_torn_last_line_is_done_again_and_other_damage_is_named() {
    let (dir, out) = (folder(), "out");
    let out = dir.path().join(out);
    bench(data(), &out, &["--categories", "alpha,beta"]).code(0);
    let expected = results(&out);
    let file = out.join("results.jsonl");
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() - 100]).unwrap();
    bench(data(), &out, &["--categories", "alpha,beta"]).code(0).says(&["was cut short", "1 done before"]);
    assert_eq!(results(&out), expected);
    fs::write(&file, [b"{}\n", text.as_slice()].concat()).unwrap();
    bench(data(), &out, &["--categories", "alpha,beta"])
        .refused(&["results.jsonl` line 1: expected a finished run"]);
}

#[test]
fn one_folder_takes_one_run_at_a_time_and_one_kind_of_settings() {
    let dir = folder();
    let out = dir.path().join("out");
    let mut first = start(data(), &out, &["--seeds", "40"]);
    let begun = Instant::now();
    while !out.join("results.jsonl").exists() || fs::metadata(out.join("results.jsonl")).unwrap().len() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the first run finished nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    bench(data(), &out, &[]).refused(&["in use by another run", "--shard"]);
    first.kill().unwrap();
    first.wait().unwrap();
    bench(data(), &out, &["--synthesis-scale", "0.3"])
        .refused(&["holds results of other settings", "settings.head.synthesis_scale"]);
    bench(data(), &out, &["--categories", "delta"]).refused(&["no such category", "alpha, beta, gamma"]);
    bench(data(), &out, &["--shard", "2/2"]).refused(&["from 0 to N - 1"]);
}

#[test]
fn a_category_that_fails_is_reported_and_the_others_go_on() {
    let dir = folder();
    let set = dir.path().join("set");
    for category in ["alpha", "beta"] {
        common::copy(&data().join(category), &set.join(category));
    }
    common::copy(&data().join("alpha"), &set.join("broken"));
    for entry in fs::read_dir(set.join("broken/train/good")).unwrap() {
        fs::write(entry.unwrap().path(), "no picture").unwrap();
    }
    common::copy(&data().join("alpha/train"), &set.join("untested/train"));
    let out = dir.path().join("out");
    let run = bench(&set, &out, &[]).code(2).says(&[
        "error: broken seed 0",
        "the others go on",
        "none of the 6 pictures could be read",
        "category `untested` is left out",
    ]);
    assert_eq!(names(&results(&out)), ["alpha 0", "beta 0"]);
    assert!(run.stdout.contains("beta"), "{run:#?}");
    // Once mended it is made up for.
    fs::remove_dir_all(set.join("broken")).unwrap();
    common::copy(&data().join("gamma"), &set.join("broken"));
    bench(&set, &out, &["--categories", "broken"]).code(0);
    assert_eq!(results(&out).len(), 3);
}

#[test]
fn the_paper_protocol_has_an_oracle_beside_the_last_epoch_and_a_baseline_on_request() {
    let dir = folder();
    let out = dir.path().join("out");
    let more = [&common::paper("4")[..], &["--categories", "beta"]].concat();
    let run = pbas(&arguments(data(), &out, &more)).code(0).says(&["oracle (epoch "]);
    assert!(run.stdout.contains("oracle image") && run.stdout.contains("nearest image"), "{run:#?}");
    let found = &results(&out)[0];
    assert_eq!((found["protocol"].as_str(), found["oracle"]["looked_at"].as_u64()), (Some("paper"), Some(4)));
    let epoch = found["oracle"]["epoch"].as_u64().unwrap();
    assert!((1..=4).contains(&epoch));
    let merit = |v: &Value| v["image_auroc"].as_f64().unwrap() + v["pixel_auroc"].as_f64().unwrap();
    let (oracle, last) = (merit(&found["oracle"]["summary"]), merit(&found["result"]));
    assert!(oracle >= last - 1e-9, "the oracle chose worse than the last epoch: {oracle} {last}");
    let compared = &found["result"]["compared"][0];
    assert!(compared["method"] == "nearest neighbour" && compared["image_auroc"].is_f64());
    // An honest run has none, and the length must be in epochs.
    let steps = ["--protocol", "paper", "--size", "64", "--steps", "4"];
    pbas(&arguments(data(), &dir.path().join("other"), &steps)).refused(&["expected a length in epochs"]);
}

#[test]
fn an_honest_run_opens_no_test_picture_before_the_model_is_finished() {
    let dir = folder();
    let set = dir.path().join("set");
    common::copy(&data().join("alpha"), &set.join("alpha"));
    // Unreadable test pictures are found out after training, by the evaluation.
    for part in ["good", "scratch", "dent"] {
        for entry in fs::read_dir(set.join("alpha/test").join(part)).unwrap() {
            fs::write(entry.unwrap().path(), "no picture").unwrap();
        }
    }
    let run = bench(&set, &dir.path().join("out"), &[])
        .code(2)
        .says(&["none of the 5 test pictures could be judged"]);
    let (trained, failed) = (run.stderr.find("threshold:"), run.stderr.find("failed; the others go on"));
    assert!(trained.is_some() && trained < failed, "{run:#?}");
}
