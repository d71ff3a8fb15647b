;; Loops and recursion, one small function each.
(module
  ;; Counts up to the limit.
  (func (export "count_until") (param $limit i32) (result i32)
    (local $count i32)
    (loop $again
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br_if $again (i32.ne (local.get $count) (local.get $limit))))
    (local.get $count))

  (func $factorial_recursive (export "factorial_recursive") (param $n i64) (result i64)
    (if (result i64) (i64.eqz (local.get $n))
      (then (i64.const 1))
      (else
        (i64.mul
          (local.get $n)
          (call $factorial_recursive (i64.sub (local.get $n) (i64.const 1)))))))

  (func (export "factorial_optimized") (param $n i64) (result i64)
    (local $product i64)
    (local.set $product (i64.const 1))
    (block $done
      (br_if $done (i64.lt_s (local.get $n) (i64.const 2)))
      (loop $again
        (local.set $product (i64.mul (local.get $product) (local.get $n)))
        (br_if $again
          (i64.gt_s (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 1)))))
    (local.get $product))

  ;; As many nested calls as asked for, then returns through all of them.
  (func $recursive_ok (export "recursive_ok") (param $depth i32) (result i32)
    (if (result i32) (i32.eqz (local.get $depth))
      (then (i32.const 0))
      (else (call $recursive_ok (i32.sub (local.get $depth) (i32.const 1))))))

  ;; As many nested calls as asked for, then traps in the innermost.
  (func $recursive_trap (export "recursive_trap") (param $depth i32) (result i32)
    (if (i32.eqz (local.get $depth)) (then (unreachable)))
    (call $recursive_trap (i32.sub (local.get $depth) (i32.const 1)))))
