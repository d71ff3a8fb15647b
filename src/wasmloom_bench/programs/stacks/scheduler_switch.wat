;; The scheduler inlined into the workers: a worker takes the next one from the queue and switches to it, and whoever
;; is switched to puts the one before into the queue. Same order, half the switches, same answer as scheduler.
(module
  (rec
    (type $body (func (param (ref null $k))))
    (type $k (cont $body)))
  (type $start (func (param i64 i32 (ref null $k))))
  (type $k0 (cont $start))
  (tag $swap)
  (global $turn (mut i64) (i64.const 0))
  (global $sum (mut i64) (i64.const 0))
  (table $queue 16 (ref null $k))
  (global $front (mut i32) (i32.const 0))
  (global $back (mut i32) (i32.const 0))

  (func $enqueue (param $k (ref null $k))
    (table.set $queue (i32.and (global.get $back) (i32.const 15)) (local.get $k))
    (global.set $back (i32.add (global.get $back) (i32.const 1))))

  (func $dequeue (result (ref null $k))
    (table.get $queue (i32.and (global.get $front) (i32.const 15)))
    (global.set $front (i32.add (global.get $front) (i32.const 1))))

  (func $worker (param $weight i64) (param $turns i32) (param $before (ref null $k))
    (block $done
      (loop $next
        ;; Null when the worker before has ended, or when there is no other.
        (if (i32.eqz (ref.is_null (local.get $before))) (then (call $enqueue (local.get $before))))
        (br_if $done (i32.eqz (local.get $turns)))
        (global.set $sum (i64.add (global.get $sum) (i64.mul (local.get $weight) (global.get $turn))))
        (global.set $turn (i64.add (global.get $turn) (i64.const 1)))
        (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
        (if (i32.eq (global.get $front) (global.get $back))
          (then (local.set $before (ref.null $k)))
          (else (local.set $before (switch $k $swap (call $dequeue)))))
        (br $next))))
  (elem declare func $worker)

  (func (export "run") (param $n i32) (result i64)
    (local $w i32)
    (global.set $turn (i64.const 0))
    (global.set $sum (i64.const 0))
    (loop $start
      (call $enqueue
        (cont.bind $k0 $k
          (i64.extend_i32_u (i32.add (local.get $w) (i32.const 1)))
          (i32.div_u (i32.sub (i32.add (local.get $n) (i32.const 9)) (local.get $w)) (i32.const 10))
          (cont.new $k0 (ref.func $worker))))
      (br_if $start (i32.ne (local.tee $w (i32.add (local.get $w) (i32.const 1))) (i32.const 10))))
    (block $all_done
      (loop $next
        (br_if $all_done (i32.eq (global.get $front) (global.get $back)))
        (resume $k (on $swap switch) (ref.null $k) (call $dequeue))
        (br $next)))
    (global.get $sum)))
