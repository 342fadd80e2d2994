//! The page over a watched folder, served by threads of its own.

use std::sync::Arc;
use std::thread::JoinHandle;

use pbas::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Slot;
use crate::hub::Hub;
use crate::judge::Judge;
use crate::page::{Models, PageState, router};
use crate::serve::http::{ListenOptions, Listener};

/// Threads that talk to browsers; judging has its own.
const TALKERS: usize = 1;

/// The page, until it is dropped.
#[derive(Debug)]
pub struct Page {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    /// Listens, and serves the page of a folder's record and model.
    ///
    /// # Errors
    /// The address cannot be listened on, or may not be without tokens.
    pub fn start(hub: Hub, model: Slot, listen: ListenOptions) -> Result<Self> {
        let cannot = |e| Error::new(ErrorKind::Io, "cannot start threads for the page").with_source(e);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(TALKERS)
            .thread_name("page")
            .enable_all()
            .build()
            .map_err(cannot)?;
        let listener = runtime.block_on(Listener::bind(listen))?;
        let url = listener.url();
        let pages = router(PageState { hub, models: Arc::new(model) });
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            runtime.block_on(listener.run(pages, async {
                // Dropped or told: both are the end.
                let _ = stopped.await;
            }));
        };
        let thread = std::thread::Builder::new().name("page".into()).spawn(work).map_err(cannot)?;
        Ok(Self { url, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

impl Models for Slot {
    fn names(&self) -> Vec<String> {
        vec![self.judge().name.clone()]
    }

    fn judge(&self, name: &str) -> Option<Arc<Judge>> {
        Some(Slot::judge(self)).filter(|j| j.name == name)
    }

    fn replace(&self, name: &str, judge: Judge) -> Result<()> {
        let here = Slot::judge(self).name.clone();
        if here != name {
            return Err(Error::caller(format!("model `{name}`: expected `{here}`, the only one in service")));
        }
        Slot::replace(self, judge);
        Ok(())
    }
}
