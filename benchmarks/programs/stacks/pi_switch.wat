;; pi with tasks that switch to each other. Same answer.
(module
  (rec
    (type $body (func (param (ref null $k)) (result i64)))
    (type $k (cont $body)))
  (type $start (func (param i64 i32 (ref null $k)) (result i64)))
  (type $k0 (cont $start))
  (tag $swap (result i64))
  (table $tasks 100 (ref null $k))
  (global $current (mut i32) (i32.const 0))

  (func $random (param $x i64) (result i64)
    (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))

  (func $coordinate (param $x i64) (result f64)
    (f64.mul (f64.convert_i64_u (i64.shr_u (local.get $x) (i64.const 33))) (f64.const 0x1p-31)))

  ;; Gives the place of the next task that is not at its end to $current; the place it was, when there is no other.
  (func $advance
    (local $t i32)
    (local.set $t (global.get $current))
    (loop $next
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (if (i32.ge_u (local.get $t) (i32.const 100)) (then (local.set $t (i32.const 0))))
      (if (i32.ne (local.get $t) (global.get $current))
        (then (br_if $next (ref.is_null (table.get $tasks (local.get $t)))))))
    (global.set $current (local.get $t)))

  ;; The one that switched to us: its place is the last one that was current before ours.
  (func $task (param $x i64) (param $points i32) (param $before (ref null $k)) (result i64)
    (local $batch i32)
    (local $i i32)
    (local $a f64)
    (local $b f64)
    (local $inside i64)
    (call $keep (local.get $before))
    (loop $batches
      (local.set $i (local.get $points))
      (block $thrown
        (loop $throw
          (br_if $thrown (i32.eqz (local.get $i)))
          (local.set $x (call $random (local.get $x)))
          (local.set $a (call $coordinate (local.get $x)))
          (local.set $x (call $random (local.get $x)))
          (local.set $b (call $coordinate (local.get $x)))
          (local.set $inside
            (i64.add
              (local.get $inside)
              (i64.extend_i32_u
                (f64.lt
                  (f64.add (f64.mul (local.get $a) (local.get $a)) (f64.mul (local.get $b) (local.get $b)))
                  (f64.const 1)))))
          (local.set $i (i32.sub (local.get $i) (i32.const 1)))
          (br $throw)))
      (call $yield)
      (br_if $batches (i32.ne (local.tee $batch (i32.add (local.get $batch) (i32.const 1))) (i32.const 50))))
    (local.get $inside))
  (elem declare func $task)

  (global $left_place (mut i32) (i32.const 0))

  ;; Puts a task that was switched away from back into its place.
  (func $keep (param $k (ref null $k))
    (if (i32.eqz (ref.is_null (local.get $k)))
      (then (table.set $tasks (global.get $left_place) (local.get $k)))))

  (func $yield
    (local $place i32)
    (local.set $place (global.get $current))
    (call $advance)
    (if (i32.ne (local.get $place) (global.get $current))
      (then
        (global.set $left_place (local.get $place))
        (call $keep (switch $k $swap (table.get $tasks (global.get $current)))))))

  (func (export "run") (param $n i32) (result i64)
    (local $t i32)
    (local $sum i64)
    (loop $start
      (table.set $tasks (local.get $t)
        (cont.bind $k0 $k
          (i64.extend_i32_u (i32.add (local.get $t) (i32.const 1)))
          (local.get $n)
          (cont.new $k0 (ref.func $task))))
      (br_if $start (i32.ne (local.tee $t (i32.add (local.get $t) (i32.const 1))) (i32.const 100))))
    (local.set $t (i32.const 100))
    (global.set $current (i32.const 0))
    (loop $next
      (local.set $sum
        (i64.add
          (local.get $sum)
          (resume $k (on $swap switch) (ref.null $k) (table.get $tasks (global.get $current)))))
      ;; The task in the current place has ended, whichever was resumed.
      (table.set $tasks (global.get $current) (ref.null $k))
      (call $advance)
      (br_if $next (local.tee $t (i32.sub (local.get $t) (i32.const 1)))))
    (local.get $sum)))
