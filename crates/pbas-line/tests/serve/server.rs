//! A server in this process, and the picture files it is asked about.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use pbas_line::Result;
use pbas_line::hub::Hub;
use pbas_line::judge::Judge;
use pbas_line::record::Record;
use pbas_line::serve::http::{ListenOptions, Listener};
use pbas_line::serve::{Limits, State, router};
use tokio::sync::oneshot;

use crate::line_model;

/// A server that stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub state: State,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Options to listen on a free port of this machine.
pub fn options(limits: Limits) -> ListenOptions {
    let address = ([127, 0, 0, 1], 0).into();
    ListenOptions { address, tls: None, tokens: None, insecure: false, limits, observer: None }
}

impl Server {
    /// A server of the tiny model, `washer`.
    pub fn start() -> Self {
        Self::with(options(Limits::default())).unwrap()
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::with(options(limits)).unwrap()
    }

    pub fn with(options: ListenOptions) -> Result<Self> {
        Self::of(vec![judge()], options)
    }

    pub fn of(models: Vec<Judge>, options: ListenOptions) -> Result<Self> {
        let hub = Hub::new(Record::in_memory()?);
        let state = State::new(models, hub, options.limits.clone())?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(Listener::bind(options))?;
        let address = listener.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let of_thread = state.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let shutdown = async {
                    let _ = stopped.await;
                    of_thread.stop().await;
                };
                listener.run(router(&of_thread), shutdown).await;
            });
            of_thread.join();
        });
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Tells the server to stop, without waiting for it.
    pub fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits for the server's end.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tell_to_stop();
        self.join();
    }
}

/// The tiny model.
pub fn judge() -> Judge {
    Judge::load(line_model::model()).unwrap()
}

/// A copy of the tiny model's file that is another file: it says that it was made by another version.
pub fn other_model(to: &Path) {
    let mut model = pbas::model_file::load(line_model::model()).unwrap();
    model.provenance.program_version = "0.0.0-other".into();
    pbas::model_file::save(&model, to).unwrap();
}
