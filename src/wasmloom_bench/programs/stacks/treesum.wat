;; A recursive walk over a full binary tree of height n that yields each leaf: every suspension is n calls deep.
;; The leaves are numbered from left to right. Answer: 2^n (2^n - 1) / 2.
(module
  (type $start (func (param i32 i64)))
  (type $rest (func))
  (type $k0 (cont $start))
  (type $k (cont $rest))
  (tag $yield (param i64))

  (func $walk (param $height i32) (param $number i64)
    (if (i32.eqz (local.get $height))
      (then (suspend $yield (local.get $number)))
      (else
        (local.set $height (i32.sub (local.get $height) (i32.const 1)))
        (local.set $number (i64.shl (local.get $number) (i64.const 1)))
        (call $walk (local.get $height) (local.get $number))
        (call $walk (local.get $height) (i64.add (local.get $number) (i64.const 1))))))
  (elem declare func $walk)

  (func (export "run") (param $n i32) (result i64)
    (local $sum i64)
    (local $k (ref null $k))
    (block $first (result i64 (ref $k))
      (resume $k0 (on $yield $first) (local.get $n) (i64.const 0) (cont.new $k0 (ref.func $walk)))
      (unreachable))
    (loop $next (param i64 (ref $k))
      (local.set $k)
      (local.set $sum (i64.add (local.get $sum)))
      (resume $k (on $yield $next) (local.get $k)))
    (local.get $sum)))
