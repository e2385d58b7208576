//! The buffer of a large response or event, whose memory goes back to the system with it.

/// Its capacity in bytes: address space, of which only what is written takes memory. glibc keeps
/// smaller allocations for later ones, separately for each thread, once it has seen one of their
/// size freed; larger than 32 MiB, they are always mapped and unmapped.
const CAPACITY: usize = 33 * 1024 * 1024;

/// A buffer that holds these bytes and has room for the largest response.
pub(super) fn large(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(CAPACITY);
    buffer.extend_from_slice(bytes);
    buffer
}

const _: () = assert!(super::types::OBJECT_BYTES_MAX < CAPACITY);
