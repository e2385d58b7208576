//! Makes one HTML page from the OpenAPI document, with nothing loaded from elsewhere: no script, no
//! font, no picture.
//!
//! Pure. It shows what our document uses of OpenAPI 3.1, not all that there is; everything that
//! comes from the document is escaped.

use serde_json::Value;
use std::fmt::Write as _;

/// Methods in the order of the page; HEAD is a remark beside GET.
const METHODS: [&str; 3] = ["get", "patch", "delete"];

/// The page.
#[must_use]
pub(super) fn page(document: &Value) -> String {
    let page = Page { document };
    let info = &document["info"];
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    let title = escaped(text(&info["title"]));
    let _ = write!(out, "<title>{title}</title>\n<style>");
    out.push_str(include_str!("page.css"));
    out.push_str("</style></head><body>\n");
    let version = escaped(text(&info["version"]));
    let _ = writeln!(out, "<h1>{title} {version}</h1>");
    out.push_str(&paragraphs(text(&info["summary"])));
    out.push_str(&paragraphs(text(&info["description"])));
    out.push_str("<p>The same for programs: <a href=\"openapi.json\">openapi.json</a>.</p>\n");
    page.contents(&mut out);
    for tag in list(&document["tags"]) {
        page.tag(tag, &mut out);
    }
    page.codes(&mut out);
    page.schemas(&mut out);
    out.push_str("</body></html>\n");
    out
}

struct Page<'a> {
    document: &'a Value,
}

impl<'a> Page<'a> {
    /// The value itself, or what its `$ref` names.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        let target = value["$ref"].as_str().and_then(|target| {
            let pointer = target.strip_prefix('#')?;
            self.document.pointer(pointer)
        });
        target.unwrap_or(value)
    }

    /// Operations as path, method and description, in the order of the document.
    fn operations(&self) -> impl Iterator<Item = (&'a str, &'static str, &'a Value)> {
        let paths = entries(&self.document["paths"]);
        paths.flat_map(|(path, item)| {
            let there = METHODS
                .into_iter()
                .filter(|method| item[*method].is_object());
            there.map(move |method| (path, method, &item[method]))
        })
    }

    fn contents(&self, out: &mut String) {
        out.push_str("<table>\n");
        for (path, method, operation) in self.operations() {
            let _ = writeln!(
                out,
                "<tr><td><a href=\"#{}\"><code{}>{} {}</code></a></td><td>{}</td></tr>",
                escaped(text(&operation["operationId"])),
                old(operation),
                method.to_ascii_uppercase(),
                escaped(path),
                inline(text(&operation["summary"]))
            );
        }
        out.push_str("</table>\n");
    }

    fn tag(&self, tag: &'a Value, out: &mut String) {
        let name = text(&tag["name"]);
        let _ = writeln!(out, "<h2>{}</h2>", escaped(&capitalised(name)));
        out.push_str(&paragraphs(text(&tag["description"])));
        for (path, method, operation) in self.operations() {
            if list(&operation["tags"]).any(|of| of == name) {
                self.operation(path, method, operation, out);
            }
        }
    }

    fn operation(&self, path: &str, method: &str, operation: &'a Value, out: &mut String) {
        let _ = writeln!(
            out,
            "<h3 class=\"{method}\" id=\"{}\"><code{}>{} {}</code> {}</h3>",
            escaped(text(&operation["operationId"])),
            old(operation),
            method.to_ascii_uppercase(),
            escaped(path),
            inline(text(&operation["summary"]))
        );
        out.push_str(&paragraphs(text(&operation["description"])));
        if method == "get" && self.document["paths"][path]["head"].is_object() {
            out.push_str("<p>HEAD is taken, too.</p>\n");
        }
        self.parameters(operation, out);
        let body = &operation["requestBody"];
        if body.is_object() {
            let _ = writeln!(
                out,
                "<h4>Body</h4>{}",
                paragraphs(text(&body["description"]))
            );
            self.content(&body["content"], out);
        }
        self.responses(operation, out);
    }

    fn parameters(&self, operation: &'a Value, out: &mut String) {
        out.push_str("<table><tr><th>parameter</th><th>in</th><th></th></tr>\n");
        for parameter in list(&operation["parameters"]) {
            let parameter = self.resolved(parameter);
            let schema = self.resolved(&parameter["schema"]);
            let required = match parameter["required"].as_bool() {
                Some(true) => ", required",
                _ => "",
            };
            let _ = writeln!(
                out,
                "<tr><td><code>{}</code></td><td>{}{required}</td><td>{} {} For example <code>{}</code>.</td></tr>",
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
                inline(text(&parameter["description"])),
                inline(text(&schema["description"])),
                escaped(&shown(&parameter["example"])),
            );
        }
        out.push_str("</table>\n");
    }

    fn responses(&self, operation: &'a Value, out: &mut String) {
        out.push_str("<table><tr><th>answer</th><th></th></tr>\n");
        for (status, response) in entries(&operation["responses"]) {
            let response = self.resolved(response);
            let status = if status == "default" {
                "others"
            } else {
                status
            };
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}",
                escaped(status),
                inline(text(&response["description"]))
            );
            let mut codes = Vec::new();
            for (_, media) in entries(&response["content"]) {
                collect_codes(&media["schema"], &mut codes);
            }
            out.push_str(&links("Codes", "code", codes.iter().copied()));
            let headers = entries(&response["headers"]).map(|(name, _)| name);
            // Every response has this one.
            let headers = headers.filter(|name| *name != "X-Request-Id");
            out.push_str(&links("Headers", "header", headers));
            if codes.is_empty() {
                self.content(&response["content"], out);
            }
            out.push_str("</td></tr>\n");
        }
        out.push_str("</table>\n");
    }

    /// The description of a body: the names of its schemas, and examples.
    fn content(&self, content: &'a Value, out: &mut String) {
        for (media_type, media) in entries(content) {
            let mut names = Vec::new();
            collect_schemas(&media["schema"], &mut names);
            let names: Vec<String> = names
                .iter()
                .map(|name| format!("<a href=\"#schema-{0}\">{0}</a>", escaped(name)))
                .collect();
            let _ = writeln!(
                out,
                " <code>{}</code> {}",
                escaped(media_type),
                names.join(" or ")
            );
            for (_, example) in entries(&media["examples"]) {
                let _ = writeln!(out, "<pre>{}</pre>", escaped(&shown(&example["value"])));
            }
            if !media["example"].is_null() {
                let _ = writeln!(out, "<pre>{}</pre>", escaped(&shown(&media["example"])));
            }
        }
    }

    fn codes(&self, out: &mut String) {
        out.push_str(
            "<h2>Codes of errors</h2>\n<table><tr><th>code</th><th>status</th><th></th></tr>\n",
        );
        let codes = &self.document["components"]["schemas"]["ErrorCode"]["oneOf"];
        for code in list(codes) {
            let statuses: Vec<String> = list(&code["x-status"]).map(Value::to_string).collect();
            let name = escaped(text(&code["const"]));
            let _ = writeln!(
                out,
                "<tr id=\"code-{name}\"><td><code>{name}</code></td><td>{}</td><td>{}</td></tr>",
                statuses.join(", "),
                inline(text(&code["description"]))
            );
        }
        out.push_str("</table>\n<h2>Headers of answers</h2>\n<table>\n");
        for (name, header) in entries(&self.document["components"]["headers"]) {
            let name = escaped(name);
            let _ = writeln!(
                out,
                "<tr id=\"header-{name}\"><td><code>{name}</code></td><td>{} For example <code>{}</code>.</td></tr>",
                inline(text(&header["description"])),
                escaped(&shown(&header["example"]))
            );
        }
        out.push_str("</table>\n");
    }

    fn schemas(&self, out: &mut String) {
        out.push_str("<h2>Bodies</h2>\n");
        for (name, schema) in entries(&self.document["components"]["schemas"]) {
            // Names, phases and codes are described where they are used.
            if schema["type"] != "object" {
                continue;
            }
            let _ = writeln!(out, "<h4 id=\"schema-{0}\">{0}</h4>", escaped(name));
            out.push_str(&paragraphs(text(&schema["description"])));
            self.properties(schema, out);
        }
    }

    fn properties(&self, schema: &'a Value, out: &mut String) {
        out.push_str("<table>\n");
        let required: Vec<&str> = list(&schema["required"]).map(text).collect();
        for (name, property) in entries(&schema["properties"]) {
            let own = self.resolved(property);
            let optional = if required.contains(&name) {
                ""
            } else {
                " (not always)"
            };
            let _ = writeln!(
                out,
                "<tr><td><code>{}</code>{optional}</td><td>{}</td><td>{}",
                escaped(name),
                kind(own),
                inline(text(&own["description"]))
            );
            let inner = if own["type"] == "array" {
                &own["items"]
            } else {
                own
            };
            if inner["properties"].is_object() {
                self.properties(inner, out);
            }
            out.push_str("</td></tr>\n");
        }
        let others = &schema["additionalProperties"];
        if others.is_object() {
            let _ = writeln!(
                out,
                "<tr><td>any other</td><td>{}</td><td>{}</td></tr>",
                kind(others),
                inline(text(&others["description"]))
            );
        }
        out.push_str("</table>\n");
    }
}

/// The codes that a schema allows, at any depth.
fn collect_codes<'a>(schema: &'a Value, codes: &mut Vec<&'a str>) {
    for code in list(&schema["properties"]["code"]["enum"]).map(text) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if schema["properties"]["detail"].is_object() {
        collect_codes(&schema["properties"]["detail"], codes);
    }
    for part in list(&schema["anyOf"]) {
        collect_codes(part, codes);
    }
}

/// The names of the schemas that a body may have.
fn collect_schemas<'a>(schema: &'a Value, names: &mut Vec<&'a str>) {
    if let Some((_, name)) = text(&schema["$ref"]).rsplit_once('/') {
        names.push(name);
    }
    for part in list(&schema["anyOf"]) {
        collect_schemas(part, names);
    }
    if schema["items"].is_object() {
        collect_schemas(&schema["items"], names);
    }
}

/// The type of a schema in a word or a few.
fn kind(schema: &Value) -> String {
    if !schema["const"].is_null() {
        return format!("<code>{}</code>", escaped(&shown(&schema["const"])));
    }
    let words: Vec<String> = list(&schema["enum"])
        .map(|word| format!("<code>{}</code>", escaped(&shown(word))))
        .collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => escaped(text(kind)),
    }
}

/// Links to the rows of these names, if there are any.
fn links<'a>(lead: &str, kind: &str, names: impl Iterator<Item = &'a str>) -> String {
    let links: Vec<String> = names
        .map(escaped)
        .map(|name| format!("<a href=\"#{kind}-{name}\"><code>{name}</code></a>"))
        .collect();
    if links.is_empty() {
        return String::new();
    }
    format!(" {lead}: {}", links.join(", "))
}

fn old(operation: &Value) -> &'static str {
    match operation["deprecated"].as_bool() {
        Some(true) => " class=\"old\"",
        _ => "",
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let object = value.as_object().into_iter().flatten();
    object.map(|(name, value)| (name.as_str(), value))
}

/// A value as an example shows it.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Text with paragraphs separated by empty lines.
fn paragraphs(markdown: &str) -> String {
    let all = markdown.split("\n\n").filter(|text| !text.is_empty());
    all.map(|text| format!("<p>{}</p>\n", inline(text)))
        .collect()
}

/// Text with `code` in it, the one mark of Markdown that the document uses.
fn inline(markdown: &str) -> String {
    let parts = markdown.split('`').enumerate();
    parts
        .map(|(at, part)| match at % 2 {
            0 => escaped(part),
            _ => format!("<code>{}</code>", escaped(part)),
        })
        .collect()
}

/// Text that means nothing to HTML, in an element or in a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_of_the_document_is_never_markup() {
        assert_eq!(
            inline("a `b<c>` & \"d\""),
            "a <code>b&lt;c&gt;</code> &amp; &quot;d&quot;"
        );
        let nasty = "<script>alert(1)</script>";
        let page = page(&json!({
            "info": {"title": nasty, "version": nasty, "description": nasty},
            "tags": [{"name": nasty, "description": nasty}],
            "paths": {nasty: {"get": {
                "operationId": nasty, "tags": [nasty], "summary": nasty,
                "parameters": [{"name": nasty, "in": nasty, "example": nasty, "schema": {}}],
                "responses": {nasty: {"description": nasty, "headers": {nasty: {}}, "content": {nasty: {
                    "schema": {"$ref": nasty}, "examples": {nasty: {"value": nasty}},
                }}}},
            }}},
            "components": {"schemas": {nasty: {"type": "object", "properties": {nasty: {"enum": [nasty]}}}}},
        }));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn codes_are_found_wherever_they_stand() {
        let schema = json!({"anyOf": [
            {"properties": {"detail": {"properties": {"code": {"enum": ["a", "b"]}}}}},
            {"properties": {"code": {"enum": ["b", "c"]}}},
        ]});
        let mut codes = Vec::new();
        collect_codes(&schema, &mut codes);
        assert_eq!(codes, ["a", "b", "c"]);
    }
}
