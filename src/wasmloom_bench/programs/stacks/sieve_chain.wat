;; The sieve as a chain of generators: the numbers from 2 on, and a filter for each prime that draws from the one
;; before it. A value passes through all filters, each of which is a parent of the next: n stacks deep.
;; Answer: the sum of the first n primes.
(module
  (type $rest (func))
  (type $k (cont $rest))
  (type $filter_body (func (param i32 (ref null $k))))
  (type $filter (cont $filter_body))
  (tag $yield (param i32))

  (func $naturals
    (local $i i32)
    (local.set $i (i32.const 2))
    (loop $next
      (suspend $yield (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))

  (func $filter (param $prime i32) (param $source (ref null $k))
    (local $value i32)
    (loop $next
      (block $drawn (result i32 (ref $k))
        (resume $k (on $yield $drawn) (local.get $source))
        (unreachable))
      (local.set $source)
      (local.set $value)
      (br_if $next (i32.eqz (i32.rem_u (local.get $value) (local.get $prime))))
      (suspend $yield (local.get $value))
      (br $next)))
  (elem declare func $naturals $filter)

  (func (export "run") (param $n i32) (result i64)
    (local $source (ref null $k))
    (local $prime i32)
    (local $sum i64)
    (local.set $source (cont.new $k (ref.func $naturals)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (block $drawn (result i32 (ref $k))
          (resume $k (on $yield $drawn) (local.get $source))
          (unreachable))
        (local.set $source)
        (local.set $prime)
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $prime))))
        (local.set $source
          (cont.bind $filter $k (local.get $prime) (local.get $source) (cont.new $filter (ref.func $filter))))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (local.get $sum)))
