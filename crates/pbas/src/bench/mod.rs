//! The benchmark: every category of a data set with several seeds, one line of `results.jsonl` for each finished run.
//!
//! [`plan`] lists the runs, [`run`] does one, [`Folder`] keeps what is done: a kill loses at most the runs in progress. [`merge`] joins
//! what several machines did. Under [`Protocol::Honest`] no test picture is opened before the model is finished; what
//! [`Protocol::Paper`] chooses by test labels is called `oracle` everywhere.

mod ablation;
mod folder;
mod machine;
mod merge;
mod plan;
mod record;
mod run;

pub use ablation::{ablations, named_ablations};
pub use folder::{Config, Folder, RESULTS, read_results};
pub use machine::{Machine, forget_peak_memory, peak_memory};
pub use merge::{Merged, merge};
pub use plan::{PlannedRun, listing_digest, plan};
pub use record::{Cost, GalleryPicture, Oracle, Program, Protocol, Reason, Record};
pub use run::{Digests, Job, run};
