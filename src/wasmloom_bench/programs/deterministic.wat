;; What deterministic code does more for: calls, and floats. Every function gives bits that don't depend on the engine.
(module
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "calls") (param $n i32) (result i64)
    (i64.extend_i32_u (call $fib (local.get $n))))

  ;; The sum of x^5 - 3x^3 + x/7 for x = 0, 1/1000, …
  (func (export "polynomial") (param $n i32) (result i64) (local $x f64) (local $s f64) (local $q f64)
    (loop $next
      (local.set $q (f64.mul (local.get $x) (local.get $x)))
      (local.set $s (f64.add (local.get $s)
        (f64.mul (local.get $x)
          (f64.add (f64.div (f64.const 1) (f64.const 7))
            (f64.mul (local.get $q) (f64.sub (local.get $q) (f64.const 3)))))))
      (local.set $x (f64.add (local.get $x) (f64.const 0.001)))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i64.reinterpret_f64 (local.get $s)))

  ;; Points of the Mandelbrot set on a line: how often they may be squared.
  (func (export "mandelbrot") (param $n i32) (result i64)
    (local $x f32) (local $a f32) (local $b f32) (local $t f32) (local $k i32) (local $sum i32)
    (loop $point
      (local.set $x (f32.sub (f32.div (f32.convert_i32_s (local.get $n)) (f32.const 400)) (f32.const 2)))
      (local.set $a (f32.const 0))
      (local.set $b (f32.const 0))
      (local.set $k (i32.const 64))
      (block $out
        (loop $square
          (local.set $t (f32.sub (f32.mul (local.get $a) (local.get $a)) (f32.mul (local.get $b) (local.get $b))))
          (local.set $b (f32.add (f32.mul (f32.add (local.get $a) (local.get $a)) (local.get $b)) (f32.const 0.25)))
          (local.set $a (f32.add (local.get $t) (local.get $x)))
          (br_if $out (f32.gt (f32.abs (local.get $a)) (f32.const 4)))
          (br_if $square (local.tee $k (i32.sub (local.get $k) (i32.const 1))))))
      (local.set $sum (i32.add (local.get $sum) (local.get $k)))
      (br_if $point (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i64.extend_i32_u (local.get $sum)))

  ;; Four numbers at once: x := (x + 1/x) / 2 approaches 1.
  (func (export "vectors") (param $n i32) (result i64) (local $x v128)
    (local.set $x (v128.const f32x4 2 3 0.5 10))
    (loop $next
      (local.set $x (f32x4.mul (v128.const f32x4 0.5 0.5 0.5 0.5)
        (f32x4.add (local.get $x) (f32x4.div (v128.const f32x4 1 1 1 1) (local.get $x)))))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i64x2.extract_lane 1 (local.get $x)))

  ;; Integers only: nothing is done besides.
  (func (export "integers") (param $n i32) (result i64) (local $x i64)
    (local.set $x (i64.const 88172645463325252))
    (loop $next
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x)))
