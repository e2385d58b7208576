//! [`Tracer`]: spans made by OpenTelemetry's SDK, and sent as OTLP over HTTP.
//!
//! The only file that names the crates of OpenTelemetry and protobuf. The SDK samples spans, assigns ids
//! and keeps them in a bounded queue; its thread sends them through [`super::post`], one attempt per
//! batch. Spans that cannot be sent are counted and dropped, so that tracing never delays a request or
//! takes more memory. The log reports when sending starts to fail and when it works again.

use super::post::Post;
use super::{Attributes, Context, Counts, Settings, Value, Work};
use opentelemetry::trace::{
    Event, Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status,
    TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData,
    SpanExporter, SpanProcessor,
};
use prost::Message as _;
use std::fmt;
use std::future::{Future, ready};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Creates spans and exports them.
pub(super) struct Tracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    tally: Arc<Tally>,
}

/// Whether traces can be sent.
///
/// # Errors
/// The problem of the settings.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    Post::new(settings).map(drop)
}

/// A span that has not ended.
pub(super) struct Span(opentelemetry_sdk::trace::Span);

impl Tracer {
    /// Starts the exporting thread. Always returns a tracer; the `Option` is for `off.rs`.
    ///
    /// # Errors
    /// The problem of the settings.
    pub(super) fn start(settings: &Settings, instance: &str) -> Result<Option<Self>, String> {
        let resource = resource(settings, instance);
        let tally = Arc::new(Tally::default());
        let exporter = Exporter {
            post: Post::new(settings)?,
            endpoint: settings.endpoint.clone(),
            resource: ResourceAttributesWithSchema::from(&resource),
            tally: Arc::clone(&tally),
            failing: Mutex::default(),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_max)
            .with_max_export_batch_size(settings.batch_max)
            .with_scheduled_delay(settings.delay)
            .build();
        let bounded = Bounded {
            next: BatchSpanProcessor::builder(exporter)
                .with_batch_config(batches)
                .build(),
            tally: Arc::clone(&tally),
            waiting_max: settings.queue_max,
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(bounded)
            .with_sampler(sampler(settings.sampler))
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder("config-controller")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Some(Self {
            tracer: provider.tracer_with_scope(scope),
            provider,
            tally,
        }))
    }

    /// Starts the span of a request; without a parent it starts a trace.
    pub(super) fn begin_request(
        &self,
        name: String,
        parent: Option<&Context>,
        attributes: Attributes,
        begin: SystemTime,
    ) -> Span {
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_start_time(begin)
            .with_attributes(attributes.into_iter().map(pair));
        Span(self.build(builder, parent.map(span_context)))
    }

    /// Exports the span of a piece of work and those of its steps.
    pub(super) fn export(&self, work: Work) {
        let events = work.events.into_iter();
        let events = events.map(|(name, at)| Event::new(name, at, Vec::new(), 0));
        let links = work.links.iter().map(span_context).map(Link::with_context);
        let builder = SpanBuilder::from_name(work.name)
            .with_kind(SpanKind::Internal)
            .with_start_time(work.begin)
            .with_attributes(work.attributes.into_iter().map(pair))
            .with_events(events.collect())
            .with_links(links.collect());
        let mut span = self.build(builder, Some(span_context(&work.parent)));
        for step in work.steps {
            let builder = SpanBuilder::from_name(step.name).with_start_time(step.begin);
            self.build(builder, Some(span.span_context().clone()))
                .end_with_timestamp(step.end);
        }
        if let Some(error) = work.error {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(work.end);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent: read(&self.tally.sent),
            failed: read(&self.tally.failed),
            dropped: read(&self.tally.dropped),
        }
    }

    pub(super) fn close(&self, longest: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(longest) {
            log::warn!("failed to send the last spans: {error}");
        }
    }

    fn build(
        &self,
        builder: SpanBuilder,
        parent: Option<SpanContext>,
    ) -> opentelemetry_sdk::trace::Span {
        let context = opentelemetry::Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(parent),
            None => context,
        };
        self.tracer.build_with_context(builder, &context)
    }
}

impl Span {
    pub(super) fn context(&self) -> Context {
        let context = self.0.span_context();
        let state = context.trace_state().header();
        Context {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            is_sampled: context.is_sampled(),
            is_remote: false,
            state: (!state.is_empty()).then(|| state.into()),
        }
    }

    pub(super) fn end(&mut self, attributes: Attributes, has_failed: bool, end: SystemTime) {
        self.0.set_attributes(attributes.into_iter().map(pair));
        if has_failed {
            // The attribute `error.type` has the cause.
            self.0.set_status(Status::error(""));
        }
        self.0.end_with_timestamp(end);
    }
}

fn pair((name, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Word(word) => KeyValue::new(name, word),
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
    }
}

fn span_context(context: &Context) -> SpanContext {
    let sampled = TraceFlags::default().with_sampled(context.is_sampled);
    // An invalid tracestate is dropped, as the W3C recommendation requires.
    let state = context.state.as_deref().unwrap_or_default();
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        sampled,
        context.is_remote,
        TraceState::from_str(state).unwrap_or_default(),
    )
}

fn sampler(settings: super::Sampler) -> Sampler {
    let root = Sampler::TraceIdRatioBased(settings.share);
    if settings.by_parent {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

/// The resource attributes of this process; those from the settings take precedence.
fn resource(settings: &Settings, instance: &str) -> Resource {
    let given = settings.resource.iter();
    let given = given.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        ])
        .with_attributes(given)
        .with_attribute(KeyValue::new("service.name", settings.service_name.clone()))
        .build()
}

/// Number of waiting spans, and the results of the others.
#[derive(Debug, Default)]
struct Tally {
    waiting: AtomicUsize,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Whether dropped spans were logged since a batch was last sent.
    is_logged: AtomicBool,
}

/// Passes spans on as long as the SDK's queue has capacity, and counts those that it drops: the SDK
/// itself would drop them silently.
#[derive(Debug)]
struct Bounded {
    next: BatchSpanProcessor,
    tally: Arc<Tally>,
    waiting_max: usize,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        let tally = &self.tally;
        if tally.waiting.fetch_add(1, Ordering::AcqRel) < self.waiting_max {
            return self.next.on_end(span);
        }
        tally.waiting.fetch_sub(1, Ordering::AcqRel);
        tally.dropped.fetch_add(1, Ordering::Relaxed);
        if !tally.is_logged.swap(true, Ordering::Relaxed) {
            let waiting_max = self.waiting_max;
            log::warn!(
                "dropping spans: {waiting_max} are already waiting to be sent (OTEL_BSP_MAX_QUEUE_SIZE)"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }
}

/// Sends batches on the SDK's thread.
struct Exporter {
    post: Post,
    endpoint: String,
    resource: ResourceAttributesWithSchema,
    tally: Arc<Tally>,
    /// Why the last batch failed, and the number of spans lost since the last success.
    failing: Mutex<Option<(String, u64)>>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl SpanExporter for Exporter {
    /// Blocks until the batch is sent: the SDK's thread has nothing else to do.
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        ready(self.send(batch).map_err(OTelSdkError::InternalFailure))
    }
}

impl Exporter {
    fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let count = batch.len();
        self.tally.waiting.fetch_sub(count, Ordering::AcqRel);
        let spans = count as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let outcome = self.post.send(&request.encode_to_vec());
        let refused = outcome
            .as_ref()
            .map_or(spans, |body| rejected(body).min(spans));
        self.tally
            .sent
            .fetch_add(spans - refused, Ordering::Relaxed);
        self.tally.failed.fetch_add(refused, Ordering::Relaxed);
        let outcome = match outcome {
            Ok(_) if refused > 0 => Err(format!("the collector rejected {refused} spans")),
            other => other.map(drop),
        };
        self.note(&outcome, refused);
        outcome
    }

    /// Logs a change: the first failure of its kind, and the recovery.
    fn note(&self, outcome: &Result<(), String>, lost: u64) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = &self.endpoint;
        match (outcome, failing.take()) {
            (Ok(()), None) => self.tally.is_logged.store(false, Ordering::Relaxed),
            (Ok(()), Some((_, lost))) => {
                self.tally.is_logged.store(false, Ordering::Relaxed);
                log::info!("sending traces to {endpoint} works again; {lost} spans were lost");
            }
            (Err(why), before) => {
                let (known, before) = before.unwrap_or_default();
                if known != *why {
                    log::warn!(
                        "sending traces to {endpoint} failed ({why}); the spans are lost, the next batch is tried"
                    );
                }
                *failing = Some((why.clone(), before + lost));
            }
        }
    }
}

/// The number of spans that the collector reports as rejected.
fn rejected(response: &[u8]) -> u64 {
    let partial = ExportTraceServiceResponse::decode(response)
        .ok()
        .and_then(|response| response.partial_success);
    let rejected = partial.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}
