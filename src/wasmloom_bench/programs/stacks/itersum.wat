;; A generator of 0, 1, ... n-1, and a consumer that adds them up. Answer: n(n-1)/2.
(module
  (type $start (func (param i64)))
  (type $rest (func))
  (type $k0 (cont $start))
  (type $k (cont $rest))
  (tag $yield (param i64))

  (func $range (param $end i64)
    (local $i i64)
    (block $done
      (loop $next
        (br_if $done (i64.ge_u (local.get $i) (local.get $end)))
        (suspend $yield (local.get $i))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $next))))
  (elem declare func $range)

  (func (export "run") (param $n i32) (result i64)
    (local $sum i64)
    (local $k (ref null $k))
    (block $first (result i64 (ref $k))
      (resume $k0 (on $yield $first) (i64.extend_i32_u (local.get $n)) (cont.new $k0 (ref.func $range)))
      (return (i64.const 0)))
    (loop $next (param i64 (ref $k))
      (local.set $k)
      (local.set $sum (i64.add (local.get $sum)))
      (resume $k (on $yield $next) (local.get $k)))
    (local.get $sum)))
