//! [`log_line`] and [`log_type_line`]: log lines about an instance or an app type, whose parts are fields in
//! JSON logs.
//!
//! Only the form of lines lives here, so that each has the same fields under the same names.

/// Logs a line about an instance: level, [`InstanceKey`](crate::model::names::InstanceKey), the
/// [`Origin`](super::Origin) of the request that caused it, if one did, and the text.
///
/// The fields are `type`, `name`, `job`, `request_id` and `caller`; the last two are left out without a request.
macro_rules! log_line {
    ($level:expr, $key:expr, $by:expr, $($text:tt)+) => {{
        let (key, by): (&$crate::model::names::InstanceKey, Option<&$crate::app::Origin>) =
            ($key, $by);
        let (job, request) = (key.job_name(), by.map(|by| by.request.to_string()));
        log::log!(
            $level,
            "type" = key.app_type.as_str(),
            "name" = key.name.as_str(),
            "job" = job.as_str(),
            "request_id" = request.as_deref(),
            "caller" = by.map(|by| &*by.caller);
            $($text)+
        );
    }};
}

/// Logs a line about an app type: level, [`AppType`](crate::model::names::AppType), the name of its ConfigMap
/// as a `str`, and the text.
///
/// The fields are `type` and `config_map`.
macro_rules! log_type_line {
    ($level:expr, $app_type:expr, $config_map:expr, $($text:tt)+) => {{
        let config_map: &str = $config_map;
        log::log!($level, "type" = $app_type.as_str(), "config_map" = config_map; $($text)+);
    }};
}

pub(crate) use {log_line, log_type_line};
