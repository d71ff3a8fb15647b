// Runs one module in Node.js, for remote.py: commands in JSON from standard input, one per line, each with a
// reply, also one line.
// Whatever a guest prints is discarded, so that standard output carries only replies.
//
//   {do: "hello"}                                → {version, clock}
//   {do: "compile", file}                        → {seconds}            elapsed time; replaces the module
//   {do: "instantiate", clocks, arguments}       → {seconds}            elapsed time; replaces the instance
//   {do: "call", name, arguments, count}         → {results, seconds}   of the last of `count` calls; time of all
//   {do: "start"}                                → {status, seconds}    runs _start once
//   {do: "read", address, size}                  → {data}
//   {do: "write", address, data}                 → {}
//
// `clocks` are imports that count milliseconds of processor time, [module, name, haste]: they go `haste` times as fast.
// Arguments are sent as [type, text] with the types i32, i64, f32, f64, results come back as text. `data` is in base64.
// What goes wrong comes back as {error, trap}.
import { openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { WASI } from "node:wasi";

const discard = openSync("/dev/null", "r+");
// Processor time of this thread, so that neither other processes nor V8's compiling threads count. In seconds.
// The kernel brings a thread's time up to date when it is asked for the process's, else only once per timer tick.
const threadClock = typeof process.threadCpuUsage === "function";
const clock = () => {
  if (!threadClock) return performance.now() / 1000;
  process.cpuUsage();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1e6;
};

let module, instance, wasi;

const toWasm = ([type, text]) => (type === "i64" ? BigInt(text) : Number(text));
const fromWasm = (value) => (Object.is(value, -0) ? "-0" : String(value));
const memory = (address, size) => Buffer.from(instance.exports.memory.buffer, address, size);

const commands = {
  hello: () => ({
    version: `${process.versions.v8} (Node.js ${process.version})`,
    clock: threadClock ? "the thread's processor time" : "elapsed time",
  }),
  compile({ file }) {
    const bytes = readFileSync(file);
    const start = performance.now();
    module = new WebAssembly.Module(bytes);
    return { seconds: (performance.now() - start) / 1000 };
  },
  instantiate({ clocks = [], arguments: args = [] }) {
    const imports = {};
    for (const [space, name, haste] of clocks) {
      const start = clock();
      (imports[space] ??= {})[name] = () => ((clock() - start) * 1000 * haste) | 0;
    }
    wasi = undefined;
    for (const { module: space, name, kind } of WebAssembly.Module.imports(module)) {
      if (space === "wasi_snapshot_preview1") {
        wasi ??= new WASI({ version: "preview1", args, stdin: discard, stdout: discard, stderr: discard });
        imports[space] = wasi.wasiImport;
      } else if (!(name in (imports[space] ?? {}))) {
        throw new Error(`it imports the ${kind} ${space}.${name}, which can't be provided here`);
      }
    }
    const start = performance.now();
    instance = new WebAssembly.Instance(module, imports);
    return { seconds: (performance.now() - start) / 1000 };
  },
  call({ name, arguments: args, count }) {
    const f = instance.exports[name];
    const values = args.map(toWasm);
    let result;
    const start = clock();
    for (let i = 0; i < count; i++) result = f(...values);
    const seconds = clock() - start;
    const results = result === undefined ? [] : Array.isArray(result) ? result : [result];
    return { results: results.map(fromWasm), seconds };
  },
  start() {
    wasi ??= new WASI({ version: "preview1", stdin: discard, stdout: discard, stderr: discard });
    const start = clock();
    const status = wasi.start(instance);
    return { status, seconds: clock() - start };
  },
  read: ({ address, size }) => ({ data: memory(address, size).toString("base64") }),
  write({ address, data }) {
    const bytes = Buffer.from(data, "base64");
    bytes.copy(memory(address, bytes.length));
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let reply;
  try {
    reply = commands[command.do](command);
  } catch (error) {
    const trap = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
    reply = { error: String(error), trap };
  }
  process.stdout.write(JSON.stringify(reply) + "\n");
}
