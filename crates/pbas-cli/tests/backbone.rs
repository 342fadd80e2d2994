//! `pbas backbone`: import, list, and fetch from a server that the test itself starts.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Run, command, folder, set};
use sha2::{Digest, Sha256};

/// A ResNet cut off after its first layer, as torch writes it.
fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pbas/tests/golden/resnet_stage1.pth")
}

fn golden(name: &str) -> PathBuf {
    weights().with_file_name(name)
}

/// The program with its data in `home`, and no proxy between it and the test's server.
fn pbas(home: &Path, args: &[&str]) -> Run {
    let mut command = command(args);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Run::of(command.env("PBAS_DATA_DIR", home).output().unwrap())
}

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// The file, or the part of it that is asked for.
    Whole,
    /// So many bytes of it, then the end of the connection.
    Cut(usize),
    /// So many bytes of it, then silence.
    Stall(usize),
    Status(u16),
}

struct Server {
    address: String,
    /// Requests that asked for a part.
    resumed: Arc<AtomicUsize>,
}

/// Serves `file`; the n-th request is answered by the n-th answer, all later ones by the last.
fn serve(file: Vec<u8>, answers: Vec<Answer>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/weights.pth", listener.local_addr().unwrap());
    let resumed = Arc::new(AtomicUsize::new(0));
    let (seen, file) = (resumed.clone(), Arc::new(file));
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let answer = answers[n.min(answers.len() - 1)];
            let (seen, file) = (seen.clone(), file.clone());
            // A silent connection must not keep the next one waiting.
            std::thread::spawn(move || reply(stream.unwrap(), &file, answer, &seen));
        }
    });
    Server { address, resumed }
}

fn reply(mut stream: TcpStream, file: &[u8], answer: Answer, resumed: &AtomicUsize) -> std::io::Result<()> {
    let (mut start, mut line) = (0, String::new());
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut line)? > 2 {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            start = range.trim().trim_end_matches('-').parse().unwrap();
            resumed.fetch_add(1, Ordering::SeqCst);
        }
        line.clear();
    }
    if let Answer::Status(status) = answer {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    let body = &file[start.min(file.len())..];
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    match answer {
        Answer::Cut(n) | Answer::Stall(n) => stream.write_all(&body[..n.min(body.len())])?,
        _ => stream.write_all(body)?,
    }
    stream.flush()?;
    if matches!(answer, Answer::Stall(_)) {
        // Until the other side gives up.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn left_over(home: &Path) -> Vec<String> {
    let store = home.join("backbones");
    if store.exists() { common::files(&store) } else { Vec::new() }
}

#[test]
fn imported_weights_are_used_by_their_name() {
    let home = folder();
    let file = weights().display().to_string();
    pbas(home.path(), &["backbone", "import", &file, "--name", "small"])
        .code(0)
        .says(&["small: resnet with layer1"]);
    pbas(home.path(), &["backbone", "import", &file, "--name", "half", "--format", "float16"]).code(0);
    pbas(home.path(), &["backbone", "import", &file, "--name", "small"])
        .refused(&["the name `small` is taken"]);
    pbas(home.path(), &["backbone", "import", &file, "--name", "small", "--force"]).code(0);
    pbas(home.path(), &["backbone", "import", &file, "--name", "../x"])
        .refused(&["backbone name: expected letters"]);
    let listed = pbas(home.path(), &["backbone", "list"]).code(0).stdout;
    for part in ["efficientnet_lite0", "built in", "small", "half", "imported", "wide_resnet50_2", "known"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&pbas(home.path(), &["backbone", "list", "--json"]).code(0).stdout).unwrap();
    let bytes = |i: usize| json["imported"][i]["bytes"].as_u64().unwrap();
    assert!(json["imported"][0]["name"] == "half" && bytes(0) * 10 < bytes(1) * 6, "{json}");

    // By name and by file the same weights: the same scores.
    let train = |backbone: &str, out: &str| {
        let (set, out) = (set().display().to_string(), home.path().join(out).display().to_string());
        let mut args = vec!["train", &set, "-o", &out, "--backbone", backbone, "--feature-layers", "layer1"];
        args.extend(common::TINY);
        let run = pbas(home.path(), &args);
        (run, out)
    };
    let (run, by_name) = train("small", "name.pbas");
    run.code(0);
    let (run, by_file) = train(&file, "file.pbas");
    run.code(0);
    let score = |model: &str| {
        let picture = set().join("test/scratch/000.png").display().to_string();
        pbas(home.path(), &["predict", model, &picture]).code(0).json_lines()[0]["image_score"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(score(&by_name), score(&by_file));
    let (run, _) = train("wide_resnet50_2", "x.pbas");
    run.refused(&["neither a file nor an imported backbone", "pbas backbone fetch wide_resnet50_2"]);
    let (run, _) = train("unheard_of", "x.pbas");
    run.refused(&["neither a file nor an imported backbone", "pbas backbone list"]);
}

#[test]
fn bad_weight_files_are_refused_by_name() {
    let home = folder();
    let whole = fs::read(weights()).unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let hostile = golden("hostile.pth").display().to_string();
    let other = golden("picture.png").display().to_string();
    let header = r#"{"conv1.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let nan = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &f32::NAN.to_le_bytes()].concat();
    for (file, parts) in [
        (
            at("nan.safetensors", &nan),
            &["tensor `conv1.weight`: expected finite float32 values, found NaN"][..],
        ),
        (at("cut.pth", &whole[..whole.len() / 2]), &["cannot import"][..]),
        (at("text.pth", b"<html>not found</html>"), &["cannot import"]),
        (at("empty.pth", b""), &["cannot import"]),
        (hostile, &["cannot import", "system`"]),
        (other, &["cannot import"]),
        (
            golden("metrics.safetensors").display().to_string(),
            &["expected the tensors of EfficientNet", "ResNet"],
        ),
        (home.path().join("gone.pth").display().to_string(), &["cannot read backbone"]),
    ] {
        pbas(home.path(), &["backbone", "import", &file]).refused(parts);
    }
    assert!(left_over(home.path()).is_empty());
}

#[test]
fn fetch_says_what_it_will_do_verifies_and_imports() {
    let home = folder();
    let file = fs::read(weights()).unwrap();
    let server = serve(file.clone(), vec![Answer::Whole]);
    let sum = digest(&file);
    let args = ["backbone", "fetch", "mine", "--from-url", &server.address, "--sha256", &sum];
    pbas(home.path(), &args).code(0).says(&[
        &format!("address  {}", server.address),
        "licence",
        "sha256",
        "mine: resnet",
    ]);
    assert_eq!(left_over(home.path()), ["mine.safetensors"]);
    pbas(home.path(), &args).refused(&["is there already", "--force"]);
    pbas(home.path(), &["backbone", "fetch", "mine2"]).refused(&["its address and SHA-256 are not known"]);
    pbas(home.path(), &["backbone", "fetch", "x", "--from-url", "ftp://x/y", "--sha256", &sum])
        .refused(&["expected an address with http or https"]);
}

#[test]
fn fetch_goes_on_after_a_broken_or_silent_connection() {
    let file = fs::read(weights()).unwrap();
    let sum = digest(&file);
    for (answers, said) in [
        (vec![Answer::Cut(50_000), Answer::Cut(70_000), Answer::Whole], "attempt 3 of 4"),
        (vec![Answer::Stall(90_000), Answer::Whole], "attempt 2 of 4"),
        (vec![Answer::Status(503), Answer::Whole], "attempt 2 of 4"),
    ] {
        let resumes = answers.iter().filter(|a| !matches!(a, Answer::Status(_))).count() - 1;
        let home = folder();
        let server = serve(file.clone(), answers);
        let args =
            ["backbone", "fetch", "mine", "--from-url", &server.address, "--sha256", &sum, "--patience", "1"];
        pbas(home.path(), &args).code(0).says(&[said]);
        assert_eq!(server.resumed.load(Ordering::SeqCst), resumes, "{said}");
        assert_eq!(left_over(home.path()), ["mine.safetensors"]);
    }
    // Always silent: given up, and what came is kept for the next time.
    let home = folder();
    let server = serve(file.clone(), vec![Answer::Stall(10_000)]);
    let args =
        ["backbone", "fetch", "mine", "--from-url", &server.address, "--sha256", &sum, "--patience", "1"];
    pbas(home.path(), &args).code(2).says(&["nothing came for 1 s", "the same command goes on from there"]);
    assert_eq!(left_over(home.path()), [format!("mine-{}.part", &sum[..8])]);
    let server = serve(file, vec![Answer::Whole]);
    let args = ["backbone", "fetch", "mine", "--from-url", &server.address, "--sha256", &sum];
    pbas(home.path(), &args).code(0);
    assert_eq!(server.resumed.load(Ordering::SeqCst), 1);
}

#[test]
fn fetch_deletes_what_is_not_the_expected_file() {
    let home = folder();
    let server = serve(fs::read(weights()).unwrap(), vec![Answer::Whole]);
    pbas(home.path(), &["backbone", "fetch", "wide_resnet50_2", "--from-url", &server.address])
        .code(2)
        .says(&["expected a file with SHA-256 95faca4d, found", "the download was deleted"]);
    assert!(left_over(home.path()).is_empty());
    let missing = serve(Vec::new(), vec![Answer::Status(404)]);
    pbas(home.path(), &["backbone", "fetch", "resnet18", "--from-url", &missing.address])
        .code(2)
        .says(&["no such file (status 404)"]);
    assert!(left_over(home.path()).is_empty());
}
