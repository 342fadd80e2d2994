//! Work that waits: refused early, dropped when its client leaves, finished when the server stops.

use std::io::Write;
use std::time::{Duration, Instant};

use pbas::demo::DemoKind;
use pbas_line::record::Filter;
use pbas_line::serve::Limits;

use crate::client::{connect, get, post, read, request};
use crate::line_model::picture;
use crate::server::Server;

/// Waits until something holds; the test fails where it never does.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A figure of `/metrics`.
fn figure(server: &Server, name: &str) -> f64 {
    let text = String::from_utf8(get(server.address, "/metrics").body).unwrap();
    let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name));
    line.and_then(|l| l.rsplit(' ').next()).map_or(0.0, |v| v.parse().unwrap())
}

#[test]
fn every_request_gets_200_or_503() {
    let limits = Limits { queue: 1, deadline: Duration::from_secs(60), ..Limits::default() };
    let server = Server::with_limits(limits);
    let good = picture(DemoKind::Good, 1);
    let at = server.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let reply = post(at, "/v1/predict/washer", &good);
                    if reply.status == 503 {
                        reply.refused(503, "busy");
                        assert!(reply.headers["retry-after"].parse::<u64>().unwrap() >= 1);
                    }
                    reply.status
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let judged = statuses.iter().filter(|&&s| s == 200).count();
    assert!(judged >= 1 && statuses.iter().all(|s| [200, 503].contains(s)), "{statuses:?}");
    assert_eq!(
        server.state.hub().record().count(&Filter::default()).unwrap(),
        judged as u64,
        "none lost, none extra"
    );
}

#[test]
fn accepted_work_is_finished_and_ready_goes_false() {
    let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
    let mut server = Server::with_limits(limits);
    let (at, good) = (server.address, picture(DemoKind::Good, 1));
    let mut clients: Vec<_> = (0..12).map(|_| connect(at)).collect();
    // A connection that is open before the end is answered to the end.
    let mut looking = connect(at);
    for client in &mut clients {
        client.write_all(&request("POST", "/v1/predict/washer", &[], &good)).unwrap();
    }
    until("all are accepted", || {
        let record = server.state.hub().record().count(&Filter::default()).unwrap() as f64;
        record + figure(&server, "pbas_queue_depth") + figure(&server, "pbas_judging") >= 12.0
    });
    server.tell_to_stop();
    until("no more work is taken", || !server.state.is_ready());
    if looking.write_all(&request("GET", "/v2/health/ready", &[], b"")).is_ok() {
        // Either it is told, or the work was done so fast that the connection is closed already.
        if let Some(reply) = read(&mut looking) {
            assert_eq!(reply.json(503)["ready"], false);
        }
    }
    for client in &mut clients {
        read(client).expect("accepted work is answered").json(200);
    }
    server.join();
    assert_eq!(server.state.hub().record().count(&Filter::default()).unwrap(), 12);
}

#[test]
fn work_of_clients_that_left_is_not_done() {
    let limits = Limits { queue: 256, deadline: Duration::from_secs(600), ..Limits::default() };
    let server = Server::with_limits(limits);
    let (at, good) = (server.address, picture(DemoKind::Good, 1));
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = connect(at);
            client.write_all(&request("POST", "/v1/predict/washer", &[], &good)).unwrap();
            client
        })
        .collect();
    until("some wait", || figure(&server, "pbas_queue_depth") > 20.0);
    drop(clients);
    until("nobody waits", || figure(&server, "pbas_queue_depth") + figure(&server, "pbas_judging") == 0.0);
    let done = server.state.hub().record().count(&Filter::default()).unwrap();
    assert!(done < 190, "{done} of 200 were judged for nobody");
}
