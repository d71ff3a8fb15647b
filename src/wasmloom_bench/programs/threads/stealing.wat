;; Tasks that beget tasks: one of size n makes two of n - 1, and one of size 0 computes. Each thread has a stack of
;; its own, with a lock, and takes from the others when it is empty. At 0: tasks that are left; at 4: whether there were
;; any; at 8: the sum of what they have computed. The stack of thread k is at 4096 * (k + 1): lock, height (64 bytes
;; behind it), tasks (128).
(module
  (import "env" "memory" (memory 1 1 shared))
  (func $lock (param $at i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (i32.atomic.rmw.xchg (local.get $at) (i32.const 1))))
        (loop $wait (br_if $wait (i32.atomic.load (local.get $at))))
        (br $again))))
  (func $unlock (param $at i32)
    (i32.atomic.store (local.get $at) (i32.const 0)))
  (func $push (param $at i32) (param $size i32)
    (local $height i32)
    (call $lock (local.get $at))
    (local.set $height (i32.load offset=64 (local.get $at)))
    (i32.store offset=128 (i32.add (local.get $at) (i32.shl (local.get $height) (i32.const 2))) (local.get $size))
    (i32.store offset=64 (local.get $at) (i32.add (local.get $height) (i32.const 1)))
    (call $unlock (local.get $at)))
  ;; The size of the task on top, or -1. A look without the lock saves most locks of the empty.
  (func $pop (param $at i32) (result i32)
    (local $height i32) (local $size i32)
    (local.set $size (i32.const -1))
    (if (i32.eqz (i32.atomic.load offset=64 (local.get $at))) (then (return (i32.const -1))))
    (call $lock (local.get $at))
    (if (local.tee $height (i32.load offset=64 (local.get $at)))
      (then
        (local.set $height (i32.sub (local.get $height) (i32.const 1)))
        (i32.store offset=64 (local.get $at) (local.get $height))
        (local.set $size
          (i32.load offset=128 (i32.add (local.get $at) (i32.shl (local.get $height) (i32.const 2)))))))
    (call $unlock (local.get $at))
    (local.get $size))
  (func $compute (param $x i64) (result i64)
    (local $n i32)
    (local.set $n (i32.const 200))
    (loop $again
      (local.set $x (i64.rem_u (i64.add (i64.mul (local.get $x) (i64.const 31)) (i64.const 7)) (i64.const 65521)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))
  (func (export "work") (param $number i32) (param $threads i32) (param $size i32)
    (local $own i32) (local $from i32) (local $task i32) (local $sum i64)
    (local.set $own (i32.mul (i32.add (local.get $number) (i32.const 1)) (i32.const 4096)))
    (if (i32.eqz (local.get $number))
      (then
        (call $push (local.get $own) (local.get $size))
        (i32.atomic.store (i32.const 0) (i32.const 1))
        (i32.atomic.store (i32.const 4) (i32.const 1))))
    (loop $begin (br_if $begin (i32.eqz (i32.atomic.load (i32.const 4)))))
    (local.set $from (local.get $number))
    (block $done
      (loop $again
        (local.set $task (call $pop (i32.mul (i32.add (local.get $from) (i32.const 1)) (i32.const 4096))))
        (if (i32.ge_s (local.get $task) (i32.const 0))
          (then
            (local.set $from (local.get $number))
            (if (local.get $task)
              (then
                (local.set $task (i32.sub (local.get $task) (i32.const 1)))
                (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
                (call $push (local.get $own) (local.get $task))
                (call $push (local.get $own) (local.get $task)))
              (else
                (local.set $sum (i64.add (local.get $sum) (call $compute (i64.extend_i32_u (local.get $size)))))
                (drop (i32.atomic.rmw.sub (i32.const 0) (i32.const 1)))))
            (br $again)))
        (br_if $done (i32.eqz (i32.atomic.load (i32.const 0))))
        (local.set $from (i32.rem_u (i32.add (local.get $from) (i32.const 1)) (local.get $threads)))
        (br $again)))
    (drop (i64.atomic.rmw.add (i32.const 8) (local.get $sum)))))
