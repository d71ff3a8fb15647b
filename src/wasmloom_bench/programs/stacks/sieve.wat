;; The first n primes (n > 0): one continuation per prime, each is sent the candidates and answers whether its prime
;; divides them. A candidate that nobody divides gets a filter of its own. Answer: the sum of the primes.
(module
  (type $body (func (param i32)))
  (type $k (cont $body))
  (tag $answer (param i32) (result i32))
  (table $filters 1 (ref null $k))

  (func $filter (param $prime i32)
    (local $candidate i32)
    (local.set $candidate (suspend $answer (i32.const 0)))
    (block $shut
      (loop $next
        (br_if $shut (i32.eqz (local.get $candidate)))
        (local.set $candidate
          (suspend $answer (i32.eqz (i32.rem_u (local.get $candidate) (local.get $prime)))))
        (br $next))))
  (elem declare func $filter)

  ;; Sends a value to a filter and keeps what is left of it.
  (func $send (param $index i32) (param $value i32) (result i32)
    (local $k (ref null $k))
    (block $answered (result i32 (ref $k))
      (resume $k (on $answer $answered) (local.get $value) (table.get $filters (local.get $index)))
      (return (i32.const -1)))
    (local.set $k)
    (table.set $filters (local.get $index) (local.get $k)))

  (func (export "run") (param $n i32) (result i64)
    (local $candidate i32)
    (local $found i32)
    (local $i i32)
    (local $sum i64)
    (if (i32.lt_u (table.size $filters) (local.get $n))
      (then
        (drop (table.grow $filters (ref.null $k) (i32.sub (local.get $n) (table.size $filters))))))
    (local.set $candidate (i32.const 2))
    (loop $candidates
      (local.set $i (i32.const 0))
      (block $composite
        (block $prime
          (loop $try
            (br_if $prime (i32.eq (local.get $i) (local.get $found)))
            (br_if $composite (call $send (local.get $i) (local.get $candidate)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $try)))
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $candidate))))
        (table.set $filters (local.get $found) (cont.new $k (ref.func $filter)))
        (drop (call $send (local.get $found) (local.get $candidate)))
        (local.set $found (i32.add (local.get $found) (i32.const 1))))
      (local.set $candidate (i32.add (local.get $candidate) (i32.const 1)))
      (br_if $candidates (i32.lt_u (local.get $found) (local.get $n))))
    (loop $shut
      (local.set $found (i32.sub (local.get $found) (i32.const 1)))
      (drop (call $send (local.get $found) (i32.const 0)))
      (br_if $shut (local.get $found)))
    (local.get $sum)))
