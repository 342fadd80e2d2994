//! Figures for Prometheus, in the text format that every scraper reads.

use std::fmt::Write as _;
use std::sync::Arc;

use pbas::{Error, ErrorKind, Result};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::queue::Load;

/// Content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What is done to a picture, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its bytes come.
    Receive,
    /// It waits for its turn.
    Wait,
    /// It is decoded.
    Decode,
    /// It is judged.
    Judge,
    /// Its heatmap is drawn.
    Draw,
    /// It is recorded.
    Record,
}

impl EncodeLabelValue for Stage {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Receive => "receive",
            Self::Wait => "wait",
            Self::Decode => "decode",
            Self::Judge => "judge",
            Self::Draw => "draw",
            Self::Record => "record",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    model: String,
    verdict: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelInfo {
    model: String,
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    result: String,
}

/// The figures. Clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    registry: Registry,
    stages: Family<StageLabel, Histogram, fn() -> Histogram>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    errors: Family<KindLabel, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    rejected: Family<ModelLabel, Counter>,
    scores: Family<ModelLabel, Histogram, fn() -> Histogram>,
    models: Family<ModelInfo, Gauge>,
    loads: Family<LoadLabels, Counter>,
    waiting: Gauge,
    busy: Gauge,
    capacity: Gauge,
    ready: Gauge,
}

/// From half a millisecond to half a minute.
fn times() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0,
        10.0, 30.0,
    ])
}

/// Scores are `-log10` of a probability: from 1 in 1 to 1 in a million, a third of a decade each, and beyond, where only clear defects are.
fn scores() -> Histogram {
    Histogram::new((1..=18).map(|i| f64::from(i) / 3.0).chain([8.0, 10.0, 12.0, 16.0]))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pbas");
        let stages = Family::new_with_constructor(times as fn() -> Histogram);
        registry.register("stage_seconds", "Time of a picture in each stage", stages.clone());
        let seconds = Family::new_with_constructor(times as fn() -> Histogram);
        registry.register("request_seconds", "Time from a request's head to its answer", seconds.clone());
        let errors = Family::default();
        registry.register(
            "errors",
            "Requests without a verdict, and records that failed, by kind",
            errors.clone(),
        );
        let verdicts = Family::default();
        registry.register("verdicts", "Pictures judged", verdicts.clone());
        let rejected = Family::default();
        registry.register("rejected_parts", "Pictures judged anomalous", rejected.clone());
        let of_scores = Family::new_with_constructor(scores as fn() -> Histogram);
        registry.register("image_score", "Image scores of judged pictures", of_scores.clone());
        let models = Family::default();
        registry.register("model_info", "Models in service, with the SHA-256 of their files", models.clone());
        let loads = Family::default();
        registry.register("model_loads", "Model files looked at while the server runs", loads.clone());
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let waiting = gauge(&mut registry, "queue_depth", "Pictures that wait for their turn");
        let busy = gauge(&mut registry, "judging", "Pictures that are being judged");
        let capacity = gauge(&mut registry, "queue_capacity", "Pictures that may wait");
        let ready = gauge(&mut registry, "ready", "1 while new work is taken");
        Self(Arc::new(Figures {
            registry,
            stages,
            seconds,
            errors,
            verdicts,
            rejected,
            scores: of_scores,
            models,
            loads,
            waiting,
            busy,
            capacity,
            ready,
        }))
    }
}

impl Metrics {
    /// Time that a picture spent in a stage.
    pub fn stage(&self, stage: Stage, seconds: f64) {
        self.0.stages.get_or_create(&StageLabel { stage }).observe(seconds);
    }

    /// A request was answered. `route` is a route's pattern, never what a client wrote.
    pub fn request(&self, route: &str, status: u16, seconds: f64) {
        self.0.seconds.get_or_create(&RouteLabels { route: route.to_owned(), status }).observe(seconds);
    }

    /// Something failed.
    pub fn error(&self, kind: &str) {
        self.0.errors.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    /// A picture was judged.
    pub fn verdict(&self, model: &str, verdict: &str, rejected: bool, score: f64) {
        let model = model.to_owned();
        let of_model = ModelLabel { model: model.clone() };
        self.0.scores.get_or_create(&of_model).observe(score);
        // Also where nothing is rejected, so that a rate can be had from the start.
        self.0.rejected.get_or_create(&of_model).inc_by(u64::from(rejected));
        self.0.verdicts.get_or_create(&VerdictLabels { model, verdict: verdict.to_owned() }).inc();
    }

    /// A model is in service from now on, or (`digest` of the old one) no longer.
    pub fn model(&self, model: &str, digest: &str, in_service: bool) {
        let info = ModelInfo { model: model.to_owned(), digest: digest.to_owned() };
        if in_service {
            self.0.models.get_or_create(&info).set(1);
        } else {
            self.0.models.remove(&info);
        }
    }

    /// A model file was looked at: `loaded`, `removed` or `refused`.
    pub fn load(&self, result: &str) {
        self.0.loads.get_or_create(&LoadLabels { result: result.to_owned() }).inc();
    }

    /// All figures as text, with those of the queue at this moment.
    ///
    /// # Errors
    /// None in practice.
    pub fn text(&self, load: &Load, capacity: usize, ready: bool) -> Result<String> {
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.0.waiting.set(whole(load.waiting));
        self.0.busy.set(whole(load.busy));
        self.0.capacity.set(whole(capacity));
        self.0.ready.set(i64::from(ready));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.0.registry)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot write the metrics").with_source(e))?;
        Ok(text)
    }
}
