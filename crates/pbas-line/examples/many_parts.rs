//! Makes a record of many parts, for measurements: `many_parts FILE ROWS`.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pbas::detector::Verdict;
use pbas::score::Region;
use pbas::{Error, Result};
use pbas_line::record::{NewPart, Record, Said};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, rows] = args.as_slice() else { return Err(Error::caller("expected FILE ROWS")) };
    let rows: i64 = rows.parse().map_err(|_| Error::caller("expected a number of rows"))?;
    let record = Record::open(Path::new(file))?;
    let start = Timestamp::now() - SignedDuration::from_secs(rows * 2);
    for i in 0..rows {
        record.add(&part(i, start + SignedDuration::from_secs(i * 2)))?;
    }
    Ok(())
}

/// One part in twenty is rejected, one in a thousand cannot be read.
fn part(i: i64, time: Timestamp) -> NewPart {
    let rejected = i % 20 == 7;
    let region = Region { x: 100 + i as usize % 50, y: 80, width: 40, height: 30, area: 800, peak: 7.25 };
    let score = if rejected { 2.7 } else { (i % 180) as f64 / 100.0 };
    let said = Said {
        image_score: score,
        threshold: 2.176_091_259_055_681,
        p_value: 10f64.powf(-score),
        verdict: if rejected { Verdict::Anomalous } else { Verdict::Normal },
        value: score * 1.3 - 2.0,
        peak: 5.0 + score,
        width: 512,
        height: 512,
        regions: vec![region; if rejected { 2 } else { 0 }],
        decode_ms: 2.5,
        judge_ms: 120.0,
        thumbnail: Some(vec![(i % 251) as u8; 9_000]),
        map: Some(vec![(i % 241) as u8; 6_000]),
    };
    NewPart {
        time,
        name: format!("camera-{i:06}.png"),
        size: 300_000 + i as u64 % 1000,
        sha256: format!("{i:064x}"),
        model: "part".to_owned(),
        model_digest: "5f".repeat(32),
        outcome: if i % 1000 == 999 { Err("`x.png` is cut short".to_owned()) } else { Ok(said) },
    }
}
