//! Who may ask, and how much: tokens, TLS, other hosts, limits on heads and bodies.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use pbas::demo::DemoKind;
use pbas_line::serve::Limits;
use pbas_line::serve::http::{ListenOptions, TlsFiles, Tokens};

use crate::client::{connect, get, post, raw, read, request, send};
use crate::line_model::picture;
use crate::server::{Server, options};

const READ: &str = "Bearer rrrrrrrrrrrrrrrrrrrr";
const ADMIN: &str = "Bearer aaaaaaaaaaaaaaaaaaaa";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tokens(folder: &Path) -> Tokens {
    let file = folder.join("tokens");
    std::fs::write(&file, "read rrrrrrrrrrrrrrrrrrrr\nadmin aaaaaaaaaaaaaaaaaaaa\n").unwrap();
    Tokens::read(&file).unwrap().0
}

#[test]
fn tokens_open_what_they_should() {
    let dir = folder();
    let server =
        Server::with(ListenOptions { tokens: Some(tokens(dir.path())), ..options(Limits::default()) })
            .unwrap();
    let at = server.address;
    let good = picture(DemoKind::Good, 1);
    let with = |token: &'static str, method: &str, path: &str, body: &[u8]| {
        send(at, method, path, &[("authorization", token)], body)
    };
    for (method, path) in
        [("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/predict/washer"), ("GET", "/v2")]
    {
        let reply = send(at, method, path, &[], b"");
        reply.refused(401, "unauthorized");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        with("Bearer rrrrrrrrrrrrrrrrrrrx", method, path, b"").refused(401, "unauthorized");
    }
    get(at, "/v2/health/ready").json(200);
    with(READ, "GET", "/v1/models", b"").json(200);
    with(READ, "POST", "/v1/predict/washer", &good).json(200);
    with(ADMIN, "POST", "/v1/predict/washer", &good).json(200);
    with(READ, "POST", "/v1/parts/1/review", b"{}").refused(403, "forbidden");
    assert_ne!(with(ADMIN, "POST", "/v1/parts/1/review", b"{}").status, 403);
}

#[test]
fn pages_and_names_from_elsewhere_are_refused() {
    let server = Server::start();
    let at = server.address;
    let good = picture(DemoKind::Good, 1);
    let post = |headers: &[(&str, &str)]| send(at, "POST", "/v1/predict/washer", headers, &good);
    post(&[("host", "line.example")]).refused(403, "forbidden");
    post(&[("origin", "http://evil.example")]).refused(403, "forbidden");
    post(&[("host", "localhost:1"), ("origin", "http://localhost:1")]).json(200);
}

#[test]
fn beyond_this_machine_needs_tokens_or_consent() {
    let open = ListenOptions { address: ([0, 0, 0, 0], 0).into(), ..options(Limits::default()) };
    let e = Server::with(open.clone()).err().unwrap();
    assert!(e.to_string().contains("can be reached from other machines") && e.hint().is_some(), "{e}");
    let server = Server::with(ListenOptions { insecure: true, ..open }).unwrap();
    let at = ([127, 0, 0, 1], server.address.port()).into();
    send(at, "GET", "/v2/health/live", &[("host", "line4")], b"").json(200);
}

#[test]
fn a_port_in_use_is_said_clearly() {
    let server = Server::start();
    let e =
        Server::with(ListenOptions { address: server.address, ..options(Limits::default()) }).err().unwrap();
    assert_eq!(e.to_string(), format!("cannot listen on `{}`", server.address));
    assert!(e.hint().unwrap().contains("another program listens there"));
}

#[test]
fn bodies_and_pixels_beyond_the_limits() {
    let good = picture(DemoKind::Good, 1);
    let limits = Limits { body: good.len(), pixels: 320 * 320, ..Limits::default() };
    let server = Server::with_limits(limits.clone());
    let at = server.address;
    post(at, "/v1/predict/washer", &good).json(200);
    post(at, "/v1/predict/washer", &[&good[..], b"x"].concat()).refused(413, "too_large");
    // Announced and not sent: the answer comes at once.
    let head = "POST /v1/predict/washer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999999\r\n\r\n";
    raw(at, head.as_bytes()).unwrap().refused(413, "too_large");
    // In pieces, without an announcement.
    let mut stream = connect(at);
    stream
        .write_all(
            b"POST /v1/predict/washer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let piece = [format!("{:x}\r\n", good.len()).as_bytes(), &good, b"\r\n"].concat();
    for _ in 0..3 {
        stream.write_all(&piece).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    read(&mut stream).unwrap().refused(413, "too_large");

    let large = Server::with_limits(Limits { pixels: 320 * 320 - 1, ..limits });
    let said = post(large.address, "/v1/predict/washer", &good).refused(413, "too_large");
    assert!(said.contains("102399 pixels"), "{said}");
}

#[test]
fn slow_senders_are_cut_off() {
    let short = Duration::from_millis(200);
    let server =
        Server::with_limits(Limits { head: short, pause: short, receive: short, ..Limits::default() });
    let at = server.address;
    let head = "POST /v1/predict/washer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n";
    raw(at, format!("{head}half").as_bytes()).unwrap().refused(408, "slow");
    raw(at, b"POST /v1/predict/was").unwrap().refused(408, "slow");
    // A connection on which nothing was asked is closed without a word.
    assert!(raw(at, b"").is_none());
}

#[test]
fn heads_that_are_none_get_400_and_large_ones_431() {
    let server = Server::start();
    let at = server.address;
    assert_eq!(raw(at, b"\x16\x03\x01 hello\r\n\r\n").unwrap().status, 400);
    assert_eq!(raw(at, b"GET / HTTP/9.9\r\n\r\n").unwrap().status, 400);
    let large = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(60_000));
    assert_eq!(raw(at, large.as_bytes()).unwrap().status, 431);
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert_eq!(raw(at, many.as_bytes()).unwrap().status, 431);
    get(at, "/v2/health/live").json(200);
}

#[test]
fn too_many_connections_are_told_so() {
    let server = Server::with_limits(Limits { connections: 1, ..Limits::default() });
    let mut first = connect(server.address);
    first.write_all(&request("GET", "/v2/health/live", &[], b"")).unwrap();
    read(&mut first).unwrap().json(200);
    let second = raw(server.address, &request("GET", "/v2/health/live", &[], b"")).unwrap();
    second.refused(503, "busy");
    assert_eq!(second.headers["retry-after"], "1");
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    let dir = folder();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = |cert: &Path, key: &Path| {
        let tls = Some(TlsFiles { cert: cert.to_owned(), key: key.to_owned() });
        Server::with(ListenOptions { tls, ..options(Limits::default()) })
    };
    let server = tls(&cert, &key).unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, connect(server.address));
    stream.write_all(&request("GET", "/v2/health/live", &[], b"")).unwrap();
    read(&mut stream).unwrap().json(200);

    // Plain HTTP gets no answer there, and other clients are not disturbed.
    let plain = raw(server.address, &request("GET", "/v2/health/live", &[], b""));
    assert!(plain.is_none_or(|r| r.status != 200));
    for (cert, key, said) in [
        (&key, &key, "expected a certificate in PEM, found none"),
        (&cert, &cert, "cannot read private key"),
        (&dir.path().join("none"), &key, "cannot read certificate"),
    ] {
        let e = tls(cert, key).err().unwrap();
        assert!(e.to_string().contains(said), "{e}");
    }
}
