//! What a person sees: live, try, review, drift. Plain files inside the binary and the few routes behind them; no network is needed.

use std::sync::Arc;

use axum::Router;
use pbas::Result;

use crate::hub::Hub;
use crate::judge::Judge;

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

/// The page and its routes.
pub fn router(state: PageState) -> Router {
    let _ = state;
    Router::new()
}
