//! What a person sees: live, try, review, drift. Plain files inside the binary and the few routes behind them; no network is needed.

mod assets;
mod attempt;
mod calibration;
mod drift;
mod events;
mod failure;
mod kept;
mod parts;
mod summary;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use pbas::Result;
use tokio::sync::Semaphore;

use crate::hub::Hub;
use crate::judge::Judge;
use failure::Failure;

/// The models in service, as the page needs them.
pub trait Models: Send + Sync {
    /// Names, sorted.
    fn names(&self) -> Vec<String>;

    /// The model of a name that is in service now.
    fn judge(&self, name: &str) -> Option<Arc<Judge>>;

    /// Puts another model into service under a name that exists; requests already taken are judged by the old one.
    ///
    /// # Errors
    /// There is no model of this name.
    fn replace(&self, name: &str, judge: Judge) -> Result<()>;
}

/// What a request may do. The server puts it into the extensions of every request: [`Role::Admin`] where no tokens are in use. A request
/// without one may only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look on, and have pictures judged.
    Read,
    /// Change: review parts, recalibrate.
    Admin,
}

/// What the page is made over. Clones are the same.
#[derive(Clone)]
pub struct PageState {
    /// The record, and its news.
    pub hub: Hub,
    /// The models in service.
    pub models: Arc<dyn Models>,
}

/// What the routes share.
#[derive(Clone)]
struct App {
    hub: Hub,
    models: Arc<dyn Models>,
    /// What has been read of the record for the drift of each model file.
    watched: drift::Watched,
    /// One picture is tried at a time: the line comes first.
    trying: Arc<Semaphore>,
    /// One threshold is changed at a time.
    changing: Arc<Mutex<()>>,
}

impl App {
    /// The model of a name, or of the only one where none is named.
    fn judge(&self, name: Option<&str>) -> Result<Arc<Judge>, Failure> {
        let names = self.models.names();
        let name = match (name, names.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, _) => {
                return Err(Failure::bad(format!("model: expected a name, as there are {}", names.len())));
            }
        };
        self.models
            .judge(name)
            .ok_or_else(|| Failure::missing(format!("there is no model `{name}` in service")))
    }

    /// Runs what blocks, for the disk or for long, where nobody waits for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let app = self.clone();
        match tokio::task::spawn_blocking(move || work(app)).await {
            Ok(done) => done,
            Err(e) => Err(Failure::broken(format!("the work for this request stopped: {e}"))),
        }
    }
}

/// The document of the page's routes, for the server's own; `/v1/events`, which never ends, is left out.
///
/// # Panics
/// Never: the document is a part of the program, and a test reads it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    serde_json::from_str(include_str!("openapi.json")).expect("the page's document is well formed")
}

/// The page and its routes.
pub fn router(state: PageState) -> Router {
    let app = App {
        hub: state.hub,
        models: state.models,
        watched: drift::Watched::default(),
        trying: Arc::new(Semaphore::new(1)),
        changing: Arc::default(),
    };
    Router::new()
        .route("/v1/events", get(events::events))
        .route("/v1/parts", get(parts::list))
        .route("/v1/parts/{id}", get(parts::one))
        .route("/v1/parts/{id}/thumbnail", get(parts::thumbnail))
        .route("/v1/parts/{id}/map", get(parts::map))
        .route("/v1/parts/{id}/review", post(parts::review))
        .route("/v1/summary", get(summary::summary))
        .route("/v1/review", get(summary::review))
        .route("/v1/drift", get(drift::drift))
        .route("/v1/calibration", get(calibration::preview).post(calibration::apply))
        .route("/v1/calibration/undo", post(calibration::undo))
        .route("/v1/try/{name}", post(attempt::attempt).layer(DefaultBodyLimit::max(attempt::MOST_BYTES)))
        .with_state(app)
        .merge(assets::router())
}
