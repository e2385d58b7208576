// Uses the generated TypeScript client: on the sandbox, then on each example of the document.
//
//     client.js DOCUMENT REQUESTS URL OUTPUT
//
// A response counts as parsed if the client hands out its body as `data` or `error`. Types are gone
// by then, so each body is also written to OUTPUT, as a value of the type that the document gives
// it; the compiler judges that file. Nothing from `check` on knows an operation.

import { readFileSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Json = any;
type Call = (method: string, path: string, init: Json) => Promise<{ data?: Json; error?: Json; response: Response }>;

const [documentFile, requestsFile, url, output] = process.argv.slice(2) as [string, string, string, string];
const document: Json = JSON.parse(readFileSync(documentFile, "utf8"));
const requests: Json[] = JSON.parse(readFileSync(requestsFile, "utf8"));

// What the description of `variables` says; the default writes `variables[utcOffset]=…`.
const querySerializer = { object: { style: "form", explode: true } } as const;

const faults: string[] = [];
const bodies: string[] = [];
let count = 0;

/** What a caller writes: this compiles only as long as the types tell the responses apart. */
async function asACallerWould(client: Client<paths>): Promise<void> {
  const path = { type: "offset", name: "typed" };
  const query = { variables: { utcOffset: "120" } };
  const started = await client.GET("/app/{type}/{name}", { params: { path, query, header: { Prefer: "wait=20" } } });
  const address: string | undefined = started.data && "ip" in started.data ? started.data.ip : undefined;
  if (!address) faults.push(`no address: ${JSON.stringify(started.data ?? started.error)}`);
  const missing = await client.GET("/app/{type}/{name}", { params: { path: { ...path, name: "no" } } });
  const code: components["schemas"]["ErrorCode"] | undefined =
    missing.error && "code" in missing.error ? missing.error.code : undefined;
  if (code !== "variable_missing") faults.push(`code ${code}`);
  const labelled = await client.PATCH("/app/{type}/{name}", { params: { path }, body: { user: "ann", n: 1 } });
  if (labelled.data?.status !== "Success") faults.push(`PATCH: ${JSON.stringify(labelled.error)}`);
  const stopped = await client.DELETE("/app/{type}/{name}", { params: { path, header: { Prefer: "wait=20" } } });
  if (stopped.data?.status !== "Success") faults.push(`DELETE: ${JSON.stringify(stopped)}`);
}

function resolved(value: Json): Json {
  while (value.$ref) {
    const parts: string[] = value.$ref.slice(2).split("/");
    value = parts.reduce((found: Json, part: string) => found[part], document);
  }
  return value;
}

interface Operation {
  path: string;
  method: string;
  about: Json;
}

const operations = new Map<string, Operation>();
for (const [path, item] of Object.entries<Json>(document.paths)) {
  for (const [method, about] of Object.entries<Json>(item)) {
    operations.set(about.operationId, { path, method, about });
  }
}

/** The value, with a text of that many bytes for each {"length": N}. */
function expanded(value: Json): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  if (isDeepStrictEqual(Object.keys(value), ["length"])) return "x".repeat(value.length);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, expanded(inner)]));
}

interface Wanted {
  what: string;
  id: string;
  given: Json;
  body?: Json;
  status: number;
  code?: string;
}

async function check(client: Client<paths>, wanted: Wanted, sent?: Json): Promise<void> {
  count += 1;
  let found: string | undefined;
  try {
    found = await fault(client, wanted, sent);
  } catch (error) {
    found = `raised ${error}`;
  }
  if (found) faults.push(`${wanted.what}: ${wanted.id} ${wanted.status} ${wanted.code ?? ""}: ${found.slice(0, 600)}`);
}

/** Why this is not the response that was wanted, or nothing. `sent`: the body, where it is known. */
async function fault(client: Client<paths>, wanted: Wanted, sent?: Json): Promise<string | undefined> {
  const { path, method, about } = operations.get(wanted.id)!;
  const params: Json = { path: {}, query: {}, header: {} };
  const known = about.parameters.map(resolved);
  for (const [name, value] of Object.entries(wanted.given)) {
    const parameter = known.find((one: Json) => one.name === name);
    if (!parameter) return `takes no ${name}`;
    params[parameter.in][name] = value;
  }
  const status = String(wanted.status) in about.responses ? String(wanted.status) : "default";
  const described = resolved(about.responses[status]);
  const media = Object.keys(described.content ?? {})[0];
  const parseAs = media === undefined || media === "application/json" ? "json" : "text";
  const call = client.request as unknown as Call;
  const { data, error, response } = await call(method, path, { params, body: wanted.body, parseAs });
  if (response.status !== wanted.status) return `status ${response.status}: ${JSON.stringify(data ?? error)}`;
  const parsed = response.ok ? data : error;
  if (method === "head" || media === undefined) return parsed ? `a body without a description: ${parsed}` : undefined;
  if (sent !== undefined && !isDeepStrictEqual(parsed, sent)) return `parsed to ${JSON.stringify(parsed)}`;
  const code = parsed?.code ?? parsed?.detail?.code;
  if (wanted.code !== undefined && code !== wanted.code) return `code ${code}`;
  const key = status === "default" ? '"default"' : status;
  const type = `operations["${wanted.id}"]["responses"][${key}]["content"]["${media}"]`;
  const name = `body${bodies.length}`;
  bodies.push(`// ${wanted.what}\nexport const ${name}: Received<${type}> = ${JSON.stringify(parsed)};`);
  return undefined;
}

interface Example {
  media?: string;
  value?: Json;
  code?: string;
}

/** The examples of a response; one without a body, if it has none. */
function examples(response: Json): Example[] {
  if (!response.content) return [{}];
  return Object.entries<Json>(response.content).flatMap(([media, content]) => {
    const values = Object.values<Json>(content.examples ?? {}).map((one) => one.value);
    if ("example" in content) values.push(content.example);
    return values.map((value) => ({ media, value, code: value.code ?? value.detail?.code }));
  });
}

async function onTheExamples(): Promise<void> {
  const codes: Json[] = document.components.schemas.ErrorCode["x-codes"];
  for (const [id, { method, about }] of operations) {
    const given = Object.fromEntries(about.parameters.map(resolved).map((one: Json) => [one.name, one.example]));
    const media: Json[] = Object.values(about.requestBody?.content ?? {});
    const sent: Json[] = media.flatMap((one) => Object.values<Json>(one.examples).map((example) => example.value));
    for (const [status, response] of Object.entries<Json>(about.responses)) {
      for (const { media, value, code } of examples(resolved(response))) {
        const ofCode = codes.find((one) => one.code === code)?.status[0] ?? 400;
        const number = status === "default" ? ofCode : Number(status);
        const text = typeof value === "string" ? value : JSON.stringify(value);
        const empty = media === undefined || method === "head";
        const answer = () => new Response(empty ? null : text, { status: number, headers: media ? { "Content-Type": media } : {} });
        const client = createClient<paths>({ baseUrl: "http://example", querySerializer, fetch: async () => answer() });
        for (const body of sent.length ? sent : [undefined]) {
          await check(client, { what: "example", id, given, body, status: number, code }, value);
        }
      }
    }
  }
}

const client = createClient<paths>({ baseUrl: url, querySerializer });
await asACallerWould(client);
for (const { operation, with: given, body, status, code } of requests) {
  await check(client, { what: "sandbox", id: operation, given: expanded(given ?? {}), body: expanded(body), status, code });
}
await onTheExamples();

// Index signatures are left out: TypeScript applies that of meta labels to the other fields, too,
// so that no value as a whole has such a type, though each of its fields reads as described.
writeFileSync(
  output,
  `import type { operations } from "./schema.js";
type Received<T> = T extends readonly (infer E)[] ? Received<E>[]
  : T extends object ? { [K in keyof T as string extends K ? never : K]: Received<T[K]> } & { [key: string]: unknown }
  : T;
${bodies.join("\n")}
`,
);
console.log(`TypeScript client: ${count} responses, ${faults.length} not parsed as described`);
for (const found of faults) console.log(found);
process.exit(faults.length ? 1 : 0);
