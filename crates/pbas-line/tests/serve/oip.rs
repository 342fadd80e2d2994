//! The Open Inference Protocol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pbas::Threads;
use pbas::demo::{DemoKind, render};
use serde_json::{Value, json};

use crate::client::{Reply, get, post, send};
use crate::line_model::picture;
use crate::server::{Server, judge};

const INFER: &str = "/v2/models/washer/infer";

/// A JSON head and what follows it.
fn infer(server: &Server, head: &Value, tail: &[u8]) -> Reply {
    let head = head.to_string();
    let length = head.len().to_string();
    let body = [head.as_bytes(), tail].concat();
    send(server.address, "POST", INFER, &[("Inference-Header-Content-Length", &length)], &body)
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["outputs"].as_array().unwrap().iter().find(|o| o["name"] == name).unwrap()
}

#[test]
fn who_is_there() {
    let server = Server::start();
    let at = server.address;
    assert_eq!(get(at, "/v2").json(200)["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(get(at, "/v2/health/live").json(200), json!({"live": true}));
    assert_eq!(get(at, "/v2/health/ready").json(200), json!({"ready": true}));
    assert_eq!(get(at, "/v2/models/washer/ready").json(200), json!({"name": "washer", "ready": true}));
    let about = get(at, "/v2/models/washer").json(200);
    assert_eq!(about["inputs"][0]["datatype"], "BYTES");
    assert_eq!(about["outputs"][4]["shape"], json!([-1, 64, 64]));
    let version = about["versions"][0].as_str().unwrap().to_owned();
    get(at, &format!("/v2/models/washer/versions/{version}/ready")).json(200);
    get(at, "/v2/models/washer/versions/7").refused(404, "not_found");
    for path in ["/v2/models/bolt", "/v2/models/bolt/ready", "/v2/nothing"] {
        get(at, path).refused(404, "not_found");
    }
    post(at, "/v2/models/bolt/infer", b"{}").refused(404, "not_found");
}

#[test]
fn files_and_pixels_in_json_and_in_binary_give_one_verdict() {
    let server = Server::start();
    let (shown, file) = (render(DemoKind::Scratch, 5).picture, picture(DemoKind::Scratch, 5));
    let p = judge().judge(&file, "x", &mut Default::default(), Threads::All).unwrap().prediction;
    let (h, w) = (shown.height, shown.width);
    let head = |datatype: &str, shape: Value, rest: Value| {
        let mut input = json!({"name": "image", "datatype": datatype, "shape": shape});
        input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({"id": "part 7", "inputs": [input]})
    };
    let size = |n: usize| json!({"parameters": {"binary_data_size": n}});
    let prefixed = [&(file.len() as u32).to_le_bytes()[..], &file].concat();
    let floats: Vec<u8> = shown.data.iter().flat_map(|&v| f32::from(v).to_le_bytes()).collect();
    let ways = [
        infer(&server, &head("BYTES", json!([1]), json!({"data": [STANDARD.encode(&file)]})), b""),
        infer(&server, &head("BYTES", json!([1]), size(prefixed.len())), &prefixed),
        infer(&server, &head("UINT8", json!([h, w, 3]), size(shown.data.len())), &shown.data),
        infer(&server, &head("UINT8", json!([1, h, w, 3]), json!({"data": shown.data})), b""),
        infer(&server, &head("FP32", json!([1, h, w, 3]), size(floats.len())), &floats),
    ];
    for reply in &ways {
        let answer = reply.json(200);
        assert_eq!((&answer["id"], &answer["model_name"]), (&json!("part 7"), &json!("washer")));
        assert_eq!(output(&answer, "image_score")["data"], json!([p.image_score]));
        assert_eq!(output(&answer, "p_value")["data"], json!([p.p_value]));
        assert_eq!(output(&answer, "verdict")["data"], json!([p.verdict.word()]));
        assert_eq!(answer["outputs"].as_array().unwrap().len(), 4, "no map unless asked for");
    }
    assert_eq!(server.state.hub().record().part(1).unwrap().unwrap().name, "part 7");
}

#[test]
fn maps_and_several_pictures_in_binary() {
    let server = Server::start();
    let files = [picture(DemoKind::Good, 1), picture(DemoKind::Dent, 2)];
    let tail: Vec<u8> =
        files.iter().flat_map(|f| [&(f.len() as u32).to_le_bytes()[..], f].concat()).collect();
    let head = json!({
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": tail.len()}}],
        "outputs": [{"name": "verdict"}, {"name": "score_map", "parameters": {"binary_data": true}}],
    });
    let reply = infer(&server, &head, &tail);
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let length: usize = reply.headers["inference-header-content-length"].parse().unwrap();
    let answer: Value = serde_json::from_slice(&reply.body[..length]).unwrap();
    assert_eq!(output(&answer, "verdict")["data"].as_array().unwrap().len(), 2);
    let map = output(&answer, "score_map");
    assert_eq!((&map["shape"], &map["data"]), (&json!([2, 64, 64]), &Value::Null));
    assert_eq!(map["parameters"]["binary_data_size"], 2 * 64 * 64 * 4);
    let found: Vec<f32> =
        reply.body[length..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let expected = files.iter().flat_map(|f| {
        judge().judge(f, "x", &mut Default::default(), Threads::One).unwrap().prediction.map.values
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[test]
fn one_bad_picture_of_several_is_named() {
    let server = Server::start();
    let data = json!([STANDARD.encode(picture(DemoKind::Good, 1)), STANDARD.encode("no picture")]);
    let head = json!({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": data}]});
    let said = post(server.address, INFER, head.to_string().as_bytes()).refused(422, "picture");
    assert!(said.starts_with("picture 1: "), "{said}");
    post(server.address, INFER, b"").refused(400, "request");
    let headers = [("Inference-Header-Content-Length", "many")];
    send(server.address, "POST", INFER, &headers, b"{}").refused(400, "request");
    let headers = [("Inference-Header-Content-Length", "99")];
    send(server.address, "POST", INFER, &headers, b"{}").refused(400, "request");
}
