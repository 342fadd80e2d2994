//! The page over a line that is made up: a record filled with parts of the last days, and new parts as they come. For looking at the page,
//! and for its test in a browser.
//!
//! `cargo run -p pbas-line --example made_up_line -- MODEL PICTURES [ROWS [EVERY_MS [TOKEN]]]`, where PICTURES is a set made by `pbas demo`. With a
//! token, `TOKEN` may change and `TOKEN-read` may look on. Prints its address. The model is copied; nothing is written beside it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use pbas::Threads;
use pbas::detector::{Scratch, Verdict};
use pbas_line::Result;
use pbas_line::hub::Hub;
use pbas_line::judge::{Judge, hex};
use pbas_line::page::{Models, PageState, Role, router};
use pbas_line::record::{NewPart, Record, Said};
use sha2::{Digest, Sha256};

struct InService(RwLock<BTreeMap<String, Arc<Judge>>>);

impl Models for InService {
    fn names(&self) -> Vec<String> {
        self.0.read().map_or(vec![], |all| all.keys().cloned().collect())
    }

    fn judge(&self, name: &str) -> Option<Arc<Judge>> {
        self.0.read().ok()?.get(name).cloned()
    }

    fn replace(&self, name: &str, judge: Judge) -> Result<()> {
        let mut all = self.0.write().map_err(|_| pbas_line::Error::caller("the models are locked"))?;
        all.insert(name.to_owned(), Arc::new(judge));
        Ok(())
    }
}

/// Chance, the same at every run (SplitMix64).
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gauss(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What a part of the line looks like, and what the model said of it.
struct Look {
    name: String,
    said: Said,
}

fn pictures(folder: &Path) -> std::result::Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for kind in std::fs::read_dir(folder.join("test"))? {
        let mut of_kind: Vec<PathBuf> =
            std::fs::read_dir(kind?.path())?.flatten().map(|e| e.path()).collect();
        of_kind.sort();
        found.extend(of_kind.into_iter().take(8));
    }
    found.sort();
    Ok(found)
}

/// A part that looks like one of the pictures, with a value of its own: shifted by so many deviations, or with this chance a defect.
fn part(
    judge: &Judge,
    looks: &[Look],
    chance: &mut Chance,
    number: u64,
    time: Timestamp,
    (shift, defects): (f64, f64),
) -> NewPart {
    let model = judge.detector().model();
    let is_defect = chance.uniform() < defects;
    let of_kind: Vec<&Look> =
        looks.iter().filter(|l| (l.said.verdict == Verdict::Anomalous) == is_defect).collect();
    let look = of_kind.get((chance.uniform() * of_kind.len() as f64) as usize).copied().unwrap_or(&looks[0]);
    let mut said = look.said.clone();
    if !is_defect {
        said.value = 0.45 + 0.4 * (chance.gauss() + shift);
    }
    let judgement = model.calibration.judge_value(said.value, model.settings.scoring);
    said.image_score = judgement.image_score;
    said.p_value = judgement.p_value;
    said.threshold = model.calibration.threshold;
    said.verdict = if judgement.rejected { Verdict::Anomalous } else { Verdict::Normal };
    let outcome = if chance.uniform() < 0.001 { Err("the file is cut short".to_owned()) } else { Ok(said) };
    NewPart {
        time,
        // Names come from cameras and clients: some are odd.
        name: match number % 10 {
            3 => format!("{}_<img src=x onerror=alert(1)>\n\"'&{number}.png", look.name),
            _ => format!("{}_{number:06}.png", look.name),
        },
        size: 150_000,
        sha256: hex(&Sha256::digest(number.to_le_bytes())),
        model: judge.name.clone(),
        model_digest: judge.digest.clone(),
        outcome,
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, more @ ..] = args.as_slice() else {
        return Err("usage: made_up_line MODEL PICTURES [ROWS [EVERY_MS [TOKEN]]]".into());
    };
    let number = |i: usize, usual: u64| more.get(i).map_or(Ok(usual), |n| n.parse::<u64>());
    let (rows, every) = (number(0, 2000)?, number(1, 1500)?);
    let token = more.get(2).cloned();

    let own = tempfile::tempdir()?;
    let copy = own.path().join("part.pbas");
    std::fs::copy(model, &copy)?;
    let judge = Arc::new(Judge::load(&copy)?);
    let mut scratch = Scratch::default();
    let mut looks = Vec::new();
    for path in pictures(Path::new(folder))? {
        let judged = judge.judge(&std::fs::read(&path)?, "picture", &mut scratch, Threads::All)?;
        let kind = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        looks.push(Look { name: kind, said: Said::of(&judge, &judged, true)? });
    }
    let record = Record::open(&own.path().join("line.sqlite"))?;
    let mut chance = Chance(1);
    let now = Timestamp::now().as_second();
    for i in 0..rows {
        // Over two and a half days, the last part just now; in the last twelfth something has moved.
        let second = now - ((rows - i) as f64 * 216_000.0 / rows.max(1) as f64) as i64;
        let shift = if i * 12 > rows * 11 { 0.8 } else { 0.0 };
        record.add(&part(&judge, &looks, &mut chance, i, Timestamp::from_second(second)?, (shift, 0.03)))?;
    }
    let hub = Hub::new(record);
    let models = Arc::new(InService(RwLock::new(BTreeMap::from([("part".to_owned(), judge)]))));
    let page = router(PageState { hub: hub.clone(), models: models.clone() });
    let page = page.layer(from_fn(move |request, next| allow(token.clone(), request, next)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    if every > 0 {
        std::thread::spawn(move || {
            for i in rows.. {
                std::thread::sleep(Duration::from_millis(every));
                let Some(judge) = models.judge("part") else { return };
                if let Err(e) = hub.add(&part(&judge, &looks, &mut chance, i, Timestamp::now(), (0.0, 0.15)))
                {
                    eprintln!("not recorded: {e}");
                }
            }
        });
    }
    axum::serve(listener, page).await?;
    Ok(())
}

/// Stands in for the server's own way with tokens.
async fn allow(token: Option<String>, mut request: Request, next: Next) -> Response {
    let role = match &token {
        None => Role::Admin,
        Some(token) => {
            let given = request.headers().get("authorization").and_then(|h| h.to_str().ok());
            let given = given.and_then(|h| h.strip_prefix("Bearer "));
            match given {
                Some(g) if g == token => Role::Admin,
                Some(g) if g == format!("{token}-read") => Role::Read,
                _ if request.uri().path().starts_with("/v1/") => {
                    return StatusCode::UNAUTHORIZED.into_response();
                }
                _ => Role::Read,
            }
        }
    };
    request.extensions_mut().insert(role);
    next.run(request).await
}
