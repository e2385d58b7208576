//! Makes one HTML page from the OpenAPI document, with nothing loaded from elsewhere: no script, no
//! font, no picture.
//!
//! Pure. It shows what our document uses of OpenAPI 3.1, not all that there is; everything that
//! comes from the document is escaped.

use serde_json::Value;

/// Methods in the order of the page; HEAD is a remark beside GET.
const METHODS: [&str; 4] = ["get", "patch", "put", "delete"];

/// The page.
#[must_use]
pub(super) fn page(document: &Value) -> String {
    let page = Page { document };
    let info = &document["info"];
    let [title, version] = ["title", "version"].map(|key| escaped(text(&info[key])));
    let style = include_str!("page.css");
    let parts = [
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">".into(),
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">".into(),
        format!("<title>{title}</title>\n<style>{style}</style></head><body>\n"),
        format!("<h1>{title} {version}</h1>\n"),
        paragraphs(&info["summary"]),
        paragraphs(&info["description"]),
        "<p>The same for programs: <a href=\"openapi.json\">openapi.json</a>. To see what runs: ".into(),
        "<a href=\"./\">the status page</a>.</p>\n<p>In the commands <code>$URL</code> is where this ".into(),
        "service is, and <code>$TOKEN</code> a token; without authentication that header can be ".into(),
        "left out.</p>\n".into(),
        page.contents(),
        list(&document["tags"]).map(|tag| page.tag(tag)).collect(),
        page.request_headers(),
        page.codes(),
        page.schemas(),
        "</body></html>\n".into(),
    ];
    parts.concat()
}

struct Page<'a> {
    document: &'a Value,
}

/// A method of a path.
struct Operation<'a> {
    path: &'a str,
    method: &'static str,
    object: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> String {
        escaped(text(&self.object["operationId"]))
    }

    fn title(&self) -> String {
        let old = only_if(self.object["deprecated"] == true, " class=\"old\"");
        let (method, path) = (self.method.to_ascii_uppercase(), escaped(self.path));
        format!("<code{old}>{method} {path}</code>")
    }
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

    /// All operations, in the order of the document.
    fn operations(&self) -> impl Iterator<Item = Operation<'a>> {
        let paths = entries(&self.document["paths"]);
        paths.flat_map(|(path, item)| {
            let there = METHODS
                .into_iter()
                .filter(|method| item[*method].is_object());
            there.map(move |method| Operation {
                path,
                method,
                object: &item[method],
            })
        })
    }

    fn contents(&self) -> String {
        let rows = self.operations().map(|operation| {
            let link = format!("<a href=\"#{}\">{}</a>", operation.id(), operation.title());
            row([link, inline(&operation.object["summary"])])
        });
        table("", rows)
    }

    fn tag(&self, tag: &'a Value) -> String {
        let name = text(&tag["name"]);
        let of_tag =
            |operation: &Operation<'_>| list(&operation.object["tags"]).any(|of| of == name);
        let operations = self.operations().filter(of_tag);
        let operations: String = operations
            .map(|operation| self.operation(&operation))
            .collect();
        let (title, description) = (escaped(&capitalised(name)), paragraphs(&tag["description"]));
        format!("<h2>{title}</h2>\n{description}{operations}")
    }

    fn operation(&self, operation: &Operation<'a>) -> String {
        let (method, object) = (operation.method, operation.object);
        let (id, title) = (operation.id(), operation.title());
        let summary = inline(&object["summary"]);
        let mut out = format!("<h3 class=\"{method}\" id=\"{id}\">{title} {summary}</h3>\n");
        out += &format!("<pre>{}</pre>\n", escaped(&self.command(operation)));
        out += &paragraphs(&object["description"]);
        let path = &self.document["paths"][operation.path];
        if method == "get" && path["head"].is_object() {
            out += "<p>HEAD is taken, too.</p>\n";
        }
        out += &self.parameters(object);
        let body = &object["requestBody"];
        if body.is_object() {
            out += &format!("<h4>Body</h4>{}\n", paragraphs(&body["description"]));
            out += &content(&body["content"]);
        }
        out + &self.responses(object)
    }

    /// A line for a shell that makes such a request.
    fn command(&self, operation: &Operation<'_>) -> String {
        let object = operation.object;
        let method = operation.method.to_ascii_uppercase();
        let mut line = "curl -sS".to_owned();
        if method != "GET" {
            line += &format!(" -X {method}");
        }
        if !object["security"].is_array() {
            line += " -H \"Authorization: Bearer $TOKEN\"";
        }
        for (media_type, media) in entries(&object["requestBody"]["content"]) {
            let first = entries(&media["examples"]).next();
            let body = first.map_or(&Value::Null, |(_, example)| &example["value"]);
            line += &format!(" -H 'Content-Type: {media_type}' -d '{body}'");
        }
        let (mut path, mut query) = (operation.path.to_owned(), String::new());
        for parameter in list(&object["parameters"]).map(|parameter| self.resolved(parameter)) {
            let (name, example) = (text(&parameter["name"]), &parameter["example"]);
            let example = text(example.get(0).unwrap_or(example));
            // What stops many needs one filter at least.
            let is_needed = parameter["required"] == true || method == "DELETE";
            if parameter["in"] == "path" {
                path = path.replace(&format!("{{{name}}}"), example);
            } else if parameter["in"] == "query" && is_needed && query.is_empty() {
                query = format!("?{name}={example}");
            }
        }
        line + &format!(" \"$URL{path}{query}\"")
    }

    /// Headers that several operations read are described once, in [`Page::request_headers`].
    fn parameters(&self, operation: &'a Value) -> String {
        let is_shared = |parameter: &&Value| {
            parameter["$ref"].is_string() && self.resolved(parameter)["in"] == "header"
        };
        let shared = list(&operation["parameters"]).filter(is_shared);
        let shared = shared.map(|parameter| text(&self.resolved(parameter)["name"]));
        let shared = links("Headers", "request-header", shared);
        let own = list(&operation["parameters"]).filter(|parameter| !is_shared(parameter));
        let rows = own.map(|parameter| {
            let parameter = self.resolved(parameter);
            let schema = self.resolved(&parameter["schema"]);
            let required = only_if(parameter["required"] == true, ", required");
            let descriptions = [parameter, schema].map(|of| inline(&of["description"]));
            row([
                code(text(&parameter["name"])),
                escaped(text(&parameter["in"])) + required,
                format!("{} {}", descriptions.join(" "), for_example(parameter)),
            ])
        });
        let mut rows = rows.peekable();
        let head = "<tr><th>parameter</th><th>in</th><th></th></tr>";
        let own = rows.peek().is_some().then(|| table(head, rows));
        format!("{}<p>{shared}</p>\n", own.unwrap_or_default())
    }

    fn request_headers(&self) -> String {
        let parameters = entries(&self.document["components"]["parameters"]);
        let headers = parameters.filter(|(_, parameter)| parameter["in"] == "header");
        let rows = headers.map(|(_, header)| {
            let about = format!("{} {}", inline(&header["description"]), for_example(header));
            named_row("request-header", text(&header["name"]), [about])
        });
        let table = table("", rows);
        format!("<h2>Headers of requests</h2>\n{table}")
    }

    fn responses(&self, operation: &'a Value) -> String {
        let rows = entries(&operation["responses"]).map(|(status, response)| {
            let response = self.resolved(response);
            let status = if status == "default" {
                "others"
            } else {
                status
            };
            let mut codes = Vec::new();
            for (_, media) in entries(&response["content"]) {
                collect_codes(&media["schema"], &mut codes);
            }
            let headers = entries(&response["headers"]).map(|(name, _)| name);
            // Every response has this one.
            let headers = headers.filter(|name| *name != "X-Request-Id");
            let mut about = inline(&response["description"]);
            about += &links("Codes", "code", codes.iter().copied());
            about += &links("Headers", "header", headers);
            if codes.is_empty() {
                about += &content(&response["content"]);
            }
            row([escaped(status), about])
        });
        table("<tr><th>answer</th><th></th></tr>", rows)
    }

    fn codes(&self) -> String {
        let components = &self.document["components"];
        let codes = list(&components["schemas"]["ErrorCode"]["x-codes"]).map(|of| {
            let statuses: Vec<String> = list(&of["status"]).map(Value::to_string).collect();
            let cells = [statuses.join(", "), inline(&of["description"])];
            named_row("code", text(&of["code"]), cells)
        });
        let headers = entries(&components["headers"]).map(|(name, header)| {
            let about = format!("{} {}", inline(&header["description"]), for_example(header));
            named_row("header", name, [about])
        });
        let head = "<tr><th>code</th><th>status</th><th></th></tr>";
        let (codes, headers) = (table(head, codes), table("", headers));
        format!("<h2>Codes of errors</h2>\n{codes}<h2>Headers of answers</h2>\n{headers}")
    }

    fn schemas(&self) -> String {
        let schemas = entries(&self.document["components"]["schemas"]);
        // Names, phases and codes are described where they are used.
        let objects = schemas.filter(|(_, schema)| schema["type"] == "object");
        let objects = objects.map(|(name, schema)| {
            let (name, about) = (escaped(name), paragraphs(&schema["description"]));
            let properties = self.properties(schema);
            format!("<h4 id=\"schema-{name}\">{name}</h4>\n{about}{properties}")
        });
        format!("<h2>Bodies</h2>\n{}", objects.collect::<String>())
    }

    fn properties(&self, schema: &'a Value) -> String {
        let properties = entries(&schema["properties"]).map(|(name, property)| {
            let own = self.resolved(property);
            let is_required = list(&schema["required"]).any(|required| required == name);
            let optional = only_if(!is_required, " (not always)");
            let inner = match &own["items"] {
                Value::Null => own,
                items => items,
            };
            let mut about = inline(&own["description"]) + "\n";
            if inner["properties"].is_object() {
                about += &self.properties(inner);
            }
            row([code(name) + optional, kind(own), about])
        });
        let others = Some(&schema["additionalProperties"]).filter(|others| others.is_object());
        let others = others.map(|others| {
            let about = inline(&others["description"]);
            row(["any other".into(), kind(others), about])
        });
        table("", properties.chain(others))
    }
}

/// The description of a body: the names of its schemas, and examples.
fn content(content: &Value) -> String {
    let media = entries(content).map(|(media_type, media)| {
        let mut names = Vec::new();
        collect_schemas(&media["schema"], &mut names);
        let names = names.into_iter().map(escaped);
        let names: Vec<String> = names
            .map(|name| format!("<a href=\"#schema-{name}\">{name}</a>"))
            .collect();
        let examples = entries(&media["examples"]).map(|(_, example)| &example["value"]);
        let examples = examples.chain(Some(&media["example"]).filter(|one| !one.is_null()));
        let examples = examples.map(|one| format!("<pre>{}</pre>\n", shown(one)));
        let (media_type, examples) = (code(media_type), examples.collect::<String>());
        format!(" {media_type} {}\n{examples}", names.join(" or "))
    });
    media.collect()
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    format!("<table>{head}\n{}</table>\n", rows.collect::<String>())
}

fn row<const N: usize>(cells: [String; N]) -> String {
    format!("<tr><td>{}</td></tr>\n", cells.join("</td><td>"))
}

/// A row that begins with a name, and that links can name.
fn named_row<const N: usize>(kind: &str, name: &str, cells: [String; N]) -> String {
    let (id, name, cells) = (escaped(name), code(name), cells.join("</td><td>"));
    format!("<tr id=\"{kind}-{id}\"><td>{name}</td><td>{cells}</td></tr>\n")
}

fn for_example(of: &Value) -> String {
    format!("For example <code>{}</code>.", shown(&of["example"]))
}

fn only_if(condition: bool, text: &str) -> &str {
    if condition { text } else { "" }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
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
        return format!("<code>{}</code>", shown(&schema["const"]));
    }
    let words: Vec<String> = list(&schema["enum"])
        .map(|word| format!("<code>{}</code>", shown(word)))
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
    match value {
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    }
}

/// Text with paragraphs separated by empty lines.
fn paragraphs(markdown: &Value) -> String {
    let all = text(markdown).split("\n\n").filter(|text| !text.is_empty());
    all.map(|text| format!("<p>{}</p>\n", marked(text)))
        .collect()
}

fn inline(markdown: &Value) -> String {
    marked(text(markdown))
}

/// Text with `code` in it, the one mark of Markdown that the document uses.
fn marked(markdown: &str) -> String {
    let parts = markdown.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => escaped(part),
        _ => code(part),
    });
    parts.collect()
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
            marked("a `b<c>` & \"d\""),
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
