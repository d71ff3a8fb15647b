;; Async and await. Task t of n sums t, t+1, ... t+9, yielding after each addition, and fulfils its promise; the main
;; task starts all of them, then awaits them from the last to the first. A scheduler with a queue of what can run, and
;; promises with one observer each, handles four tags. Answer: sum over t of (sum of task t) (t + 1), modulo 2^64.
(module
  (type $run (func))
  (type $k (cont $run))
  (type $with_promise (func (param i32)))
  (type $kp (cont $with_promise))
  (type $with_value (func (param i64)))
  (type $kv (cont $with_value))
  (type $task (func (param i64 i32)))
  (type $kt (cont $task))
  (type $main (func (param i32)))
  (type $km (cont $main))

  (tag $yield)
  (tag $fulfil (param i32 i64))
  (tag $async (param (ref $kp)) (result i32))
  (tag $await (param i32) (result i64))

  (global $answer (mut i64) (i64.const 0))

  ;; What can run: a table used from front to back, moved down when it is full.
  (table $queue 16 (ref null $k))
  (global $front (mut i32) (i32.const 0))
  (global $back (mut i32) (i32.const 0))

  (func $enqueue (param $k (ref null $k))
    (if (i32.eq (global.get $back) (table.size $queue))
      (then
        (if (i32.lt_u (global.get $front) (i32.shr_u (table.size $queue) (i32.const 1)))
          (then (drop (table.grow $queue (ref.null $k) (table.size $queue))))
          (else
            (table.copy $queue $queue
              (i32.const 0) (global.get $front) (i32.sub (global.get $back) (global.get $front)))
            (global.set $back (i32.sub (global.get $back) (global.get $front)))
            (table.fill $queue (global.get $back) (ref.null $k) (global.get $front))
            (global.set $front (i32.const 0))))))
    (table.set $queue (global.get $back) (local.get $k))
    (global.set $back (i32.add (global.get $back) (i32.const 1))))

  (func $dequeue (result (ref null $k))
    (if (i32.eq (global.get $front) (global.get $back)) (then (return (ref.null $k))))
    (table.get $queue (global.get $front))
    (table.set $queue (global.get $front) (ref.null $k))
    (global.set $front (i32.add (global.get $front) (i32.const 1))))

  ;; Promises: 16 bytes each, whether it is fulfilled and the value; the observer is in a table.
  (memory 1)
  (table $observers 0 (ref null $kv))

  (func $promise (result i32)
    (local $p i32)
    (local.set $p (table.grow $observers (ref.null $kv) (i32.const 1)))
    (if (i32.ge_u
          (i32.mul (i32.add (local.get $p) (i32.const 1)) (i32.const 16))
          (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.const 1)))))
    (local.get $p))

  (func $worker (param $i i64) (param $promise i32)
    (local $sum i64)
    (local $end i64)
    (local.set $end (i64.add (local.get $i) (i64.const 10)))
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (local.get $i)))
      (suspend $yield)
      (br_if $next (i64.ne (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $end))))
    (suspend $fulfil (local.get $promise) (local.get $sum)))

  (func $main (param $n i32)
    (local $t i32)
    (local $p i32)
    (local $first i32)
    (block $started
      (loop $start
        (br_if $started (i32.eq (local.get $t) (local.get $n)))
        (local.set $p
          (suspend $async
            (cont.bind $kt $kp (i64.extend_i32_u (local.get $t)) (cont.new $kt (ref.func $worker)))))
        (if (i32.eqz (local.get $t)) (then (local.set $first (local.get $p))))
        (local.set $t (i32.add (local.get $t) (i32.const 1)))
        (br $start)))
    (block $done
      (loop $wait
        (br_if $done (i32.eqz (local.get $t)))
        (local.set $t (i32.sub (local.get $t) (i32.const 1)))
        (global.set $answer
          (i64.add
            (global.get $answer)
            (i64.mul
              (suspend $await (i32.add (local.get $first) (local.get $t)))
              (i64.extend_i32_u (i32.add (local.get $t) (i32.const 1))))))
        (br $wait))))
  (elem declare func $worker $main)

  (func (export "run") (param $n i32) (result i64)
    (local $next (ref null $k))
    (local $with_promise (ref null $kp))
    (local $task (ref null $kp))
    (local $with_value (ref null $kv))
    (local $p i32)
    (local $value i64)
    (global.set $answer (i64.const 0))
    (local.set $next (cont.bind $km $k (local.get $n) (cont.new $km (ref.func $main))))
    (block $idle
      (loop $schedule
        (br_if $idle (ref.is_null (local.get $next)))
        (block $on_yield (result (ref $k))
          (block $on_fulfil (result i32 i64 (ref $k))
            (block $on_async (result (ref $kp) (ref $kp))
              (block $on_await (result i32 (ref $kv))
                (resume $k
                  (on $yield $on_yield) (on $fulfil $on_fulfil) (on $async $on_async) (on $await $on_await)
                  (local.get $next))
                (local.set $next (call $dequeue))
                (br $schedule))
              (local.set $with_value)
              (local.set $p)
              (if (i32.load (i32.mul (local.get $p) (i32.const 16)))
                (then
                  (local.set $next
                    (cont.bind $kv $k
                      (i64.load offset=8 (i32.mul (local.get $p) (i32.const 16)))
                      (local.get $with_value))))
                (else
                  (table.set $observers (local.get $p) (local.get $with_value))
                  (local.set $next (call $dequeue))))
              (br $schedule))
            (local.set $with_promise)
            (local.set $task)
            ;; The new task runs at once, its parent when its turn comes.
            (local.set $p (call $promise))
            (call $enqueue (cont.bind $kp $k (local.get $p) (local.get $with_promise)))
            (local.set $next (cont.bind $kp $k (local.get $p) (local.get $task)))
            (br $schedule))
          (local.set $next)
          (local.set $value)
          (local.set $p)
          (i64.store offset=8 (i32.mul (local.get $p) (i32.const 16)) (local.get $value))
          (i32.store (i32.mul (local.get $p) (i32.const 16)) (i32.const 1))
          (local.set $with_value (table.get $observers (local.get $p)))
          (if (i32.eqz (ref.is_null (local.get $with_value)))
            (then
              (call $enqueue (cont.bind $kv $k (local.get $value) (local.get $with_value)))
              (table.set $observers (local.get $p) (ref.null $kv))))
          (br $schedule))
        (call $enqueue)
        (local.set $next (call $dequeue))
        (br $schedule)))
    (global.get $answer)))
