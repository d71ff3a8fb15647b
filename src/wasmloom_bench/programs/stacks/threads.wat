;; Light-weight threads with `fork` and `yield`. A thread at depth d > 0 writes its number, forks thread 2i, yields,
;; forks thread 2i + 1, yields, and writes its number again; one at depth 0 writes its number and ends. The new thread
;; waits in the queue, the parent goes on. The root is thread 1, at depth n. Answer: the log as a polynomial:
;; log = 31 log + number, modulo 2^64.
(module
  (type $thread (func))
  (type $k (cont $thread))
  (type $start (func (param i32 i64)))
  (type $k0 (cont $start))
  (tag $yield)
  (tag $fork (param (ref $k)))
  (global $log (mut i64) (i64.const 0))

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
    (table.get $queue (global.get $front))
    (table.set $queue (global.get $front) (ref.null $k))
    (global.set $front (i32.add (global.get $front) (i32.const 1))))

  (func $write (param $number i64)
    (global.set $log (i64.add (i64.mul (global.get $log) (i64.const 31)) (local.get $number))))

  (func $new (param $depth i32) (param $number i64) (result (ref $k))
    (cont.bind $k0 $k (local.get $depth) (local.get $number) (cont.new $k0 (ref.func $body))))

  (func $body (param $depth i32) (param $number i64)
    (call $write (local.get $number))
    (if (i32.eqz (local.get $depth)) (then (return)))
    (local.set $depth (i32.sub (local.get $depth) (i32.const 1)))
    (suspend $fork (call $new (local.get $depth) (i64.mul (local.get $number) (i64.const 2))))
    (suspend $yield)
    (suspend $fork
      (call $new (local.get $depth) (i64.add (i64.mul (local.get $number) (i64.const 2)) (i64.const 1))))
    (suspend $yield)
    (call $write (local.get $number)))
  (elem declare func $body)

  (func (export "run") (param $n i32) (result i64)
    (local $next (ref null $k))
    (global.set $log (i64.const 0))
    (call $enqueue (call $new (local.get $n) (i64.const 1)))
    (block $all_done
      (loop $schedule
        (br_if $all_done (i32.eq (global.get $front) (global.get $back)))
        (local.set $next (call $dequeue))
        (loop $same
          (block $on_yield (result (ref $k))
            (block $on_fork (result (ref $k) (ref $k))
              (resume $k (on $yield $on_yield) (on $fork $on_fork) (local.get $next))
              (br $schedule))
            (local.set $next)
            (call $enqueue)
            (br $same))
          (call $enqueue)
          (br $schedule))))
    (global.get $log)))
