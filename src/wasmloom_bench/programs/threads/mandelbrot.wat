;; A picture, whose rows threads take from a counter (at 0). At 8: the sum of all iterations; at 16: who has finished.
(module
  (import "env" "memory" (memory 1 1 shared))
  (func $row (param $y i32) (param $size i32) (result i64)
    (local $x i32) (local $n i32) (local $sum i64) (local $ci f64) (local $cr f64)
    (local $r f64) (local $i f64) (local $rr f64) (local $ii f64)
    (local.set $ci (f64.sub (f64.div (f64.convert_i32_u (i32.mul (local.get $y) (i32.const 2)))
                                     (f64.convert_i32_u (local.get $size))) (f64.const 1)))
    (loop $pixels
      (local.set $cr (f64.sub (f64.div (f64.convert_i32_u (i32.mul (local.get $x) (i32.const 2)))
                                       (f64.convert_i32_u (local.get $size))) (f64.const 1.5)))
      (local.set $n (i32.const 0))
      (local.set $r (f64.const 0)) (local.set $i (f64.const 0))
      (local.set $rr (f64.const 0)) (local.set $ii (f64.const 0))
      (loop $again
        (local.set $i (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $r)) (local.get $i)) (local.get $ci)))
        (local.set $r (f64.add (f64.sub (local.get $rr) (local.get $ii)) (local.get $cr)))
        (local.set $rr (f64.mul (local.get $r) (local.get $r)))
        (local.set $ii (f64.mul (local.get $i) (local.get $i)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.and (f64.le (f64.add (local.get $rr) (local.get $ii)) (f64.const 4))
                               (i32.lt_u (local.get $n) (i32.const 100)))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $n))))
      (br_if $pixels (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 1))) (local.get $size))))
    (local.get $sum))
  (func (export "work") (param $number i32) (param $threads i32) (param $size i32)
    (local $y i32) (local $sum i64)
    (block $done
      (loop $again
        (br_if $done (i32.ge_u (local.tee $y (i32.atomic.rmw.add (i32.const 0) (i32.const 1))) (local.get $size)))
        (local.set $sum (i64.add (local.get $sum) (call $row (local.get $y) (local.get $size))))
        (br $again)))
    (drop (i64.atomic.rmw.add (i32.const 8) (local.get $sum)))))
