// Runs one program from its start to its end in Node.js, for suites/real.py: the plan that whole.py describes,
// without `code`.
//
//   node drivers/whole.mjs PLAN
import { readFileSync, writeSync } from "node:fs";
import { WASI } from "node:wasi";

process.on("uncaughtException", (error) => {
  console.error(String(error));
  process.exit(1);
});

const plan = JSON.parse(process.argv[2]);
const module = new WebAssembly.Module(readFileSync(plan.wasm));
const wasi = new WASI({ version: "preview1", args: plan.arguments, preopens: plan.directories, returnOnExit: true });
const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });

if (plan.call) {
  // Node.js lets only a program or a reactor use its WASI: this is a reactor without anything to initialise.
  wasi.initialize({ exports: { memory: instance.exports.memory } });
  const { memory, malloc, [plan.call]: run } = instance.exports;
  const pointers = plan.texts.map((text) => {
    const data = Buffer.from(text + "\0");
    const address = malloc(data.length);
    data.copy(Buffer.from(memory.buffer, address, data.length));
    return address;
  });
  const length = malloc(4);
  const result = run(...pointers, length);
  const size = new DataView(memory.buffer).getUint32(length, true);
  let data = Buffer.from(memory.buffer, result, size);
  while (data.length) data = data.subarray(writeSync(1, data));
} else {
  process.exitCode = wasi.start(instance);
}
