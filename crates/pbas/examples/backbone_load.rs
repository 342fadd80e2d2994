//! Seconds from a weight file to a backbone that can be planned, the fastest of five, for each file; and a digest of all its weights as they
//! are used, which is the same for files of the same network. `bench/backbone_load.py` makes the files.

use std::path::Path;
use std::time::Instant;

use pbas::backbone::Backbone;
use sha2::{Digest, Sha256};

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        return Err("usage: backbone_load FILE...".into());
    }
    let mut digests = std::collections::BTreeSet::new();
    for file in &files {
        let (mut fastest, mut last) = (f64::INFINITY, None);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let backbone = Backbone::from_file(Path::new(file))?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
            last = Some(backbone);
        }
        let backbone = last.ok_or("no round")?;
        let mut digest = Sha256::new();
        for (name, tensor) in backbone.graph.tensors() {
            digest.update(name);
            tensor.data.iter().for_each(|v| digest.update(v.to_le_bytes()));
        }
        let digest: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let bytes = std::fs::metadata(file)?.len() as f64 / 1e6;
        println!("{fastest:.2} s  {bytes:.0} MB  weights {digest}  {}  {file}", backbone.info.name);
        digests.insert(digest);
    }
    if digests.len() > 1 {
        return Err("the files hold different weights".into());
    }
    Ok(())
}
