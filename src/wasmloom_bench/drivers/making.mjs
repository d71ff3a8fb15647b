// Compiles one module in a process of its own, and prints the seconds of processor time, for suites/compile.py.
//     node --liftoff-only --no-wasm-lazy-compilation --single-threaded making.mjs FILE
import fs from "node:fs";

const data = fs.readFileSync(process.argv[2]);
// What is set up at the first use isn't counted: a module with an empty function.
new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 4, 1, 2, 0, 11));
const before = process.cpuUsage();
new WebAssembly.Module(data);
const used = process.cpuUsage(before);
console.log(JSON.stringify({ seconds: (used.user + used.system) / 1e6 }));
