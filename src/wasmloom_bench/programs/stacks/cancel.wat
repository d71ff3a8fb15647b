;; Cancellation: n tasks, each suspended inside a block that must clean up. Every third is cancelled by an exception
;; thrown at its suspension, the others are resumed and end by themselves. A task that is cancelled adds 1000 times its
;; number and throws on, so that the canceller catches it; one that ends adds its number.
;; Answer: sum over t < n of (1000 t when t mod 3 = 0, else t).
(module
  (type $body (func (param i64)))
  (type $k0 (cont $body))
  (type $rest (func))
  (type $k (cont $rest))
  (tag $wait)
  (tag $cancel)
  (global $sum (mut i64) (i64.const 0))
  (table $tasks 0 (ref null $k))

  (func $task (param $number i64)
    (block $cancelled (result exnref)
      (try_table (catch_all_ref $cancelled)
        (suspend $wait)
        (global.set $sum (i64.add (global.get $sum) (local.get $number))))
      (return))
    (global.set $sum (i64.add (global.get $sum) (i64.mul (local.get $number) (i64.const 1000))))
    (throw_ref))
  (elem declare func $task)

  (func (export "run") (param $n i32) (result i64)
    (local $t i32)
    (local $k (ref null $k))
    (global.set $sum (i64.const 0))
    (if (i32.lt_u (table.size $tasks) (local.get $n))
      (then (drop (table.grow $tasks (ref.null $k) (i32.sub (local.get $n) (table.size $tasks))))))
    (block $started
      (loop $start
        (br_if $started (i32.eq (local.get $t) (local.get $n)))
        (block $waits (result (ref $k))
          (resume $k0 (on $wait $waits) (i64.extend_i32_u (local.get $t)) (cont.new $k0 (ref.func $task)))
          (unreachable))
        (local.set $k)
        (table.set $tasks (local.get $t) (local.get $k))
        (local.set $t (i32.add (local.get $t) (i32.const 1)))
        (br $start)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $t)))
        (local.set $t (i32.sub (local.get $t) (i32.const 1)))
        (local.set $k (table.get $tasks (local.get $t)))
        (table.set $tasks (local.get $t) (ref.null $k))
        (if (i32.rem_u (local.get $t) (i32.const 3))
          (then (resume $k (local.get $k)))
          (else
            (block $thrown
              (try_table (catch $cancel $thrown)
                (resume_throw $k $cancel (local.get $k)))
              (unreachable))))
        (br $next)))
    (global.get $sum)))
