function fib(n){return n<2?n:fib(n-1)+fib(n-2)}
let s=0; for(let i=0;i<200000;i++){s=(s*31+i)%1000007}
let o={}; for(let i=0;i<20000;i++){o['k'+i%500]=i}
console.log(fib(20), s, Object.keys(o).length, JSON.stringify([1,2,{a:3}]));
