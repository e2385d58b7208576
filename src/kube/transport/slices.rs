//! [`Slices`]: connections of watches, of which a read waits for a short time only once the response has
//! begun.
//!
//! The thread of a watch has more to do than to read. A read that has waited in vain leaves the watch as it
//! is. The time limits of the HTTP library would hold for the head of the response and for TLS, too.

use std::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ChainedConnector, ConnectionDetails, Connector, DefaultConnector, NextTimeout,
    Transport,
};
use ureq::{Error, Timeout};

/// Bounds the reads of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices(Duration);

impl Slices {
    /// Over that connector; a read waits so long.
    pub(super) fn over(
        connector: DefaultConnector,
        read: Duration,
    ) -> ChainedConnector<(), DefaultConnector, Self> {
        connector.chain(Self(read))
    }
}

impl<In: Transport> Connector<In> for Slices {
    type Out = Sliced<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Sliced {
            inner,
            read: self.0,
        }))
    }
}

#[derive(Debug)]
pub(super) struct Sliced<T> {
    inner: T,
    read: Duration,
}

impl<T: Transport> Transport for Sliced<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, Error> {
        // The body of a watch has no time limit in all; everything before it has.
        if matches!(timeout.reason, Timeout::Global | Timeout::RecvBody) {
            timeout.per_read = Some(self.read.into());
        }
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
