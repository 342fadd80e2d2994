//! Every route of the page, on a record of made-up parts and a tiny model.

mod line_model;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use pbas::demo::DemoKind;
use pbas::detector::Verdict;
use pbas::score::Region;
use pbas_line::hub::Hub;
use pbas_line::judge::Judge;
use pbas_line::page::{self, Models, PageState, Role};
use pbas_line::record::{NewPart, Record, Said};
use pbas_line::{Error, Result};
use serde_json::{Value, json};
use tower::ServiceExt;

#[derive(Default)]
struct InService(RwLock<BTreeMap<String, Arc<Judge>>>);

impl Models for InService {
    fn names(&self) -> Vec<String> {
        self.0.read().unwrap().keys().cloned().collect()
    }

    fn judge(&self, name: &str) -> Option<Arc<Judge>> {
        self.0.read().unwrap().get(name).cloned()
    }

    fn replace(&self, name: &str, judge: Judge) -> Result<()> {
        let mut all = self.0.write().unwrap();
        let place = all.get_mut(name).ok_or_else(|| Error::caller(format!("there is no model `{name}`")))?;
        *place = Arc::new(judge);
        Ok(())
    }
}

/// A line with one model, in a folder of its own.
struct Line {
    folder: tempfile::TempDir,
    hub: Hub,
    models: Arc<InService>,
    router: Router,
}

/// 2026-11-25 06:00 in Greenwich.
const MORNING: i64 = 1_795_586_400;

impl Line {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = folder.path().join("washer.pbas");
        std::fs::copy(line_model::model(), &file).unwrap();
        let models = Arc::new(InService::default());
        let judge = Judge::load(&file).unwrap();
        models.0.write().unwrap().insert("washer".into(), Arc::new(judge));
        let hub = Hub::new(Record::open(&folder.path().join("line.sqlite")).unwrap());
        let router = page::router(PageState { hub: hub.clone(), models: models.clone() });
        Self { folder, hub, models, router }
    }

    fn judge(&self) -> Arc<Judge> {
        self.models.judge("washer").unwrap()
    }

    /// A part of this value, judged by the model in service; `i` minutes after [`MORNING`].
    fn part(&self, i: i64, value: f64) -> NewPart {
        let judge = self.judge();
        let model = judge.detector().model();
        let said = model.calibration.judge_value(value, model.settings.scoring);
        let region = Region { x: 10, y: 10, width: 20, height: 10, area: 90, peak: 2.0 };
        NewPart {
            time: Timestamp::from_second(MORNING + i * 60).unwrap(),
            name: format!("part \"{i}\"\n<b>.png"),
            size: 99,
            sha256: format!("{:016x}{:048}", 0x1000 + i, 0),
            model: "washer".into(),
            model_digest: judge.digest.clone(),
            outcome: Ok(Said {
                image_score: said.image_score,
                threshold: model.calibration.threshold,
                p_value: said.p_value,
                verdict: if said.rejected { Verdict::Anomalous } else { Verdict::Normal },
                value,
                peak: 0.4 + value / 100.0,
                width: 200,
                height: 100,
                regions: if said.rejected { vec![region] } else { vec![] },
                decode_ms: 1.0,
                judge_ms: 2.0,
                thumbnail: Some(vec![0xff, 0xd8, i as u8]),
                map: None,
            }),
        }
    }

    /// 40 accepted and 4 rejected parts (numbers 11, 22, 33, 44), and one that could not be read (45).
    fn filled() -> Self {
        let line = Self::new();
        for i in 1..=44 {
            let value = if i % 11 == 0 { 3.0 + i as f64 } else { (i % 17) as f64 * 0.05 };
            line.hub.add(&line.part(i, value)).unwrap();
        }
        let broken = NewPart { outcome: Err("`x` is no picture".into()), ..line.part(45, 0.0) };
        line.hub.add(&broken).unwrap();
        line
    }

    async fn send(&self, role: Option<Role>, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = request;
        if let Some(role) = role {
            request.extensions_mut().insert(role);
        }
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (status, _, body) = self.send(Some(Role::Read), request).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn ok(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn post_as(&self, role: Option<Role>, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        let (status, _, body) = self.send(role, request.body(Body::from(body.to_string())).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.post_as(Some(Role::Admin), path, &body).await
    }

    async fn review(&self, id: i64, review: &str) {
        let (status, body) = self.post(&format!("/v1/parts/{id}/review"), json!({ "review": review })).await;
        assert_eq!((status, &body["review"]), (StatusCode::OK, &json!(review)), "{body}");
    }
}

fn ids(parts: &Value) -> Vec<i64> {
    parts.as_array().unwrap().iter().map(|p| p["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn files_come_with_a_strict_policy_and_are_not_sent_twice() {
    let line = Line::new();
    let names = ["index.html", "page.css", "icon.svg", "main.js", "ask.js", "make.js", "picture.js"];
    let views = ["live.js", "try.js", "review.js", "calibrate.js", "drift.js"];
    for path in ["/".to_owned()].into_iter().chain(names.iter().chain(&views).map(|n| format!("/assets/{n}")))
    {
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let (status, headers, body) = line.send(None, request).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let text = String::from_utf8(body).unwrap();
        let foreign = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{path} names another place");
        assert!(!path.ends_with(".js") || !text.contains("innerHTML"), "{path}: text is never markup");
        let again =
            Request::get(&path).header("if-none-match", &headers["etag"]).body(Body::empty()).unwrap();
        let (status, _, body) = line.send(None, again).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
    let (status, body) = line.get("/assets/none.js").await;
    assert_eq!((status, &body["error"]), (StatusCode::NOT_FOUND, &json!("the page has no file `none.js`")));
}

#[tokio::test]
async fn parts_are_listed_shown_and_refused_by_name() {
    let line = Line::filled();
    assert_eq!(ids(&line.ok("/v1/parts?limit=3").await), [45, 44, 43]);
    assert_eq!(ids(&line.ok("/v1/parts?limit=2&order=oldest&after=5").await), [6, 7]);
    assert_eq!(ids(&line.ok("/v1/parts?before=3").await), [2, 1]);
    assert_eq!(ids(&line.ok("/v1/parts?verdict=anomalous&review=none&order=oldest").await), [11, 22, 33, 44]);
    assert_eq!(ids(&line.ok("/v1/parts?failed=true").await), [45]);
    assert_eq!(ids(&line.ok("/v1/parts?since=2026-11-25T06:44:00Z&until=2026-11-25T06:45:00Z").await), [44]);
    assert_eq!(line.ok("/v1/parts").await.as_array().unwrap().len(), 45);
    let part = line.ok("/v1/parts/11").await;
    assert_eq!(part["name"], "part \"11\"\n<b>.png");
    assert_eq!((&part["verdict"], &part["review"]), (&json!("anomalous"), &Value::Null));
    assert_eq!(line.ok("/v1/parts/45").await["error"], "`x` is no picture");
    let request = Request::get("/v1/parts/11/thumbnail").body(Body::empty()).unwrap();
    let (status, headers, body) = line.send(Some(Role::Read), request).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, [0xff, 0xd8, 11].as_slice()));
    assert_eq!(headers["content-type"], "image/jpeg");
    for (path, status) in [
        ("/v1/parts/11/map", 404),
        ("/v1/parts/99", 404),
        ("/v1/parts/99/thumbnail", 404),
        ("/v1/parts/x", 400),
        ("/v1/parts?verdict=odd", 400),
        ("/v1/parts?limit=-1", 400),
        ("/v1/parts?nonsense=1", 400),
        ("/v1/parts?since=yesterday", 400),
    ] {
        let (found, body) = line.get(path).await;
        assert_eq!(found.as_u16(), status, "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
}

#[tokio::test]
async fn reviews_are_given_taken_back_and_need_an_admin() {
    let line = Line::filled();
    let says = json!({ "review": "good" });
    for role in [None, Some(Role::Read)] {
        let (status, body) = line.post_as(role, "/v1/parts/11/review", &says).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{role:?}");
        assert!(body["error"].as_str().unwrap().contains("admin"));
    }
    line.review(11, "good").await;
    line.review(22, "skipped").await;
    line.review(22, "defect").await;
    assert_eq!(ids(&line.ok("/v1/parts?verdict=anomalous&review=none").await), [44, 33]);
    let (status, body) = line.post("/v1/parts/11/review", json!({ "review": null })).await;
    assert_eq!((status, &body["review"]), (StatusCode::OK, &Value::Null));
    for (path, body, status) in [
        ("/v1/parts/99/review", json!({ "review": "good" }), 404),
        ("/v1/parts/45/review", json!({ "review": "good" }), 409),
        ("/v1/parts/11/review", json!({ "review": "fine" }), 422),
        ("/v1/parts/11/review", json!({}), 422),
        ("/v1/parts/11/review", json!({ "review": "good", "by": 1 }), 422),
    ] {
        let (found, said) = line.post(path, body).await;
        assert_eq!(found.as_u16(), status, "{path}: {said}");
    }
    // A page elsewhere can send a form, but no JSON without being asked for leave, which it is not given.
    let form = Request::post("/v1/parts/11/review").body(Body::from(says.to_string())).unwrap();
    let (status, ..) = line.send(Some(Role::Admin), form).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn the_day_and_the_agreement_are_counted() {
    let line = Line::filled();
    let summary = line.ok("/v1/summary?since=2026-11-25T06:20:00Z").await;
    let today = &summary["today"];
    assert_eq!(
        (&today["parts"], &today["anomalous"], &today["failed"]),
        (&json!(26), &json!(3), &json!(1)),
        "{today}"
    );
    assert!((today["reject_rate"]["share"].as_f64().unwrap() - 3.0 / 25.0).abs() < 1e-12);
    assert_eq!((&summary["open"], &summary["in_memory"]), (&json!(4), &json!(false)));
    assert_eq!((&summary["models"][0]["name"], &summary["may_change"]), (&json!("washer"), &json!(false)));
    line.review(11, "good").await;
    line.review(22, "good").await;
    line.review(33, "defect").await;
    line.review(44, "skipped").await;
    let review = line.ok("/v1/review?offset=3600").await;
    let a = &review["agreement"];
    assert_eq!(
        (&a["good"], &a["defects"], &a["skipped"], &a["open"]),
        (&json!(2), &json!(1), &json!(1), &json!(0))
    );
    assert!((a["agreed"]["share"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    assert!((review["over_kill_rate"]["share"].as_f64().unwrap() - 2.0 / 42.0).abs() < 1e-12);
    let common = review["common"].as_array().unwrap();
    assert!(common.iter().any(|c| c["property"] == "hour" && c["value"] == "04:00 to 08:00"), "{common:?}");
    assert!(common.iter().all(|c| c["beyond_chance"] == false), "two parts prove nothing");
    assert_eq!(line.ok("/v1/review?model=other").await["agreement"]["rejected"], 0);
}

#[tokio::test]
async fn news_come_as_events_and_nothing_is_missed_on_return() {
    let line = Line::filled();
    let request = Request::get("/v1/events").header("last-event-id", "43").body(Body::empty()).unwrap();
    let answer = line.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    line.hub.add(&line.part(46, 0.1)).unwrap();
    let mut text = String::new();
    while !text.contains("id: 46") {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(60), body.frame()).await;
        let frame = frame.expect("an event").expect("the stream goes on").unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    let told: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("id: ")).collect();
    assert_eq!(told, ["44", "45", "46"]);
    let data = text.lines().rfind(|l| l.starts_with("data: ")).unwrap();
    let part: Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
    assert_eq!((&part["id"], &part["verdict"]), (&json!(46), &json!("normal")));
}

#[tokio::test]
async fn a_slow_onlooker_is_told_to_ask_again() {
    let line = Line::filled();
    let answer = line.router.clone().oneshot(Request::get("/v1/events").body(Body::empty()).unwrap());
    let mut body = answer.await.unwrap().into_body();
    for i in 100..400 {
        line.hub.add(&line.part(i, 0.1)).unwrap();
    }
    let mut text = String::new();
    for _ in 0..2 {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(text.contains("event: missed"), "{text}");
}

#[tokio::test]
async fn a_tried_picture_is_judged_and_not_recorded() {
    let line = Line::filled();
    let picture = line_model::picture(DemoKind::Scratch, 77);
    let attempt = |path: &str, bytes: Vec<u8>| {
        let request =
            Request::post(path).header("content-type", "image/png").body(Body::from(bytes)).unwrap();
        line.send(Some(Role::Read), request)
    };
    let (status, _, body) = attempt("/v1/try/washer", picture.clone()).await;
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::OK, "{said}");
    let judged = line.judge().judge(&picture, "x", &mut Default::default(), pbas::Threads::One).unwrap();
    assert_eq!(said["image_score"].as_f64().unwrap(), judged.prediction.image_score);
    assert_eq!(said["recorded"], false);
    assert!(said["thumbnail"].as_str().unwrap().starts_with("/9j/"), "a JPEG");
    assert!(said["map"].as_str().unwrap().starts_with("iVBOR"), "a PNG");
    assert_eq!(line.ok("/v1/parts").await.as_array().unwrap().len(), 45);
    let (status, _, body) = attempt("/v1/try/washer", b"no picture".to_vec()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{}", String::from_utf8_lossy(&body));
    assert_eq!(attempt("/v1/try/other", picture).await.0, StatusCode::NOT_FOUND);
    assert_eq!(attempt("/v1/try/washer", vec![0; (64 << 20) + 1]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn drift_is_watched_and_goes_on_where_it_stopped() {
    let line = Line::filled();
    let drift = line.ok("/v1/drift?by=hour").await;
    assert_eq!((&drift["values"]["seen"], &drift["values"]["alarm"]), (&json!(40), &Value::Null));
    assert_eq!((&drift["alpha"], &drift["rejects"]["alarm_at"]), (&json!(0.01), &json!(200.0)));
    assert_eq!(drift["reference"]["calibration"], false);
    assert_eq!(
        (&drift["stretches"][0]["parts"], &drift["stretches"][0]["rejected"]),
        (&json!(44), &json!(4))
    );
    assert_eq!(drift["moved"].as_array().unwrap().len(), 12);
    for i in 46..700 {
        let value = if i < 400 { (i % 17) as f64 * 0.05 } else { 0.9 + (i % 17) as f64 * 0.01 };
        line.hub.add(&line.part(i, value)).unwrap();
    }
    let drift = line.ok("/v1/drift?model=washer&by=day&offset=7200").await;
    let alarm = &drift["values"]["alarm"];
    assert!(alarm["part"].as_i64().unwrap() > 400 && alarm["direction"] == "higher", "{drift}");
    assert_eq!(drift["stretches"].as_array().unwrap().len(), 1);
    assert_eq!(line.get("/v1/drift?model=other").await.0, StatusCode::NOT_FOUND);
    assert_eq!(line.get("/v1/drift?by=year").await.0, StatusCode::BAD_REQUEST);
}

/// The whole way: looked at, refused while parts are open, applied, judged by, taken back.
#[tokio::test]
async fn a_threshold_is_renewed_from_the_record_and_taken_back() {
    let line = Line::filled();
    let until = "until=2026-11-25T07:00:00Z";
    let look = line.ok(&format!("/v1/calibration?{until}&rate=0.03")).await;
    assert_eq!((&look["sample"]["open"], &look["change"]), (&json!(4), &Value::Null));
    assert_eq!(look["sample"]["first_open"], "2026-11-25T06:11:00Z");
    assert!(look["refused"].as_str().unwrap().contains("found 4 still open"));
    let before = line.ok("/v1/calibration?until=2026-11-25T06:11:00Z&rate=0.03").await;
    assert_eq!((&before["sample"]["accepted"], &before["refused"]), (&json!(10), &Value::Null));
    for (id, review) in [(11, "good"), (22, "defect"), (33, "good"), (44, "good")] {
        line.review(id, review).await;
    }
    let look = line.ok(&format!("/v1/calibration?{until}&rate=0.03")).await;
    let sample = &look["sample"];
    assert_eq!(
        (&sample["accepted"], &sample["good_after_all"], &sample["defects"]),
        (&json!(40), &json!(3), &json!(1)),
        "{sample}"
    );
    let change = &look["change"];
    assert_eq!((&change["parts"], &change["after"]["proven"]), (&json!(44), &json!(true)), "{change}");
    let to_normal = json!({ "parts": 4, "marked_good": 3, "marked_defect": 1, "named": [11, 22, 33, 44] });
    assert_eq!((&change["to_normal"], &change["to_anomalous"]["parts"]), (&to_normal, &json!(0)), "{change}");

    let old = line.judge();
    let old_bytes = std::fs::read(&old.path).unwrap();
    let apply = json!({
        "model": "washer", "since": null, "until": look["until"], "rate": 0.03,
        "digest": look["digest"], "fingerprint": sample["fingerprint"],
    });
    assert_eq!(line.post_as(Some(Role::Read), "/v1/calibration", &apply).await.0, StatusCode::FORBIDDEN);
    // What was not looked at is not applied.
    for (field, value) in [("digest", json!("00")), ("fingerprint", json!("00")), ("rate", json!(0.9))] {
        let mut other = apply.clone();
        other[field] = value;
        let (status, body) = line.post("/v1/calibration", other).await;
        assert!(status.is_client_error(), "{field}: {body}");
    }
    line.review(44, "defect").await;
    assert_eq!(line.post("/v1/calibration", apply.clone()).await.0, StatusCode::CONFLICT, "a review changed");
    line.review(44, "good").await;
    assert_eq!(std::fs::read(&old.path).unwrap(), old_bytes, "nothing was written as yet");

    let (status, now) = line.post("/v1/calibration", apply.clone()).await;
    assert_eq!(status, StatusCode::OK, "{now}");
    let new = line.judge();
    assert_eq!(now["digest"], new.digest.as_str());
    assert_eq!(new.name, "washer");
    let calibration = &new.detector().model().calibration;
    assert_eq!(calibration.threshold, change["after"]["threshold"].as_f64().unwrap());
    assert_eq!(calibration.together.as_ref().unwrap().len(), 43);
    let kept = line.folder.path().join(now["undo"].as_str().unwrap());
    assert_eq!(std::fs::read(&kept).unwrap(), old_bytes);
    assert_eq!(line.post("/v1/calibration", apply).await.0, StatusCode::CONFLICT, "applied once");
    // The heads are the same, so values are: the new threshold can be renewed in its turn.
    for i in 50..70 {
        line.hub.add(&line.part(i, 0.3 + (i % 5) as f64 * 0.01)).unwrap();
    }
    let next = line.ok("/v1/calibration?until=2026-11-25T08:00:00Z").await;
    assert_eq!((&next["sample"]["accepted"], &next["rate"]), (&json!(20), &json!(0.03)), "{next}");
    let drift = line.ok("/v1/drift").await;
    assert_eq!(drift["reference"]["calibration"], true);

    let undo = json!({ "model": "washer", "digest": new.digest });
    assert_eq!(line.post_as(None, "/v1/calibration/undo", &undo).await.0, StatusCode::FORBIDDEN);
    let (status, back) = line.post("/v1/calibration/undo", undo.clone()).await;
    assert_eq!(status, StatusCode::OK, "{back}");
    assert_eq!(line.judge().digest, old.digest);
    assert_eq!(std::fs::read(&old.path).unwrap(), old_bytes);
    assert!(!kept.exists() && back["undo"].is_null());
    assert_eq!(line.post("/v1/calibration/undo", undo).await.0, StatusCode::CONFLICT);
    let again = json!({ "model": "washer", "digest": old.digest });
    assert!(
        line.post("/v1/calibration/undo", again).await.0.is_client_error(),
        "there is nothing to go back to"
    );
}

/// A file that somebody replaced behind the server's back is not written over.
#[tokio::test]
async fn a_model_file_of_somebody_else_is_left_alone() {
    let line = Line::filled();
    for id in [11, 22, 33, 44] {
        line.review(id, "defect").await;
    }
    let look = line.ok("/v1/calibration?until=2026-11-25T07:00:00Z").await;
    let path = line.judge().path.clone();
    std::fs::write(&path, b"somebody's new model").unwrap();
    let apply = json!({
        "model": "washer", "since": null, "until": look["until"], "rate": look["rate"],
        "digest": look["digest"], "fingerprint": look["sample"]["fingerprint"],
    });
    let (status, body) = line.post("/v1/calibration", apply).await;
    assert!(status.is_client_error() && body["error"].as_str().unwrap().contains("found another"), "{body}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's new model");
    let others: Vec<_> =
        std::fs::read_dir(line.folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!others.iter().any(|n| n.to_string_lossy().contains("kept")), "{others:?}");
    for path in
        ["/v1/calibration?rate=0.9", "/v1/calibration?since=2026-11-25T07:00:00Z&until=2026-11-25T06:00:00Z"]
    {
        assert!(line.get(path).await.0.is_client_error(), "{path}");
    }
}

#[test]
fn the_document_names_every_route_but_the_endless_one() {
    let document = serde_json::to_value(page::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 11, "{:?}", paths.keys());
    assert!(paths["/v1/calibration"]["post"]["requestBody"].is_object());
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|t| t.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
