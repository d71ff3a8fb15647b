;; Estimating pi by chance: a hundred tasks in turn, each with random numbers of its own, each throws fifty points and
;; yields, n times (n > 0). Answer: how many of the 5000 n points fell into the quarter circle.
;; Task t starts from the seed t + 1; the generator is x -> 6364136223846793005 x + 1442695040888963407, modulo 2^64,
;; and a coordinate is the upper 31 bits of x over 2^31.
(module
  (type $start (func (param i64 i32) (result i64)))
  (type $rest (func (result i64)))
  (type $k0 (cont $start))
  (type $k (cont $rest))
  (tag $yield)
  (table $tasks 100 (ref null $k))

  (func $task (param $x i64) (param $batches i32) (result i64)
    (local $i i32)
    (local $a f64)
    (local $b f64)
    (local $inside i64)
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
      (suspend $yield)
      (br_if $again (local.tee $batches (i32.sub (local.get $batches) (i32.const 1)))))
    (local.get $inside))
  (elem declare func $task)

  (func (export "run") (param $n i32) (result i64)
    (local $t i32)
    (local $left i32)
    (local $sum i64)
    (local $k (ref null $k))
    (local.set $left (i32.const 100))
    (loop $start
      (table.set $tasks (local.get $t)
        (cont.bind $k0 $k
          (i64.extend_i32_u (i32.add (local.get $t) (i32.const 1)))
          (local.get $n)
          (cont.new $k0 (ref.func $task))))
      (br_if $start (i32.ne (local.tee $t (i32.add (local.get $t) (i32.const 1))) (i32.const 100))))
    (loop $next
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (if (i32.ge_u (local.get $t) (i32.const 100)) (then (local.set $t (i32.const 0))))
      (local.set $k (table.get $tasks (local.get $t)))
      (br_if $next (ref.is_null (local.get $k)))
      (block $yielded (result (ref $k))
        (local.set $sum (i64.add (local.get $sum) (resume $k (on $yield $yielded) (local.get $k))))
        (table.set $tasks (local.get $t) (ref.null $k))
        (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))
        (return (local.get $sum)))
      (local.set $k)
      (table.set $tasks (local.get $t) (local.get $k))
      (br $next))
    (unreachable)))
