//! The settings of tracing: the environment variables that OpenTelemetry defines for all programs.
//!
//! Pure, a part of [`super`]. They are checked only if tracing is on, because many clusters set some
//! of them for all pods. The values are used in [`crate::traces`], not here.

use super::Reader;
use crate::http::message::field;
use crate::traces::{Headers, Sampler, Settings};
use std::path::PathBuf;
use std::time::Duration;

/// Highest value of `OTEL_BSP_MAX_QUEUE_SIZE`; a span takes about 1 kB.
const QUEUE_MAX: usize = 100_000;

/// Longest duration, in milliseconds: one day.
const MILLIS_MAX: usize = 86_400_000;

/// Path that is appended to an endpoint for all signals.
const TRACES_PATH: &str = "/v1/traces";

impl Reader<'_> {
    pub(super) fn traces(&mut self) -> Option<Settings> {
        let is_disabled = self.word("OTEL_SDK_DISABLED", &["false", "true"]) == "true";
        let exporter = self.word("OTEL_TRACES_EXPORTER", &["otlp", "none"]);
        let is_given = self.raw(&self.of_traces("ENDPOINT")).is_some();
        if is_disabled || exporter == "none" || !is_given {
            return None;
        }
        let endpoint = self.endpoint();
        self.word(&self.of_traces("PROTOCOL"), &["http/protobuf"]);
        let queue_max = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 1, QUEUE_MAX);
        let batch_max = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, QUEUE_MAX);
        if batch_max > queue_max {
            self.above("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE");
        }
        let timeout = self.millis(&self.of_traces("TIMEOUT"));
        Some(Settings {
            certificate: self.certificate(&endpoint),
            headers: self.headers(),
            timeout: timeout.min(self.millis("OTEL_BSP_EXPORT_TIMEOUT")),
            service_name: self.text("OTEL_SERVICE_NAME"),
            resource: self.pairs("OTEL_RESOURCE_ATTRIBUTES", |name| !name.is_empty()),
            sampler: self.sampler(),
            queue_max,
            batch_max,
            delay: self.millis("OTEL_BSP_SCHEDULE_DELAY"),
            endpoint,
        })
    }

    /// The name of the exporter's variable for traces only if that is set, else of the one for all
    /// signals.
    fn of_traces(&self, setting: &str) -> String {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{setting}");
        match self.raw(&own) {
            Some(_) => own,
            None => format!("OTEL_EXPORTER_OTLP_{setting}"),
        }
    }

    fn endpoint(&mut self) -> String {
        let name = self.of_traces("ENDPOINT");
        let text = self.text(&name);
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        // The part before an @ may contain a password, which would be logged.
        let is_url = authority.is_some_and(|authority| !authority.is_empty())
            && !text.contains(['@', '#'])
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_url {
            let text = "is not a URL; expected one such as http://collector:4318, with credentials in OTEL_EXPORTER_OTLP_HEADERS";
            self.problem(&name, text);
        }
        if name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
            text
        } else {
            format!("{}{TRACES_PATH}", text.trim_end_matches('/'))
        }
    }

    fn certificate(&mut self, endpoint: &str) -> Option<PathBuf> {
        if !endpoint.starts_with("https://") {
            return None;
        }
        let name = self.of_traces("CERTIFICATE");
        let file = self.raw(&name).map(PathBuf::from);
        if file.is_none() {
            let text = "is missing: https requires a PEM file with the CA of the collector's certificate, because the image contains no root certificates";
            self.problem(&name, text);
        }
        file
    }

    fn headers(&mut self) -> Headers {
        let name = self.of_traces("HEADERS");
        let headers = self.pairs(&name, field::is_name);
        for (field, _) in headers.iter().filter(|(_, value)| !field::is_value(value)) {
            let text = format!("has a value for {field} that is not valid in a header");
            self.problem(&name, &text);
        }
        Headers(headers)
    }

    /// Comma-separated `name=value` with percent-encoded values. Problems do not show values, which may
    /// be secrets.
    fn pairs(&mut self, name: &str, is_name: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let text = self.text(name);
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        let read = |entry: &str| {
            let (name, value) = entry.split_once('=')?;
            let name = Some(name.trim()).filter(|name| is_name(name))?;
            let value = percent_encoding::percent_decode_str(value.trim());
            Some((name.to_owned(), value.decode_utf8().ok()?.into_owned()))
        };
        let mut pairs = Vec::new();
        for (place, entry) in (1..).zip(entries) {
            match read(entry) {
                Some(pair) => pairs.push(pair),
                None => {
                    let text =
                        format!("entry {place} is not name=value; expected name=value,name=value");
                    self.problem(name, &text);
                }
            }
        }
        pairs
    }

    fn sampler(&mut self) -> Sampler {
        let known = [
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
            "always_on",
            "always_off",
            "traceidratio",
        ];
        let word = self.word("OTEL_TRACES_SAMPLER", &known);
        let root = word.strip_prefix("parentbased_");
        Sampler {
            by_parent: root.is_some(),
            share: match root.unwrap_or(word) {
                "always_on" => 1.0,
                "always_off" => 0.0,
                _ => self.share(),
            },
        }
    }

    fn share(&mut self) -> f64 {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let text = self.text(name);
        let share = text.parse().ok();
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        share.unwrap_or_else(|| {
            self.unexpected(name, &text, "a number from 0 to 1");
            1.0
        })
    }

    fn millis(&mut self, name: &str) -> Duration {
        let millis = self.number(name, 1, MILLIS_MAX);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Command, parse};
    use crate::traces::{Sampler, Settings};
    use std::time::Duration;

    const ON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn traces(pairs: &[(&str, &str)]) -> Result<Option<Settings>, Vec<String>> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        match parse([], &pairs.iter().map(owned).collect()) {
            Ok(Command::Serve(config)) => Ok(config.traces),
            Ok(other) => panic!("{other:?}"),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    fn on(pairs: &[(&str, &str)]) -> Settings {
        let all: Vec<_> = [ON].iter().chain(pairs).copied().collect();
        traces(&all).unwrap().unwrap()
    }

    #[test]
    fn an_endpoint_turns_traces_on() {
        assert_eq!(traces(&[]), Ok(None));
        assert_eq!(
            traces(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "?")]),
            Ok(None)
        );
        assert_eq!(traces(&[ON, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        assert_eq!(traces(&[ON, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        let expected = Settings {
            endpoint: "http://collector:4318/v1/traces".into(),
            headers: crate::traces::Headers::default(),
            timeout: Duration::from_secs(10),
            certificate: None,
            service_name: "config-controller".into(),
            resource: Vec::new(),
            sampler: Sampler {
                by_parent: true,
                share: 1.0,
            },
            queue_max: 2048,
            batch_max: 512,
            delay: Duration::from_secs(5),
        };
        assert_eq!(on(&[]), expected);
        assert_eq!(
            on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")]),
            expected
        );
        // The values of the chart of 2.7.1.
        let chart = [
            ("OTEL_SERVICE_NAME", "config-controller"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_METRICS_EXPORTER", "none"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://collector:4318/v1/traces",
            ),
        ];
        assert_eq!(traces(&chart), Ok(Some(expected)));
    }

    #[test]
    fn variables_for_traces_take_precedence_over_general_ones() {
        let settings = on(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/as/it/is/"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/t.pem"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/all.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "all=1"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "Authorization=Bearer%20a%3Db, x-two = 2 ,",
            ),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test,team=a b",
            ),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        assert_eq!(settings.endpoint, "https://t/as/it/is/");
        assert_eq!(settings.certificate, Some("/t.pem".into()));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [pair("Authorization", "Bearer a=b"), pair("x-two", "2")];
        assert_eq!(settings.headers.0, headers);
        assert!(!format!("{settings:?}").contains("Bearer"));
        let resource = [
            pair("deployment.environment.name", "test"),
            pair("team", "a b"),
        ];
        assert_eq!(settings.resource, resource);
        assert_eq!(
            settings.sampler,
            Sampler {
                by_parent: false,
                share: 0.25,
            }
        );
    }

    #[track_caller]
    fn check_problem(name: &str, value: &str, expected: &str) {
        let problems = traces(&[ON, (name, value)]).unwrap_err();
        assert_eq!(problems, [format!("{name} {expected}")], "{value}");
    }

    #[test]
    fn invalid_values_are_problems() {
        let no_url = "is not a URL; expected one such as http://collector:4318, with credentials in OTEL_EXPORTER_OTLP_HEADERS";
        for bad in [
            "collector:4318",
            "grpc://c",
            "http://",
            "http://a b",
            "http://u:p@c",
            "http:///x",
        ] {
            check_problem("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", bad, no_url);
            check_problem("OTEL_EXPORTER_OTLP_ENDPOINT", bad, no_url);
        }
        check_problem(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "is 'grpc'; expected http/protobuf",
        );
        // The second one has no default of its own.
        for timeout in [
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        ] {
            check_problem(
                timeout,
                "10s",
                &format!(
                    "is '10s'; expected a whole number from 1 to {}",
                    super::MILLIS_MAX
                ),
            );
        }
        check_problem(
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "is 'zipkin'; expected otlp or none",
        );
        check_problem(
            "OTEL_SDK_DISABLED",
            "yes",
            "is 'yes'; expected false or true",
        );
        check_problem(
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "4096",
            "is '4096'; expected at most OTEL_BSP_MAX_QUEUE_SIZE, which is '2048': lower it, or raise OTEL_BSP_MAX_QUEUE_SIZE",
        );
        check_problem(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=1,secret",
            "entry 2 is not name=value; expected name=value,name=value",
        );
        check_problem(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a b=secret",
            "entry 1 is not name=value; expected name=value,name=value",
        );
        check_problem(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=secret%0d%0a",
            "has a value for a that is not valid in a header",
        );
        check_problem(
            "OTEL_RESOURCE_ATTRIBUTES",
            "=x",
            "entry 1 is not name=value; expected name=value,name=value",
        );
    }

    #[test]
    fn https_needs_a_ca() {
        let text = "OTEL_EXPORTER_OTLP_CERTIFICATE is missing: https requires a PEM file with the CA of the collector's certificate, because the image contains no root certificates";
        let problems = traces(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c")]).unwrap_err();
        assert_eq!(problems, [text]);
    }

    #[test]
    fn each_sampler_has_its_name() {
        let sampler = |word: &str| on(&[("OTEL_TRACES_SAMPLER", word)]).sampler;
        for (word, by_parent, share) in [
            ("always_on", false, 1.0),
            ("always_off", false, 0.0),
            ("traceidratio", false, 1.0),
            ("parentbased_always_on", true, 1.0),
            ("parentbased_always_off", true, 0.0),
            ("parentbased_traceidratio", true, 1.0),
        ] {
            assert_eq!(sampler(word), Sampler { by_parent, share }, "{word}");
        }
        for bad in ["1.5", "-1", "NaN", "half"] {
            let pairs = [
                ON,
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", bad),
            ];
            let expected =
                format!("OTEL_TRACES_SAMPLER_ARG is '{bad}'; expected a number from 0 to 1");
            assert_eq!(traces(&pairs).unwrap_err(), [expected]);
        }
        assert!(traces(&[ON, ("OTEL_TRACES_SAMPLER", "xray")]).is_err());
    }
}
