//! Weight files: the golden files in every container, files made here with one property each, and hostile ones.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use half::f16;
use pbas_nn::weights::{
    MAX_FILE_BYTES, NamedTensors, SaveDtype, Tensor, load, load_safetensors_with_metadata, parse,
    read_safetensors_with_metadata, save_safetensors, to_safetensors_bytes,
};
use pbas_nn::{Error, ErrorKind};
use zip::write::SimpleFileOptions;

fn golden(file: &str) -> PathBuf {
    match std::env::var_os("PBAS_GOLDEN") {
        Some(dir) => Path::new(&dir).join(file),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../pbas/tests/golden").join(file),
    }
}

fn golden_bytes(file: &str) -> Vec<u8> {
    std::fs::read(golden(file)).unwrap_or_else(|e| panic!("golden file {file}: {e}"))
}

/// The whole chain, as a user sees it.
fn text(e: &Error) -> String {
    let mut out = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        out = format!("{out} / {e}");
        cause = e.source();
    }
    out
}

fn refused(bytes: &[u8]) -> String {
    text(&parse(bytes, "made here").expect_err("must be refused"))
}

fn bits(tensors: &NamedTensors) -> BTreeMap<&str, (&[usize], Vec<u32>)> {
    tensors
        .iter()
        .map(|(name, t)| (name.as_str(), (t.shape.as_slice(), t.data.iter().map(|v| v.to_bits()).collect())))
        .collect()
}

// --- golden files ---------------------------------------------------------------------------------------------

const STAGE1: [&str; 3] = ["resnet_stage1.pth", "resnet_stage1_old.pth", "resnet_stage1_nested.pth"];

#[test]
fn golden_resnet_stage1_is_the_same_in_all_containers() {
    let [zip, old, nested] =
        STAGE1.map(|file| load(&golden(file)).unwrap_or_else(|e| panic!("{}", text(&e))));
    assert_eq!(zip["conv1.weight"].shape, [64, 3, 7, 7]);
    assert!(zip["conv1.weight"].data.iter().any(|&v| v != 0.0));
    assert!(zip.keys().all(|name| !name.contains("num_batches_tracked")));
    assert_eq!(bits(&zip), bits(&old));
    assert_eq!(bits(&zip), bits(&nested));

    let rounded = load(&golden("resnet_bottleneck_w8.safetensors")).unwrap();
    for (name, tensor) in &zip {
        let other = &rounded[name];
        assert_eq!(tensor.shape, other.shape, "{name}");
        for (a, b) in tensor.data.iter().zip(&other.data) {
            assert_eq!(f16::from_f32(*a).to_f32(), *b, "{name}");
        }
    }
    assert!(zip.len() > 40 && rounded.len() > zip.len(), "{} of {}", zip.len(), rounded.len());
}

#[test]
fn golden_hostile_is_refused_by_the_name_it_wanted() {
    let e = load(&golden("hostile.pth")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let text = text(&e);
    assert!(text.contains("hostile.pth") && text.contains("wants `posix.system`"), "{text}");
}

#[test]
fn golden_files_cut_off_anywhere_are_refused() {
    for file in [STAGE1[0], STAGE1[1], STAGE1[2], "metrics.safetensors"] {
        let bytes = golden_bytes(file);
        assert!(bytes.len() > 10_000, "{file}");
        let early = 0..300.min(bytes.len()); // densely where the headers are
        for len in early.chain((300..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
            assert!(parse(&bytes[..len], file).is_err(), "{file} cut to {len} bytes was read");
        }
    }
}

#[test]
fn golden_files_with_flipped_bytes_never_panic_and_never_give_what_is_not_finite() {
    for (file, dense) in [(STAGE1[0], 200), (STAGE1[1], 9_200), ("metrics.safetensors", 2_000)] {
        let mut bytes = golden_bytes(file);
        let (mut refused, mut read) = (0, 0);
        for at in (0..dense).chain((dense..bytes.len()).step_by(311)) {
            for mask in [0x01, 0xff] {
                bytes[at] ^= mask;
                match parse(&bytes, file) {
                    Err(_) => refused += 1,
                    Ok(tensors) => {
                        read += 1;
                        assert!(tensors.values().flat_map(|t| &t.data).all(|v| v.is_finite()), "{file} {at}");
                    }
                }
                bytes[at] ^= mask;
            }
        }
        // Weights themselves have no check sum but in the zip; structure must be noticed.
        assert!(refused > 100, "{file}: {refused} refused, {read} read");
    }
}

/// The published package, where it is at hand: `PBAS_WEIGHTS_DIR` names the folder with its file.
#[test]
fn the_published_efficientnet_lite0_loads_where_it_is_at_hand() {
    let Some(dir) = std::env::var_os("PBAS_WEIGHTS_DIR") else { return };
    let tensors = load(&Path::new(&dir).join("efficientnet-lite0-57934424.pth")).unwrap();
    let parameters: usize = tensors.values().map(|t| t.data.len()).sum();
    assert!((4_600_000..4_800_000).contains(&parameters), "{parameters}");
    assert!(tensors.values().any(|t| t.shape == [32, 3, 3, 3]));
}

// --- files made here ------------------------------------------------------------------------------------------

/// A protocol 2 pickle, opcode by opcode.
#[derive(Clone)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }
    fn op(mut self, opcodes: impl AsRef<[u8]>) -> Self {
        self.0.extend(opcodes.as_ref());
        self
    }
    fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n"))
    }
    fn str(self, text: &str) -> Self {
        self.op(b"X").op((text.len() as u32).to_le_bytes()).op(text)
    }
    fn int(self, v: i64) -> Self {
        self.op([0x8a, 8]).op(v.to_le_bytes())
    }
    fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.op(b"("), |p, &v| p.int(v)).op(b"t")
    }
    /// A tensor over storage `key` of `elements`.
    fn tensor(
        self,
        class: &str,
        key: &str,
        elements: i64,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .str("storage")
            .global("torch", class)
            .str(key)
            .str("cpu")
            .int(elements)
            .op(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89") // requires_grad
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }
    /// A whole state dict of one float32 tensor `w` over storage `0`.
    fn one(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
        Self::new()
            .op(b"}")
            .str("w")
            .tensor("FloatStorage", "0", elements, offset, shape, strides)
            .op(b"s.")
            .0
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn torch_zip(pickle: &[u8], entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in [("data.pkl", pickle)].iter().chain(entries) {
        zip.start_file(format!("archive/{name}"), stored).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The container from before torch 1.6.
fn torch_old(pickle: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    out.extend(pickle);
    out.extend(storages.iter().fold(Pickle::new().op(b"]("), |p, (key, ..)| p.str(key)).op(b"e.").0);
    for (_, elements, data) in storages {
        out.extend(elements.to_le_bytes());
        out.extend(*data);
    }
    out
}

#[test]
fn strides_and_offsets_are_honoured_in_both_containers() {
    let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let storage = floats(&values);
    let pickle = Pickle::new()
        .op(b"}(")
        .str("plain")
        .tensor("FloatStorage", "0", 12, 0, &[3, 4], &[4, 1])
        .str("transposed")
        .tensor("FloatStorage", "0", 12, 0, &[4, 3], &[1, 4])
        .str("window")
        .tensor("FloatStorage", "0", 12, 5, &[2, 2], &[4, 1])
        .str("scalar")
        .tensor("FloatStorage", "0", 12, 11, &[], &[])
        .op(b"u.")
        .0;
    let zip = parse(&torch_zip(&pickle, &[("data/0", &storage)]), "zip").unwrap();
    assert_eq!(zip["plain"], Tensor::new([3, 4], values).unwrap());
    assert_eq!(zip["transposed"].shape, [4, 3]);
    assert_eq!(zip["transposed"].data, [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!(zip["window"].data, [5., 6., 9., 10.]);
    assert_eq!(zip["scalar"], Tensor::new([], vec![11.0]).unwrap());
    assert_eq!(zip, parse(&torch_old(&pickle, &[("0", 12, &storage)]), "old").unwrap());
}

#[test]
fn state_dicts_are_found_where_training_programs_put_them() {
    let storage = floats(&[1.0, 2.0]);
    let zip = |p: Pickle| torch_zip(&p.op(b".").0, &[("data/0", &storage)]);
    let dict = |p: Pickle, key: &str| {
        p.str(key).op(b"}").str("w").tensor("FloatStorage", "0", 2, 0, &[2], &[1]).op(b"s")
    };
    for key in ["state_dict", "model_state_dict", "model", "net", "anything"] {
        let pickle = dict(Pickle::new().op(b"}(").str("epoch").int(3), key).op(b"u");
        assert_eq!(parse(&zip(pickle), key).unwrap().keys().collect::<Vec<_>>(), ["w"], "{key}");
    }
    let two = dict(dict(Pickle::new().op(b"}("), "teacher"), "student").op(b"u");
    let text = refused(&zip(two.clone()));
    assert!(text.contains("`teacher`, `student`"), "{text}");
    let usual = dict(dict(Pickle::new().op(b"}("), "teacher"), "state_dict").op(b"u");
    assert!(parse(&zip(usual), "usual").is_ok());
    assert!(refused(&zip(Pickle::new().op(b"}").str("epoch").int(3).op(b"s"))).contains("found none"));
    assert!(refused(&zip(Pickle::new().op(b"]"))).contains("expected a dict of tensors"));
}

#[test]
fn parameters_and_python_2_ordered_dicts_are_read_and_module_is_taken_off() {
    // OrderedDict([["module.w", Parameter(tensor)], ["module.num_batches_tracked", tensor]]) with BUILD after it.
    let pickle = Pickle::new()
        .global("collections", "OrderedDict")
        .op(b"](](")
        .str("module.w")
        .global("torch._utils", "_rebuild_parameter")
        .op(b"(")
        .tensor("HalfStorage", "0", 2, 0, &[2], &[1])
        .op(b"\x88N")
        .op(b"tRe](")
        .str("module.bn.num_batches_tracked")
        .tensor("LongStorage", "1", 1, 0, &[], &[])
        .op(b"ee\x85R}b.")
        .0;
    let half = [0x00, 0x3c, 0x00, 0xc0];
    let tensors =
        parse(&torch_zip(&pickle, &[("data/0", &half), ("data/1", &7i64.to_le_bytes())]), "p").unwrap();
    assert_eq!(tensors, NamedTensors::from([("w".to_owned(), Tensor::new([2], vec![1.0, -2.0]).unwrap())]));
}

#[test]
fn protocol_4_is_read() {
    let mut pickle = b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94\x8c\x01w\x94\x8c\x0ctorch._utils\x94".to_vec();
    pickle.extend(b"\x8c\x12_rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94");
    pickle
        .extend(b"\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94\x8c\x010\x94\x8c\x03cpu\x94K\x02t\x94Q");
    pickle.extend(b"K\0K\x02\x85\x94K\x01\x85\x94\x89)t\x94R\x94s.");
    let file = torch_zip(&pickle, &[("data/0", &floats(&[3.0, 4.0])), ("byteorder", b"little")]);
    assert_eq!(parse(&file, "p4").unwrap()["w"].data, [3.0, 4.0]);
    // Its names pass the same list.
    let text = refused(&torch_zip(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", &[]));
    assert!(text.contains("wants `os.system`"), "{text}");
}

#[test]
fn values_that_are_not_finite_are_refused_by_the_tensors_name() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let storage = floats(&[1.0, bad]);
        let pickle = Pickle::one(2, 0, &[2], &[1]);
        let text = refused(&torch_zip(&pickle, &[("data/0", &storage)]));
        assert!(text.contains("tensor `w`") && text.contains("at element 1"), "{text}");

        // Behind the window of the tensor it does no harm.
        let first = Pickle::one(2, 0, &[1], &[1]);
        assert!(parse(&torch_zip(&first, &[("data/0", &storage)]), "window").is_ok());

        let good = NamedTensors::from([("w".to_owned(), Tensor::new([2], vec![1.0, 2.0]).unwrap())]);
        let mut file = to_safetensors_bytes(&good, &BTreeMap::new(), SaveDtype::F32).unwrap();
        let at = file.len() - 4;
        file[at..].copy_from_slice(&bad.to_le_bytes());
        assert!(refused(&file).contains("tensor `w`"));
        let bad = NamedTensors::from([("w".to_owned(), Tensor::new([1], vec![bad]).unwrap())]);
        assert!(to_safetensors_bytes(&bad, &BTreeMap::new(), SaveDtype::F32).is_err());
    }
    // A float64 that float32 cannot hold.
    let pickle = Pickle::new().op(b"}").str("w").tensor("DoubleStorage", "0", 1, 0, &[1], &[1]).op(b"s.").0;
    assert!(refused(&torch_zip(&pickle, &[("data/0", &1e300f64.to_le_bytes())])).contains("tensor `w`"));
}

#[test]
fn hostile_pickles_are_refused_at_once_and_for_the_right_reason() {
    let four = floats(&[0.0; 4]);
    let nested: Vec<u8> = b"(".repeat(1000);
    // Doubles a list's contents a hundred times by sharing; a reader that copies would need 2^100 of them.
    let mut laughs = Pickle::new().op(b"]");
    for _ in 0..100 {
        laughs = laughs.op(b"q\x00](h\x00h\x00e");
    }
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("expanded far beyond the file", Pickle::one(4, 0, &[1 << 40], &[0]), "more than the file can hold"),
        ("overflowing shape", Pickle::one(4, 0, &[1 << 40, 1 << 40], &[0, 0]), "overflows"),
        ("beyond its storage", Pickle::one(4, 1, &[4], &[1]), "leaves its storage"),
        ("overflowing offset", Pickle::one(4, i64::MAX, &[4], &[1]), "leaves its storage"),
        ("negative stride", Pickle::one(4, 3, &[4], &[-1]), "expected a count"),
        ("seventeen axes", Pickle::one(4, 0, &[1; 17], &[1; 17]), "at most 16"),
        ("a longer storage than there is", Pickle::one(5, 0, &[4], &[1]), "expected 20 bytes"),
        ("a shorter storage than there is", Pickle::one(3, 0, &[3], &[1]), "at most 12 bytes, found 16"),
        ("a storage larger than the file", Pickle::one(1 << 40, 0, &[3], &[1]), "beyond the file"),
        ("a storage of all memory", Pickle::one(i64::MAX, 0, &[4], &[1]), "overflows memory"),
        ("deep nesting", Pickle::new().op(&nested).op(b".").0, "nest deeper"),
        ("a million opcodes", Pickle::new().op(b"}".repeat(1 << 21)).op(b".").0, "more than 1048576 steps"),
        ("a far memo slot", Pickle::new().op(b"}r\xff\xff\xff\xff.").0, "memo slot 4294967295"),
        ("an empty memo slot", Pickle::new().op(b"h\x05.").0, "memo slot 5 is empty"),
        ("a string of 4 GB", Pickle::new().op(b"X\xff\xff\xff\xffabc").0, "a string of 4294967295 bytes"),
        ("a string of 16 EB", Pickle::new().op(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").0, "a string of"),
        ("a long integer", Pickle::new().op(b"\x8a\xff").op([1; 255]).op(b".").0, "an integer of 255"),
        ("shared lists", laughs.op(b".").0, "expected a dict of tensors"),
        ("a list in itself", Pickle::new().op(b"]q\x00h\x00a.").0, "expected a dict of tensors"),
        ("a dict in itself", Pickle::new().op(b"}q\x00X\x05\0\0\0modelh\x00s.").0, "found none"),
        ("popping an empty stack", Pickle::new().op(b"s.").0, "more values than there are"),
        ("taking below a mark", Pickle::new().op(b"}}(s.").0, "more values than there are"),
        ("calling what is not callable", Pickle::new().op(b"})R.").0, "expected a known name"),
        ("protocol 0", b"(dp0\n.".to_vec(), "opcode 0x64"),
        ("an unknown opcode", Pickle::new().op(b"\xee.").0, "opcode 0xee"),
        ("no end", Pickle::new().op(b"}").0, "the bytes end"),
        ("eval", Pickle::new().global("builtins", "eval").op(b".").0, "wants `builtins.eval`"),
        ("loading bytes", Pickle::new().global("torch.storage", "_load_from_bytes").0, "_load_from_bytes`"),
        ("escape codes", Pickle::new().global("\x1b[31m", "x").op(b".").0, r"wants `\u{1b}[31m.x`"),
        ("an object's state", Pickle::new().op(b"])b.").0, "attributes on a dict alone"),
    ];
    for (case, pickle, reason) in cases {
        let text = refused(&torch_zip(&pickle, &[("data/0", &four)]));
        assert!(text.contains(reason), "{case}: {text}");
    }
}

#[test]
fn work_that_grows_with_the_square_of_the_file_is_not_done() {
    // A list of 100,000 pairs, made into a dict again and again: 100,000 x 100,000 copies if allowed.
    let copies = Pickle::new()
        .op(b"](K\x01K\x01\x86q\x01")
        .op(b"h\x01".repeat(100_000))
        .op(b"e\x85q\x02")
        .global("collections", "OrderedDict")
        .op(b"q\x03")
        .op(b"h\x03h\x02R".repeat(100_000))
        .op(b".");
    assert!(refused(&torch_zip(&copies.0, &[])).contains("steps"));

    // A dict of 100,000 entries without a tensor, under 100,000 keys.
    let searches = Pickle::new()
        .op(b"}q\x01(K\x01q\x02")
        .op(b"h\x02".repeat(200_001))
        .op(b"u}(")
        .op(b"h\x02h\x01".repeat(100_000))
        .op(b"u.");
    assert!(refused(&torch_zip(&searches.0, &[])).contains("found none"));
}

#[test]
fn damaged_containers_are_refused_with_the_reason() {
    let four = floats(&[0.0; 4]);
    let pickle = Pickle::one(4, 0, &[4], &[1]);
    let twice = Pickle::new()
        .op(b"}(")
        .str("a")
        .tensor("FloatStorage", "0", 4, 0, &[4], &[1])
        .str("b")
        .tensor("HalfStorage", "0", 8, 0, &[4], &[1])
        .op(b"u.")
        .0;
    assert!(parse(&torch_old(&pickle, &[("0", 4, &four)]), "good").is_ok());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("zip, no storage", torch_zip(&pickle, &[]), "data/0"),
        ("zip, big-endian", torch_zip(&pickle, &[("data/0", &four), ("byteorder", b"big")]), "found `big`"),
        (
            "zip, two types",
            torch_zip(&twice, &[("data/0", &four)]),
            "tensor `b`: expected storage `0` of 4 F32",
        ),
        ("old, two types", torch_old(&twice, &[("0", 4, &four)]), "two descriptions"),
        ("old, no storage", torch_old(&pickle, &[]), "missing from the file"),
        ("old, other count", torch_old(&pickle, &[("0", 3, &four)]), "expected 4 elements in storage `0`"),
        ("old, short", torch_old(&pickle, &[("0", 4, &four[1..])]), "ends within storage `0`"),
        ("old, unknown key", torch_old(&pickle, &[("0", 4, &four), ("1", 4, &four)]), "`1` is listed"),
        ("old, listed twice", torch_old(&pickle, &[("0", 4, &four), ("0", 4, &four)]), "listed twice"),
        ("old, more bytes", [torch_old(&pickle, &[("0", 4, &four)]), vec![0]].concat(), "1 bytes follow"),
        ("bare pickle", pickle.clone(), "expected torch's magic number"),
        ("nothing", vec![], "the file is empty"),
        ("text", b"these are not weights at all".to_vec(), "found neither"),
        ("one byte", vec![0x80], "found neither"),
    ];
    for (case, file, reason) in cases {
        let text = refused(&file);
        assert!(text.contains(reason), "{case}: {text}");
        assert!(text.starts_with("cannot load weights `made here` / "), "{case}: {text}");
    }

    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(
        "word/document.xml",
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored),
    )
    .unwrap();
    assert!(refused(&zip.finish().unwrap().into_inner()).contains("`data.pkl`"));
}

#[test]
fn files_are_recognised_by_content_and_missing_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weights.txt");
    std::fs::write(&file, torch_zip(&Pickle::one(1, 0, &[1], &[1]), &[("data/0", &floats(&[5.0]))])).unwrap();
    assert_eq!(load(&file).unwrap()["w"].data, [5.0]);

    std::fs::write(&file, "").unwrap();
    assert!(text(&load(&file).unwrap_err()).contains("the file is empty"));
    let missing = load(&dir.path().join("missing.pth")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert!(text(&missing).contains("missing.pth"));
    assert_eq!(load(dir.path()).unwrap_err().kind(), ErrorKind::Io);

    // A length alone takes no space on Unix file systems; elsewhere it would take 4 GB.
    #[cfg(unix)]
    {
        std::fs::File::create(&file).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(load(&file).unwrap_err().kind(), ErrorKind::Limits);
    }
}

// --- safetensors ----------------------------------------------------------------------------------------------

fn some_tensors() -> NamedTensors {
    NamedTensors::from([
        ("b.weight".to_owned(), Tensor::new([2, 3], vec![1.0, -2.5, 1.0e-3, 4.0, 0.1, 65504.0]).unwrap()),
        ("a".to_owned(), Tensor::new([], vec![0.1]).unwrap()),
        ("none".to_owned(), Tensor::new([0, 4], vec![]).unwrap()),
    ])
}

#[test]
fn safetensors_come_back_with_their_metadata_and_the_same_bytes() {
    let metadata: BTreeMap<String, String> = (0..40)
        .map(|i| (format!("key {i}"), format!("quote \" back \\ line\n nul \0 tab\t umlaut \u{e4} {i}")))
        .collect();
    for metadata in [metadata, BTreeMap::new()] {
        let bytes = to_safetensors_bytes(&some_tensors(), &metadata, SaveDtype::F32).unwrap();
        assert_eq!(bytes, to_safetensors_bytes(&some_tensors(), &metadata, SaveDtype::F32).unwrap());
        let (tensors, read) = read_safetensors_with_metadata(&bytes, "made here").unwrap();
        assert_eq!(bits(&tensors), bits(&some_tensors()));
        assert_eq!(read, metadata);
        let names = String::from_utf8_lossy(&bytes);
        let place = |name| names.find(name).unwrap();
        assert!(place("\"a\"") < place("\"b.weight\""));
        if !metadata.is_empty() {
            assert!(place("\"key 0\"") < place("\"key 1\"") && place("\"key 8\"") < place("\"key 9\""));
        }

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, "what was there").unwrap();
        save_safetensors(&some_tensors(), &metadata, SaveDtype::F32, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "leftovers");
        assert_eq!(load_safetensors_with_metadata(&path).unwrap().1, metadata);
        assert_eq!(load(&path).unwrap(), some_tensors());
    }
    let nothing = to_safetensors_bytes(
        &NamedTensors::new(),
        &BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        SaveDtype::F32,
    );
    assert_eq!(read_safetensors_with_metadata(&nothing.unwrap(), "empty").unwrap().1["k"], "v");
}

#[test]
fn float16_is_rounded_and_what_does_not_fit_is_refused() {
    let bytes = to_safetensors_bytes(&some_tensors(), &BTreeMap::new(), SaveDtype::F16).unwrap();
    let read = parse(&bytes, "f16").unwrap();
    for (name, tensor) in some_tensors() {
        let rounded: Vec<f32> = tensor.data.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
        assert_eq!(read[&name], Tensor::new(tensor.shape, rounded).unwrap(), "{name}");
    }
    assert_ne!(read["a"].data, [0.1]);

    let big = NamedTensors::from([("big".to_owned(), Tensor::new([1], vec![1.0e5]).unwrap())]);
    assert!(
        text(&to_safetensors_bytes(&big, &BTreeMap::new(), SaveDtype::F16).unwrap_err()).contains("`big`")
    );
    assert!(to_safetensors_bytes(&big, &BTreeMap::new(), SaveDtype::F32).is_ok());
    let ill = NamedTensors::from([("ill".to_owned(), Tensor { shape: vec![3], data: vec![1.0] })]);
    assert!(to_safetensors_bytes(&ill, &BTreeMap::new(), SaveDtype::F32).is_err());
    let missing = Path::new("no such folder").join("w.safetensors");
    let e = save_safetensors(&some_tensors(), &BTreeMap::new(), SaveDtype::F32, &missing).unwrap_err();
    assert!(e.kind() == ErrorKind::Io && e.to_string().contains("no such folder"));
}

#[test]
fn damaged_safetensors_are_refused_with_the_reason() {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let cases: [(Vec<u8>, &str); 8] = [
        (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4), "do not fill"),
        (file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8), "shape and type"),
        (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12), "tensor `a` does not begin"),
        (file(r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#, 8), "element type C64"),
        (
            file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, 8),
            "overflows",
        ),
        (file(r#"{"a":{"dtype":"F32""#, 8), "invalid JSON"),
        (file("{}", 0), "holds no weights"),
        ([&1000u64.to_le_bytes()[..], b"{}"].concat(), "cut off"),
    ];
    for (bytes, reason) in cases {
        let text = refused(&bytes);
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn tensors_hold_what_their_shape_says() {
    let e = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err();
    assert_eq!(e.to_string(), "expected 6 values for shape [2, 3], found 5");
    assert!(Tensor::new([usize::MAX, 2], vec![]).is_err());
    let tensor = Tensor::new([2, 3], vec![0.0; 6]).unwrap();
    tensor.expect_shape("w", &[2, 3]).unwrap();
    let e = tensor.expect_shape("projection.weight", &[3, 2]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert_eq!(e.to_string(), "tensor `projection.weight`: expected shape [3, 2], found [2, 3]");
}
