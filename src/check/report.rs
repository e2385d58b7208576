//! The report of a check: its rows, as a table for people or as JSON for programs.

use serde_json::{Value, json};
use std::fmt;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// No problem.
    Good,
    /// A warning: the service works, with a limitation.
    Worse,
    /// An error that must be fixed.
    Bad,
}

/// Where something was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file; `-` is standard input.
    pub file: Option<String>,
    /// The document of the file, from 1, where it has several.
    pub document: Option<usize>,
    /// The ConfigMap.
    pub config_map: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The line in the text of the key, or of the file where there is no key, from 1.
    pub line: Option<u32>,
    /// The character of the line, from 1.
    pub column: Option<u32>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_none() && self.line.is_none() {
            // The row names the rest.
            return Ok(());
        }
        let mut parts = Vec::new();
        parts.extend(self.file.clone());
        parts.extend(self.document.map(|number| format!("document {number}")));
        parts.extend(self.key.as_ref().map(|key| format!("key {key}")));
        if let Some(line) = self.line {
            parts.push(match self.column {
                Some(column) => format!("{line}:{column}"),
                None => format!("line {line}"),
            });
        }
        f.write_str(&parts.join(", "))
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Result of the check.
    pub result: CheckResult,
    /// The checked item.
    pub what: String,
    /// Details; may be empty.
    pub text: String,
    /// Where it is, if it was read from a file or ConfigMap.
    pub origin: Option<Origin>,
}

/// All rows, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Row>);

impl Report {
    /// Whether no row is an error.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|row| row.result != CheckResult::Bad)
    }

    /// Adds a row.
    pub fn add(&mut self, result: CheckResult, what: impl Into<String>, text: impl Into<String>) {
        self.0.push(Row {
            result,
            what: what.into(),
            text: text.into(),
            origin: None,
        });
    }

    /// Adds a row about something at that place.
    pub fn add_at(
        &mut self,
        result: CheckResult,
        what: impl Into<String>,
        text: impl Into<String>,
        origin: &Origin,
    ) {
        self.add(result, what, text);
        if let Some(row) = self.0.last_mut() {
            row.origin = Some(origin.clone());
        }
    }

    /// Makes an error of the first row, with this text.
    pub(super) fn fail_first(&mut self, text: &str) {
        if let Some(row) = self.0.first_mut() {
            row.result = CheckResult::Bad;
            row.text = text.to_owned();
        }
    }

    /// The rows as a JSON array, with a newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let rows: Vec<Value> = self.0.iter().map(Row::to_json).collect();
        let mut text = format!("{:#}", Value::Array(rows));
        text.push('\n');
        text
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let result = match self.result {
            CheckResult::Good => "ok",
            CheckResult::Worse => "warn",
            CheckResult::Bad => "fail",
        };
        let mut row = json!({"result": result, "what": self.what, "text": self.text});
        if let Some(origin) = &self.origin {
            row["place"] = json!({
                "file": origin.file,
                "document": origin.document,
                "config_map": origin.config_map,
                "key": origin.key,
                "line": origin.line,
                "column": origin.column,
            });
        }
        row
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.what.chars().count()).max();
        let width = width.unwrap_or_default();
        for row in &self.0 {
            let word = match row.result {
                CheckResult::Good => "ok  ",
                CheckResult::Worse => "warn",
                CheckResult::Bad => "FAIL",
            };
            // Names and messages are untrusted: they must not start a new line.
            let what = row.what.escape_debug().to_string().replace("\\'", "'");
            let mut text = row.text.replace(char::is_control, " ");
            let origin = row.origin.iter().map(ToString::to_string);
            for origin in origin.filter(|origin| !origin.is_empty()) {
                if row.result != CheckResult::Good {
                    text.push_str(&format!(" ({})", origin.replace(char::is_control, " ")));
                }
            }
            writeln!(f, "{}", format!("{word}  {what:width$}  {text}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_their_places() {
        let mut report = Report::default();
        report.add(CheckResult::Good, "a", "");
        let origin = Origin {
            file: Some("apps.yaml".into()),
            document: Some(2),
            config_map: Some("apps".into()),
            key: Some("hello.yaml".into()),
            line: Some(3),
            column: Some(5),
        };
        report.add_at(CheckResult::Good, "b\n", "c", &origin);
        report.add_at(CheckResult::Bad, "d", "e\nf", &origin);
        let mut line = origin;
        line.column = None;
        line.file = None;
        report.add_at(CheckResult::Worse, "g", "h", &line);
        let expected = "ok    a\nok    b\\n  c\n\
            FAIL  d   e f (apps.yaml, document 2, key hello.yaml, 3:5)\n\
            warn  g   h (document 2, key hello.yaml, line 3)\n";
        assert_eq!(report.to_string(), expected);
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json[0], json!({"result": "ok", "what": "a", "text": ""}));
        assert_eq!(json[2]["place"]["column"], 5);
        assert_eq!(json[3]["place"]["file"], Value::Null);
        assert!(!report.is_good());
    }
}
