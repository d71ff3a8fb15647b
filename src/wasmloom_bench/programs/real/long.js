function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) }
class Vec { constructor(x, y) { this.x = x; this.y = y } add(o) { return new Vec(this.x + o.x, this.y + o.y) } }
let s = 0
for (let i = 0; i < 4000000; i++) s = (s * 31 + i) % 1000007
let v = new Vec(0, 0)
for (let i = 0; i < 400000; i++) v = v.add(new Vec(i % 7, i % 11))
const words = []
for (let i = 0; i < 100000; i++) words.push((i * 7919 % 100003).toString(36))
words.sort()
const count = {}
for (const w of words) count[w[0]] = (count[w[0]] || 0) + 1
console.log(fib(27), s, v.x, v.y, words[0], words[99999], JSON.stringify(count), "x".repeat(1000).replace(/x/g, "yz").length)
