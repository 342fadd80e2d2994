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
fn an_oracle_that_looks_at_the_last_epoch_alone_finds_the_last_epoch() {
    let dir = folder();
    let out = dir.path().join("out");
    let more = [&common::paper("2")[..], &["--categories", "beta", "--oracle-every", "2"]].concat();
    pbas(&arguments(data(), &out, &more)).code(0);
    let found = &results(&out)[0];
    assert_eq!(
        (found["oracle"]["epoch"].as_u64(), found["oracle"]["looked_at"].as_u64()),
        (Some(2), Some(1))
    );
    // Figures, threshold, false rejects and misses: those of the same head. Training sets the threshold by features in float16.
    for (name, value) in found["oracle"]["summary"].as_object().unwrap() {
        let tolerance = if name == "threshold" { 1e-3 } else { 1e-6 };
        match (value.as_f64(), found["result"][name].as_f64()) {
            (Some(a), Some(b)) => assert!((a - b).abs() < tolerance, "{name}: {a} {b}"),
            (a, b) => assert_eq!(a, b, "{name}"),
        }
    }
}

/// Options of a small run in the published protocol, in batches that are fewer than all pictures, and more.
fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let few = [
        "--protocol",
        "paper",
        "--epochs",
        "2",
        "--categories",
        "beta",
        "--size",
        "64",
        "--hidden",
        "16",
        "--batch-size",
        "2",
    ];
    let embed = if more.contains(&"--embed-dim") { &[][..] } else { &["--embed-dim", "32"] };
    [&few[..], embed, more].concat()
}

#[test]
fn ablations_are_there_by_name_and_by_flag() {
    let dir = folder();
    // Each name trains what its flags train: the same figures.
    for (i, (name, flags)) in [
        ("without-abl", &["--boundary-weight", "0"][..]),
        ("mean-centre", &["--centers", "mean"]),
        ("noise-0.1", &["--noise", "0.1"]),
        ("without-rbo", &["--without-rbo"]),
        ("k-0.5", &["--synthesis-scale", "0.5"]),
        ("momentum-0.5", &["--center-momentum", "0.5"]),
        ("rate-3", &["--rate-factor", "3"]),
        ("layer-stride8", &["--feature-layers", "stride8"]),
        ("embed-8", &["--embed-dim", "8"]),
    ]
    .into_iter()
    .enumerate()
    {
        let (by_name, by_flag) = (dir.path().join(format!("name{i}")), dir.path().join(format!("flag{i}")));
        let named = format!("--ablations={name}");
        pbas(&arguments(data(), &by_name, &small(&[&named]))).code(0);
        pbas(&arguments(data(), &by_flag, &small(flags))).code(0);
        let [base, variant] = &results(&by_name)[..] else { panic!("{name}: expected two runs") };
        let [alone] = &results(&by_flag)[..] else { panic!("{name}: expected one run") };
        assert_eq!((base["variant"].as_str(), variant["variant"].as_str()), (Some("base"), Some(name)));
        assert_eq!(variant["settings"], alone["settings"], "{name}");
        assert_eq!(variant["result"], alone["result"], "{name}");
        assert_eq!(variant["oracle"], alone["oracle"], "{name}");
        assert_ne!(variant["result"]["samples"], base["result"]["samples"], "{name} changes no score");
    }
    for (flags, said) in [
        (&["--noise", "0"][..], "noise: expected above 0"),
        (&["--noise", "0.1", "--without-rbo"], "expected a discriminator that learns from it"),
        (&["--without-rbo", "--boundary-weight", "0"], "with which nothing is trained"),
        (&["--center-momentum", "1.5"], "centre momentum: expected 0 to 1"),
        (&["--center-momentum", "0.2", "--centers", "mean"], "expected centres by position"),
        (&["--rate-factor", "0"], "expected a number above 0"),
        (&["--ablations=momentum-9"], "there is none of this name"),
    ] {
        pbas(&arguments(data(), &dir.path().join("refused"), &small(flags))).refused(&[said]);
    }
}

#[test]
fn one_run_does_all_ablations_and_asks_the_baseline_once_for_the_same_features() {
    let dir = folder();
    let out = dir.path().join("out");
    let more = [&common::paper("1")[..], &["--categories", "beta", "--ablations", "--jobs", "2"]].concat();
    pbas(&arguments(data(), &out, &more)).code(0);
    let found = results(&out);
    let variants: Vec<&str> = found.iter().map(|r| r["variant"].as_str().unwrap()).collect();
    for name in ["base", "without-abl", "mean-centre", "noise-0.015", "without-rbo", "k-0.5", "momentum-0.05"]
    {
        assert_eq!(variants.iter().filter(|v| **v == name).count(), 1, "{name}: {variants:?}");
    }
    for record in &found {
        let variant = record["variant"].as_str().unwrap();
        let own_features = variant == "base" || variant.starts_with("layer") || variant.starts_with("embed");
        assert_eq!(record["result"]["compared"].is_array(), own_features, "{variant}");
        assert!(record["result"]["image_auroc"].is_f64() && record["oracle"].is_object(), "{variant}");
    }
    let shown = out.display().to_string();
    pbas(&["report", &shown]).code(0);
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("## Ablations") && markdown.contains("| without-rbo |"), "{markdown}");
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("<h2>Ablations</h2>") && html.contains("<td>momentum-0.05</td>"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_no_finished_run() {
    let Some(disk) = common::SmallDisk::new("size=2m") else {
        eprintln!("skipped: no small file system can be mounted here");
        return;
    };
    let calm = folder();
    bench(data(), calm.path(), &["--categories", "alpha,beta", "--seeds", "2"]).code(0);
    let out = disk.path().join("out");
    bench(data(), &out, &["--categories", "alpha", "--seeds", "2"]).code(0);
    let before = fs::read(out.join("results.jsonl")).unwrap();
    // Not a byte is left: what fills the disk to the last.
    let filler = disk.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut file, &[0; 512]).is_ok_and(|n| n > 0) {}
    drop(file);
    let run = bench(data(), &out, &["--categories", "alpha,beta", "--seeds", "2"]).code(2);
    assert!(run.stderr.contains("No space left on device"), "{run:#?}");
    assert!(
        run.stderr.contains("cannot write a finished run to `") && run.stderr.contains("results.jsonl"),
        "{run:#?}"
    );
    assert!(fs::read(out.join("results.jsonl")).unwrap() == before, "finished runs are as they were");
    // With room again the same command goes on.
    fs::remove_file(filler).unwrap();
    bench(data(), &out, &["--categories", "alpha,beta", "--seeds", "2"]).code(0).says(&["2 done before"]);
    assert_eq!(results(&out), results(calm.path()));
}

#[test]
fn a_category_without_good_test_pictures_is_judged_as_far_as_that_goes() {
    let dir = folder();
    let set = dir.path().join("set");
    common::copy(&data().join("alpha"), &set.join("alpha"));
    fs::remove_dir_all(set.join("alpha/test/good")).unwrap();
    let out = dir.path().join("out");
    bench(&set, &out, &[]).code(0);
    let result = &results(&out)[0]["result"];
    assert!(result["image_auroc"].is_null() && result["samples"].as_array().unwrap().len() == 3);
    assert!(result["notes"].to_string().contains("no good test pictures"), "{result}");
    assert!(result["pixel_auroc"].is_f64(), "the good pixels of defective pictures are there");
    pbas(&["report", &out.display().to_string()]).code(0);
}

#[test]
fn records_say_what_made_them() {
    let dir = folder();
    let out = dir.path().join("out");
    bench(data(), &out, &["--categories", "alpha"]).code(0);
    let text = fs::read_to_string(out.join("results.jsonl")).unwrap();
    let record: Value = serde_json::from_str(text.trim()).unwrap();
    let commit = Some(env!("PBAS_COMMIT")).filter(|c| !c.is_empty());
    assert_eq!(record["program"]["commit"].as_str(), commit);
    assert_eq!(record["program"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(record["data_sha256"].as_str().unwrap().len(), 64);
    assert!(record["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(record["cost"]["train_seconds"].as_f64().unwrap() > 0.0);
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
