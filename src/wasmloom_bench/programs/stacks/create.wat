;; The price of a continuation that lives shortly. `run` creates n of them, one after the other, and each returns what it
;; is resumed with; in `suspended` each suspends once before that; `called` does the same by plain calls, through a
;; reference that the engine can't know. Answer: the sum of the numbers below n.
(module
  (type $body (func (param i64) (result i64)))
  (type $k (cont $body))
  (tag $pause (param i64) (result i64))
  (global $callee (mut (ref $body)) (ref.func $identity))

  (func $identity (type $body) (local.get 0))
  (func $pausing (type $body) (suspend $pause (local.get 0)))
  (elem declare func $identity $pausing)

  (func (export "run") (param $n i32) (result i64)
    (local $i i64)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i64.eq (local.get $i) (i64.extend_i32_u (local.get $n))))
        (local.set $sum
          (i64.add
            (local.get $sum)
            (resume $k (local.get $i) (cont.new $k (ref.func $identity)))))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $next)))
    (local.get $sum))

  (func (export "suspended") (param $n i32) (result i64)
    (local $i i64)
    (local $sum i64)
    (local $k (ref null $k))
    (block $done
      (loop $next
        (br_if $done (i64.eq (local.get $i) (i64.extend_i32_u (local.get $n))))
        (block $paused (result i64 (ref $k))
          (resume $k (on $pause $paused) (local.get $i) (cont.new $k (ref.func $pausing)))
          (unreachable))
        (local.set $k)
        (local.set $sum (i64.add (local.get $sum) (resume $k (local.get $k))))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $next)))
    (local.get $sum))

  (func (export "called") (param $n i32) (result i64)
    (local $i i64)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i64.eq (local.get $i) (i64.extend_i32_u (local.get $n))))
        (local.set $sum
          (i64.add (local.get $sum) (call_ref $body (local.get $i) (global.get $callee))))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $next)))
    (local.get $sum)))
