//! `POST /v1/predict/NAME`.

use pbas::Threads;
use pbas::demo::DemoKind;
use pbas::report::verdict::Judged;
use serde_json::Value;

use crate::client::{get, post, send};
use crate::line_model::picture;
use crate::server::{Server, judge};

/// What the library says, in JSON, without its time.
fn expected(bytes: &[u8], name: &str) -> Value {
    let judged = judge().judge(bytes, name, &mut Default::default(), Threads::All).unwrap();
    timeless(serde_json::to_value(Judged::new(name.as_ref(), &judged.prediction)).unwrap())
}

fn timeless(mut value: Value) -> Value {
    value.as_object_mut().unwrap().remove("milliseconds").unwrap();
    value
}

fn form(boundary: &str, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, bytes) in fields {
        body.extend(format!("--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n").bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    body
}

#[test]
fn body_and_form_give_what_predict_gives_and_are_recorded() {
    let server = Server::start();
    let bytes = picture(DemoKind::Scratch, 7);
    let reply = post(server.address, "/v1/predict/washer?name=a%20b.png", &bytes);
    assert_eq!(timeless(reply.json(200)), expected(&bytes, "a b.png"));
    assert_eq!(reply.headers["pbas-part"], "1");

    let sent = form("x-y", &[("name=\"file\"; filename=\"c.png\"", &bytes)]);
    let kind = [("content-type", "multipart/form-data; boundary=x-y")];
    let reply = send(server.address, "POST", "/v1/predict/washer", &kind, &sent);
    assert_eq!(timeless(reply.json(200)), expected(&bytes, "c.png"));

    let part = server.state.hub().record().part(2).unwrap().unwrap();
    assert_eq!((part.name.as_str(), part.size, part.model.as_str()), ("c.png", bytes.len() as u64, "washer"));
    assert_eq!(part.model_digest, judge().digest);
    assert_eq!(part.said.unwrap().image_score, reply.json(200)["image_score"].as_f64().unwrap());
    assert!(server.state.hub().record().thumbnail(2).unwrap().is_some());
}

#[test]
fn a_heatmap_is_a_picture() {
    let server = Server::start();
    let reply = post(server.address, "/v1/predict/washer?heatmap=png", &picture(DemoKind::Dent, 3));
    assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "image/png"));
    let drawn = image::load_from_memory(&reply.body).unwrap();
    assert!(drawn.width() > 600 && drawn.height() > 320, "{} x {}", drawn.width(), drawn.height());
    assert!(["normal", "anomalous"].contains(&reply.headers["pbas-verdict"].as_str()));
    assert!(reply.headers["pbas-image-score"].parse::<f64>().is_ok());
}

#[test]
fn requests_that_are_none_are_refused_and_the_server_lives() {
    let server = Server::start();
    let at = server.address;
    let whole = picture(DemoKind::Good, 1);
    let said = post(at, "/v1/predict/bolt", &whole).refused(404, "not_found");
    assert!(said.contains("`bolt`"), "{said}");
    post(at, "/v1/predict/washer", b"").refused(422, "picture");
    post(at, "/v1/predict/washer", b"this is no picture").refused(422, "picture");
    post(at, "/v1/predict/washer", &whole[..whole.len() / 2]).refused(422, "picture");
    post(at, "/v1/predict/washer?heatmap=gif", &whole).refused(400, "request");
    post(at, "/v1/predict/washer?colour=1", &whole).refused(400, "request");
    post(at, "/v1/predict/%ff", &whole).refused(400, "request");
    get(at, "/v1/predict/washer").refused(405, "method");
    get(at, "/v1/nothing").refused(404, "not_found");
    let kind = |k| [("content-type", k)];
    let send = |headers: &[(&str, &str)], body: &[u8]| send(at, "POST", "/v1/predict/washer", headers, body);
    send(&kind("multipart/form-data"), &whole).refused(400, "request");
    send(&kind("multipart/form-data; boundary=b"), &whole).refused(400, "request");
    let full = form("b", &[("name=\"a\"", &whole)]);
    send(&kind("multipart/form-data; boundary=b"), &full[..full.len() - 20]).refused(400, "request");
    let two = form("b", &[("name=\"a\"", &whole), ("name=\"b\"", &whole)]);
    send(&kind("multipart/form-data; boundary=b"), &two).refused(400, "request");
    send(&kind("multipart/form-data; boundary=b"), &form("b", &[])).refused(400, "request");
    send(&[("content-encoding", "gzip")], &whole).refused(415, "unsupported");
    send(&[], &whole).json(200);

    // Those that reached the judge are in the record with the reason.
    let failed = pbas_line::record::Filter { failed: true, ..Default::default() };
    assert_eq!(server.state.hub().record().count(&failed).unwrap(), 3);
    let text = String::from_utf8(get(at, "/metrics").body).unwrap();
    assert!(text.contains("pbas_verdicts_total{model=\"washer\",verdict="), "{text}");
    assert!(text.contains(&format!("digest=\"{}\"", judge().digest)), "{text}");
}

#[test]
fn models_and_document() {
    let server = Server::start();
    let models = get(server.address, "/v1/models").json(200);
    assert_eq!((&models[0]["name"], &models[0]["in_service"]), (&"washer".into(), &true.into()));
    let document = get(server.address, "/openapi.json").json(200);
    for path in ["/v1/predict/{model}", "/v2/models/{model}/infer", "/v2/health/ready", "/metrics"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(
        document["paths"]["/v2/models/{model}"]["get"]["parameters"][0]["schema"]["enum"][0],
        "washer"
    );
}
