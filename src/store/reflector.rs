//! placeholder
/// placeholder
#[derive(Debug)]
pub struct Reflector;
/// placeholder
#[derive(Debug)]
pub struct ReflectorHandle;
