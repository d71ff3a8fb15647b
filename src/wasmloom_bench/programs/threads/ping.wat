;; Two threads that wake each other in turn: whose turn it is, is at 0.
(module
  (import "env" "memory" (memory 1 1 shared))
  (func (export "work") (param $number i32) (param $threads i32) (param $rounds i32)
    (loop $again
      (block $mine
        (loop $wait
          (br_if $mine (i32.eq (i32.atomic.load (i32.const 0)) (local.get $number)))
          (drop (memory.atomic.wait32 (i32.const 0) (i32.sub (i32.const 1) (local.get $number)) (i64.const -1)))
          (br $wait)))
      (i32.atomic.store (i32.const 0) (i32.sub (i32.const 1) (local.get $number)))
      (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (drop (i64.atomic.rmw.add (i32.const 8) (i64.const 1)))))
