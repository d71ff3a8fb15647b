;; Pipes: two continuations coupled by a handler, `send` of the one answers `receive` of the other. The pipeline is
;; odd numbers | terms of Leibniz' series in units of 10^-15 | their sum, n terms; the first and second are coupled to
;; one stage, which is coupled to the third. Answer: sum over i < n of (-1)^i (10^15 div (2i + 1)).
(module
  (type $producer (func (result i64)))
  (type $p (cont $producer))
  (type $consumer (func (param i64) (result i64)))
  (type $c (cont $consumer))
  (tag $send (param i64))
  (tag $receive (result i64))

  (func $odd (result i64)
    (local $i i64)
    (local.set $i (i64.const 1))
    (loop $next
      (suspend $send (local.get $i))
      (local.set $i (i64.add (local.get $i) (i64.const 2)))
      (br $next))
    (unreachable))

  ;; A value that starts it isn't needed: consumers start on an i64 like any that waits in `receive`.
  (func $terms (param $ignored i64) (result i64)
    (local $scale i64)
    (local.set $scale (i64.const 1_000_000_000_000_000))
    (loop $next
      (suspend $send (i64.div_s (local.get $scale) (suspend $receive)))
      (local.set $scale (i64.sub (i64.const 0) (local.get $scale)))
      (br $next))
    (unreachable))

  (func $sum (param $left i64) (result i64)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $left)))
        (local.set $sum (i64.add (local.get $sum) (suspend $receive)))
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br $next)))
    (local.get $sum))

  ;; Runs the consumer on `first`, then whatever the producer sends. A consumer that sends is itself a producer for
  ;; someone further out: that `send` passes through this handler. Ends when either ends.
  (func $pipe (param $producer (ref null $p)) (param $consumer (ref null $c)) (param $value i64) (result i64)
    (loop $next
      (block $received (result (ref $c))
        (return (resume $c (on $receive $received) (local.get $value) (local.get $consumer))))
      (local.set $consumer)
      (block $sent (result i64 (ref $p))
        (return (resume $p (on $send $sent) (local.get $producer))))
      (local.set $producer)
      (local.set $value)
      (br $next))
    (unreachable))

  (func $odd_to_terms (result i64)
    (call $pipe (cont.new $p (ref.func $odd)) (cont.new $c (ref.func $terms)) (i64.const 0)))
  (elem declare func $odd $terms $sum $odd_to_terms)

  (func (export "run") (param $n i32) (result i64)
    (call $pipe
      (cont.new $p (ref.func $odd_to_terms))
      (cont.new $c (ref.func $sum))
      (i64.extend_i32_u (local.get $n)))))
