// Runs one module in V8: node --experimental-wasm-wasmfx v8.mjs FILE SIZE ROUNDS
// Prints JSON: the answer of run(SIZE) as a decimal string (unsigned), and the seconds of each round.
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";

const [file, size, rounds] = process.argv.slice(2);
const module = await WebAssembly.compile(readFileSync(file));
const seconds = [];
let answer;
for (let round = 0; round < Number(rounds); round++) {
  const instance = await WebAssembly.instantiate(module, {});
  const start = performance.now();
  answer = instance.exports.run(Number(size));
  seconds.push((performance.now() - start) / 1000);
}
console.log(JSON.stringify({ answer: BigInt.asUintN(64, answer).toString(), seconds }));
