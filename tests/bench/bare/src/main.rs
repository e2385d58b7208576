//! `bare tiny WORKERS` or `bare hyper`: an HTTP server with one constant response.
//!
//! It listens on a free port of 127.0.0.1, prints that address as its only line, and runs until it
//! is killed. The response is as long as the service's for a ready instance. `tiny` responds to
//! `/large` with 8 MB and to `/medium` with 4 KB, for attacks that need responses of some size.
//! Nothing else may live here: any further work of these programs would be measured too.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

/// A body like that of a GET of a ready instance, in size and kind.
const BODY: &str = include_str!("response.json");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["tiny", workers] if workers.parse::<usize>().is_ok() => {
            tiny(workers.parse().unwrap_or(4));
            ExitCode::SUCCESS
        }
        ["hyper"] => {
            hyper();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("bare tiny WORKERS, or bare hyper");
            ExitCode::from(2)
        }
    }
}

/// tiny_http as its documentation shows it: workers that receive and respond.
fn tiny(workers: usize) {
    let server = tiny_http::Server::http((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    println!("{}", server.server_addr());
    let server = Arc::new(server);
    let run = |server: Arc<tiny_http::Server>| {
        move || {
            while let Ok(request) = server.recv() {
                respond(request);
            }
        }
    };
    let workers: Vec<_> = (0..workers)
        .map(|_| std::thread::spawn(run(Arc::clone(&server))))
        .collect();
    for worker in workers {
        // A worker that panicked has logged it.
        let _ = worker.join();
    }
}

fn respond(request: tiny_http::Request) {
    let json: tiny_http::Header = "Content-Type: application/json".parse().expect("a header");
    let body = match request.url() {
        "/large" => "x".repeat(8_000_000),
        "/medium" => "x".repeat(4_000),
        _ => BODY.trim_end().to_owned(),
    };
    // A peer that has gone is no concern of ours.
    let _ = request.respond(tiny_http::Response::from_string(body).with_header(json));
}

/// hyper and tokio, two threads.
fn hyper() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a free port");
            println!("{}", listener.local_addr().expect("an address"));
            loop {
                if let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket));
                }
            }
        });
}

async fn serve(socket: tokio::net::TcpStream) {
    let service = hyper::service::service_fn(|_request| async {
        let body = bytes::Bytes::from_static(BODY.trim_ascii_end().as_bytes());
        hyper::Response::builder()
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(http_body_util::Full::new(body))
    });
    if socket.set_nodelay(true).is_ok() {
        // A peer that has gone is no concern of ours.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(socket), service)
            .await;
    }
}
