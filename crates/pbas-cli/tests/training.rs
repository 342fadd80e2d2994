//! Training that is stopped, killed, out of room or on other numbers of threads: the same bytes, or nothing.

mod common;

use std::fs;
use std::path::Path;

use common::{files, folder, set, train};

#[test]
fn the_same_seed_gives_the_same_bytes_for_any_number_of_threads() {
    let out = folder();
    let model = |name: &str, more: &[&str]| {
        let path = out.path().join(name);
        train(set(), &path, more).code(0);
        fs::read(path).unwrap()
    };
    let one = model("one", &["--threads", "1"]);
    assert!(one == model("two", &["--threads", "2"]), "1 and 2 threads differ");
    assert!(one == model("spilled", &["--threads", "2", "--cache-limit", "0"]), "the cache's place shows");
    assert!(one != model("other", &["--seed", "1"]), "the seed does nothing");
}

/// A model in bfloat16 says so, is refused where another precision is asked for, and judges alike on processors that imitate it.
#[test]
fn a_model_in_bfloat16_judges_alike_on_every_processor() {
    let out = folder();
    let path = out.path().join("bf16.pbas");
    train(set(), &path, &["--precision", "bf16"]).code(0);
    let model = path.to_str().unwrap();
    let text = common::pbas(&["info", model]).code(0).stdout;
    assert!(text.contains("format 7") && text.contains("precision    bf16"), "{text}");
    let test = set().join("test");
    let judge = |cpu: Option<&str>| {
        let mut command = common::command(&["predict", model, test.to_str().unwrap()]);
        if let Some(cpu) = cpu {
            command.env("PBAS_CPU", cpu);
        }
        common::Run::of(command.output().unwrap()).code(0).json_lines()
    };
    for (a, b) in judge(None).iter().zip(&judge(Some("portable"))) {
        assert_eq!(a["verdict"], b["verdict"]);
        let [a, b] = [a, b].map(|r| r["image_score"].as_f64().unwrap());
        // Without fused multiply-add depthwise sums differ in their last bit, and rounding makes more of it.
        assert!((a - b).abs() < 0.1, "{a} {b}");
    }
    let refused = |command: &str, dir: &Path| {
        common::pbas(&[command, model, dir.to_str().unwrap(), "--precision", "f32"])
            .refused(&["--precision f32", "found one in bf16"]);
    };
    refused("predict", &test);
    refused("eval", set());
    let onnx = out.path().join("bf16.onnx");
    common::pbas(&["export", model, onnx.to_str().unwrap()]).refused(&["expected a model in f32"]);
}

#[test]
fn the_paper_preset_and_other_options_train() {
    let out = folder();
    let path = out.path().join("paper.pbas");
    let given = format!("train {} -o {}", set().display(), path.display());
    let options = "--preset paper --size 64 --epochs 2 --embed-dim 24 --hidden 16 --batch-size 4 --feature-layers stride16";
    let args: Vec<&str> = given.split(' ').chain(options.split(' ')).collect();
    common::pbas(&args).code(0).says(&["an estimate: 5 good pictures prove at most"]);
    let text = common::pbas(&["info", path.to_str().unwrap()]).code(0).stdout;
    for part in [
        "paper, seed 0",
        "shorter side to 64 pixels",
        "24 entries",
        "4 x 4 patches",
        "sigmoid",
        "2 epochs a head, 4 pictures",
    ] {
        assert!(text.contains(part), "expected `{part}` in\n{text}");
    }
    train(set(), &path, &["--feature-layers", "stride5"]).code(2).says(&["stride5"]);
}

/// Steps that take some seconds in all, far longer than the pause before the signal.
#[cfg(unix)]
const LONG: [&str; 6] = ["--steps", "8000", "--embed-dim", "16", "--batch-size", "16"];

/// Starts the long training and comes back once its steps have begun.
#[cfg(unix)]
#[test]
fn changed_copies_are_trained_on_and_the_model_says_so() {
    let dir = common::folder();
    let models = ["light", "strong", "strong", "rotations"].map(String::from);
    let models: Vec<Vec<u8>> = models
        .iter()
        .enumerate()
        .map(|(i, kind)| {
            let out = dir.path().join(format!("{i}.pbas"));
            let threads = (i + 1).to_string();
            common::train(common::set(), &out, &["--augment", kind, "--threads", &threads]).code(0);
            std::fs::read(out).unwrap()
        })
        .collect();
    assert_eq!(models[1], models[2], "the same copies, whatever the threads");
    assert!(models[0] != models[1] && models[1] != models[3]);
    let said = common::pbas(&["info".as_ref(), dir.path().join("3.pbas").as_os_str()]).code(0);
    assert!(said.stdout.contains("three copies, rotated by any angle"), "{}", said.stdout);
    let plain = common::pbas(&["info".as_ref(), common::model().as_os_str()]).code(0);
    assert!(!plain.stdout.contains("augment"), "{}", plain.stdout);
}

fn start(out: &Path, more: &[&str]) -> (std::process::Child, std::io::BufReader<std::process::ChildStderr>) {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let args: Vec<&str> = ["train", set().to_str().unwrap(), "-o", out.to_str().unwrap()]
        .into_iter()
        .chain(["--size", "64", "--folds", "2", "--hidden", "16"])
        .chain(LONG)
        .chain(more.iter().copied())
        .collect();
    let mut child = common::command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("training:") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "ended before training");
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    (child, stderr)
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let kill = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(kill.success(), "the run ended before the signal");
}

#[cfg(unix)]
fn rest(mut stderr: impl std::io::Read) -> String {
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_and_gives_the_same_bytes() {
    let out = folder();
    let (stopped, whole) = (out.path().join("stopped.pbas"), out.path().join("whole.pbas"));
    let (mut child, stderr) = start(&stopped, &[]);
    signal(&child, "-INT");
    let said = rest(stderr);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("stopping; ") && said.contains("training was stopped"), "{said}");
    assert!(said.contains("hint: the same command with `--resume` goes on"), "{said}");
    let left = files(out.path());
    assert!(
        !left.is_empty() && left.iter().all(|f| f.starts_with("stopped.pbas.checkpoint/view0_head")),
        "{left:?}"
    );

    // Another run must not go on from it.
    let args: Vec<&str> = LONG.into_iter().chain(["--resume", "--seed", "9"]).collect();
    train_long(&stopped, &args).code(2).says(&["found one made with other pictures, settings or version"]);

    let args: Vec<&str> = LONG.into_iter().chain(["--resume"]).collect();
    train_long(&stopped, &args).code(0);
    train_long(&whole, &args).code(0).says(&["no checkpoint in `", "training begins anew"]);
    assert!(fs::read(&stopped).unwrap() == fs::read(&whole).unwrap(), "the resumed model differs");
    assert_eq!(files(out.path()), ["stopped.pbas", "whole.pbas"]);
}

#[cfg(unix)]
fn train_long(out: &Path, more: &[&str]) -> common::Run {
    let args =
        ["train", set().to_str().unwrap(), "-o", out.to_str().unwrap(), "--size", "64", "--folds", "2"];
    common::pbas(&[&args[..], &["--hidden", "16"], more].concat())
}

#[cfg(unix)]
#[test]
fn a_killed_run_leaves_no_half_model() {
    let out = folder();
    let model = out.path().join("part.pbas");
    fs::write(&model, "the model of yesterday").unwrap();
    let (mut child, stderr) = start(&model, &[]);
    signal(&child, "-KILL");
    rest(stderr);
    assert_eq!(child.wait().unwrap().code(), None, "ended by the signal");
    assert_eq!(fs::read(&model).unwrap(), b"the model of yesterday");
    let left = files(out.path());
    assert!(left.iter().all(|f| f == "part.pbas" || f.contains(".checkpoint/")), "{left:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    // Room for the checkpoints (four small copies of two heads), not for the model with its backbone.
    let Some(disk) = common::SmallDisk::new("size=3m") else {
        eprintln!("skipped: no small file system can be mounted here");
        return;
    };
    let model = disk.path().join("part.pbas");
    fs::write(&model, "the model of yesterday").unwrap();
    let more = ["--embed-dim", "16"];
    train(set(), &model, &more).code(2).says(&["error: cannot write model `", "No space left on device"]);
    assert_eq!(fs::read(&model).unwrap(), b"the model of yesterday");
    let left = files(disk.path());
    assert!(left.iter().all(|f| f == "part.pbas" || f.contains(".checkpoint/")), "{left:?}");

    let maps = disk.path().join("maps");
    let filler = vec![0; 3 << 20];
    let _ = fs::write(disk.path().join("filler"), filler);
    let picture = set().join("test/good/000.png");
    let args = [
        "predict".as_ref(),
        common::model().as_os_str(),
        picture.as_os_str(),
        "--heatmaps".as_ref(),
        maps.as_os_str(),
    ];
    let run = common::pbas(&args).code(2).says(&["No space left on device"]);
    assert!(
        run.stdout.is_empty() || run.json_lines()[0]["image_score"].is_f64(),
        "the verdict is not lost: {run:#?}"
    );
}
