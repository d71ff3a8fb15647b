;; Round robin: ten workers share n turns. Worker w adds (w + 1) times the number of the turn to a sum, then yields to
;; the scheduler, which puts it at the end of the queue. Answer: the sum of (t mod 10 + 1) t for t < n.
(module
  (type $body (func))
  (type $k (cont $body))
  (type $start (func (param i64 i32)))
  (type $k0 (cont $start))
  (tag $yield)
  (global $turn (mut i64) (i64.const 0))
  (global $sum (mut i64) (i64.const 0))
  ;; A ring: more places than workers. Both positions count up, their low four bits are the place.
  (table $queue 16 (ref null $k))
  (global $front (mut i32) (i32.const 0))
  (global $back (mut i32) (i32.const 0))

  (func $enqueue (param $k (ref null $k))
    (table.set $queue (i32.and (global.get $back) (i32.const 15)) (local.get $k))
    (global.set $back (i32.add (global.get $back) (i32.const 1))))

  (func $dequeue (result (ref null $k))
    (table.get $queue (i32.and (global.get $front) (i32.const 15)))
    (global.set $front (i32.add (global.get $front) (i32.const 1))))

  (func $worker (param $weight i64) (param $turns i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $turns)))
        (global.set $sum (i64.add (global.get $sum) (i64.mul (local.get $weight) (global.get $turn))))
        (global.set $turn (i64.add (global.get $turn) (i64.const 1)))
        (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
        (suspend $yield)
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
        (block $yielded (result (ref $k))
          (resume $k (on $yield $yielded) (call $dequeue))
          (br $next))
        (call $enqueue)
        (br $next)))
    (global.get $sum)))
