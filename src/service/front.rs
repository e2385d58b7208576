//! The settings of the HTTP front, from those of the service and the memory of its container.
//!
//! Only computed here; the front is started in [`super`].

use super::Error;
use crate::budget::{CONNECTION_BYTES, LIMIT_DEFAULT, Ledger, Memory, TLS_CONNECTION_BYTES};
use crate::config::Config;
use crate::http::server::Settings as FrontSettings;
use crate::http::tls::Tls;
use crate::process;
use crate::threads::Heartbeats;
use std::sync::Arc;

/// The memory of a container with this limit, in bytes.
pub(super) fn memory_of(config: &Config, limit: usize) -> Memory {
    let connection_bytes = match config.tls {
        Some(_) => TLS_CONNECTION_BYTES,
        None => CONNECTION_BYTES,
    };
    Memory::new(limit, config.held_bytes_max, connection_bytes)
}

/// The settings of the HTTP front.
pub(super) fn front_settings(
    config: &Config,
    heartbeats: &Heartbeats,
    id_seed: u64,
) -> Result<FrontSettings, Error> {
    let tls = config.tls.as_ref().map(|files| {
        Tls::load(files.clone())
            .map(Arc::new)
            .map_err(|problem| Error::Settings(vec![problem]))
    });
    let limit = process::memory_max().and_then(|limit| usize::try_from(limit).ok());
    let memory = memory_of(config, limit.unwrap_or(LIMIT_DEFAULT));
    Ok(FrontSettings {
        tls: tls.transpose()?,
        limits: config.front.clone(),
        ledger: Ledger::of_bytes(config.held_bytes_max, config.waiting.division),
        memory: Arc::new(memory),
        id_seed,
        heartbeats: heartbeats.clone(),
        ..FrontSettings::default()
    })
}
