//! Messages to an MQTT broker. The record is the outbox: a message is noted as sent once the broker has acknowledged it (QoS 1), and
//! whatever happens to the broker or to this process, what is not noted is sent again. So no verdict is lost, and one may come twice: its
//! `id` tells.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pbas::{Error, Result};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::sync::Notify;

use super::Say;
use super::actions::line;
use crate::record::Record;
use crate::record::ledger::{Action, Kind};

/// Messages that the broker may owe an acknowledgement for.
const IN_FLIGHT: u16 = 32;
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes of a message; the regions of a picture of noise are many.
const LARGEST: usize = 64 << 20;
/// A broker that is silent for so long is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(5);
/// What waits at the end of the process is still sent, for so long.
const FAREWELL: Duration = Duration::from_secs(3);
/// In which the password comes, so that no list of processes shows it.
pub const PASSWORD: &str = "PBAS_MQTT_PASSWORD";

/// Where messages go.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The topic of all messages.
    pub topic: String,
    /// Who sends, if the broker asks.
    pub user: Option<String>,
    /// And the password.
    pub password: Option<String>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "mqtt://{}:{}/{}", self.host, self.port, self.topic)
    }
}

impl Broker {
    /// `mqtt://[USER@]HOST[:PORT][/TOPIC]`; the port is 1883 and the topic `topic` unless it says otherwise.
    ///
    /// # Errors
    /// Another form; a password in it.
    pub fn parse(url: &str, topic: &str, password: Option<String>) -> Result<Self> {
        let form = "mqtt://[USER@]HOST[:PORT][/TOPIC]";
        // What is refused may hold a password and is not repeated.
        let wrong = |what: &str| Error::caller(format!("MQTT broker: expected {form}, found {what}"));
        if url.starts_with("mqtts://") {
            return Err(Error::unsupported(
                "MQTT broker: expected mqtt://, found mqtts://, which is not spoken here",
            )
            .with_hint(
                "let a broker on this machine pass messages on over TLS (mosquitto's `bridge_cafile`)",
            ));
        }
        let rest = url.strip_prefix("mqtt://").ok_or_else(|| wrong("no mqtt:// at its beginning"))?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = match address.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(
                    wrong("a password").with_hint(format!("put it into the environment variable {PASSWORD}"))
                );
            }
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, address),
        };
        let (host, port) = match address.rsplit_once(':') {
            // An address of IPv6 has colons of its own, in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("a port that is no number up to 65535"))?)
            }
            _ => (address, 1883),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let topic = if path.is_empty() { topic } else { path };
        if topic.contains(['#', '+', '\0']) {
            return Err(wrong("a topic with # or +"));
        }
        Ok(Self { host: host.to_owned(), port, topic: topic.to_owned(), user, password })
    }
}

/// The thread that sends.
#[derive(Debug)]
pub struct Sender {
    new: Arc<Notify>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// Begins to send what waits in the record for a folder, and whatever will.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(broker: Broker, record: Record, folder: PathBuf, say: Say) -> Result<Self> {
        let (new, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let cannot =
            |e: std::io::Error| Error::new(pbas::ErrorKind::Io, "cannot send messages").with_source(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let outbox = Outbox { broker, record, folder, say, new: Arc::clone(&new), stop: Arc::clone(&stop) };
        let work = move || runtime.block_on(outbox.run());
        let thread = std::thread::Builder::new().name("mqtt".into()).spawn(work).map_err(cannot)?;
        Ok(Self { new, stop, thread: Some(thread) })
    }

    /// There is something new to be sent.
    pub fn wake(&self) {
        self.new.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.new.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

struct Outbox {
    broker: Broker,
    record: Record,
    folder: PathBuf,
    say: Say,
    new: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

/// Actions in the order in which they were handed to the client.
type Handed = Arc<Mutex<VecDeque<i64>>>;

impl Outbox {
    /// One connection after another, until it is time to end.
    async fn run(self) {
        let mut told = false;
        let mut farewell = None;
        loop {
            let ended = self.connection(&mut told, &mut farewell).await;
            if ended.is_ok() || self.is_over(&mut farewell) {
                return;
            }
            if let Err(e) = ended
                && !std::mem::replace(&mut told, true)
            {
                (self.say)(&format!(
                    "MQTT broker {:?} cannot be reached ({e}); verdicts wait in the record, it is tried again and again",
                    self.broker
                ));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The process ends, and what waits has had its time.
    fn is_over(&self, farewell: &mut Option<Instant>) -> bool {
        if !self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let nothing_waits = self.waiting(0, 1).is_ok_and(|w| w.is_empty());
        nothing_waits || farewell.get_or_insert_with(Instant::now).elapsed() >= FAREWELL
    }

    fn waiting(&self, after: i64, limit: usize) -> Result<Vec<Action>> {
        self.record.to_do(&self.folder, &[Kind::Mqtt], after, limit)
    }

    /// One connection: nothing of an earlier one is believed. Ends well when the process ends.
    async fn connection(&self, told: &mut bool, farewell: &mut Option<Instant>) -> Result<(), String> {
        let mut options = MqttOptions::new(client_id(), &self.broker.host, self.broker.port);
        options.set_keep_alive(ALIVE).set_clean_session(true).set_inflight(IN_FLIGHT);
        options.set_max_packet_size(LARGEST, LARGEST);
        if let Some(user) = &self.broker.user {
            options.set_credentials(user, self.broker.password.as_deref().unwrap_or_default());
        }
        let (client, mut events) = AsyncClient::new(options, usize::from(IN_FLIGHT));
        let first = events.poll().await.map_err(|e| e.to_string())?;
        if !matches!(first, Event::Incoming(Packet::ConnAck(_))) {
            return Err(format!("expected its welcome, found {first:?}"));
        }
        if std::mem::take(told) {
            (self.say)(&format!("MQTT broker {:?} is back", self.broker));
        }
        let handed = Handed::default();
        let feed = self.feed(client, Arc::clone(&handed));
        let collect = self.collect(&mut events, &handed, farewell);
        tokio::select! {
            e = feed => Err(e),
            ended = collect => ended,
        }
    }

    /// Hands messages to the client, in order, as they appear in the record. Ends with an error alone.
    async fn feed(&self, client: AsyncClient, handed: Handed) -> String {
        let mut after = 0;
        loop {
            let waiting = match self.waiting(after, usize::from(IN_FLIGHT)) {
                Ok(waiting) => waiting,
                Err(e) => return pbas::error::chain(&e),
            };
            if waiting.is_empty() {
                // By the clock too: another process may have recorded something.
                let _ = tokio::time::timeout(ALIVE, self.new.notified()).await;
                continue;
            }
            for action in waiting {
                let message = match line(&self.record, action.part) {
                    Ok(message) => message,
                    Err(e) => return pbas::error::chain(&e),
                };
                handed.lock().unwrap_or_else(PoisonError::into_inner).push_back(action.id);
                if let Err(e) = client.publish(&self.broker.topic, QoS::AtLeastOnce, false, message).await {
                    return e.to_string();
                }
                after = action.id;
            }
        }
    }

    /// Notes what the broker acknowledges.
    async fn collect(
        &self,
        events: &mut EventLoop,
        handed: &Handed,
        farewell: &mut Option<Instant>,
    ) -> Result<(), String> {
        let mut sent: HashMap<u16, i64> = HashMap::new();
        loop {
            // The loop must be polled on its own, and stopping is asked for in between: it speaks at least every few seconds, and at the end
            // it is left where it stands.
            let event = tokio::select! {
                event = events.poll() => event.map_err(|e| e.to_string())?,
                () = self.end(farewell) => return Ok(()),
            };
            match event {
                // Collisions hand on the message later: the same event comes then.
                Event::Outgoing(Outgoing::Publish(number)) => {
                    if let Some(id) = handed.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                        sent.insert(number, id);
                    }
                }
                Event::Incoming(Packet::PubAck(ack)) => {
                    if let Some(id) = sent.remove(&ack.pkid) {
                        self.record.note_done(&[(id, None)]).map_err(|e| pbas::error::chain(&e))?;
                    }
                }
                Event::Incoming(Packet::Disconnect) => return Err("it has ended the connection".to_owned()),
                _ => {}
            }
        }
    }

    /// Comes back once the process ends and nothing waits any more, or has waited long enough.
    async fn end(&self, farewell: &mut Option<Instant>) {
        while !self.is_over(farewell) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A name for this connection: a broker ends the older of two connections with one name.
fn client_id() -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("pbas-{}-{:x}", std::process::id(), now & 0xffff_ffff)
}
