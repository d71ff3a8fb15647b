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

  (func $task (param $x i64) (param $batches i32) (param $before (ref null $k)) (result i64)
    (local $i i32)
    (local $a f64)
    (local $b f64)
    (local $inside i64)
    (call $keep (local.get $before))
    (loop $again
      (local.set $i (i32.const 50))
      (block $thrown
        (loop $throw
          (br_if $thrown (i32.eqz (local.get $i)))
          (local.set $x
            (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
          (local.set $a
            (f64.mul (f64.convert_i64_u (i64.shr_u (local.get $x) (i64.const 33))) (f64.const 0x1p-31)))
          (local.set $x
            (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
          (local.set $b
            (f64.mul (f64.convert_i64_u (i64.shr_u (local.get $x) (i64.const 33))) (f64.const 0x1p-31)))
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
      (br_if $again (local.tee $batches (i32.sub (local.get $batches) (i32.const 1)))))
    (local.get $inside))
  (elem declare func $task)

  ;; The place of the task that switched last.
  (global $place (mut i32) (i32.const 0))

  ;; Puts the task that switched to the running one, if any, back into its place.
  (func $keep (param $k (ref null $k))
    (if (i32.eqz (ref.is_null (local.get $k)))
      (then (table.set $tasks (global.get $place) (local.get $k)))))

  (func $yield
    (local $place i32)
    (local.set $place (global.get $current))
    (call $advance)
    (if (i32.ne (local.get $place) (global.get $current))
      (then
        (global.set $place (local.get $place))
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
