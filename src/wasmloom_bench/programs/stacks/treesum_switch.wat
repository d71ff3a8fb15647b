;; treesum by direct switches. Answer: 2^n (2^n - 1) / 2.
(module
  (rec
    (type $walker_body (func (param (ref null $consumer)) (result i64)))
    (type $walker (cont $walker_body))
    (type $consumer_body (func (param i64 (ref null $walker)) (result i64)))
    (type $consumer (cont $consumer_body)))
  (tag $swap (result i64))
  (global $height (mut i32) (i32.const 0))
  (global $consumer (mut (ref null $consumer)) (ref.null $consumer))

  (func $walk (param $height i32) (param $number i64)
    (if (i32.eqz (local.get $height))
      (then (global.set $consumer (switch $consumer $swap (local.get $number) (global.get $consumer))))
      (else
        (local.set $height (i32.sub (local.get $height) (i32.const 1)))
        (local.set $number (i64.shl (local.get $number) (i64.const 1)))
        (call $walk (local.get $height) (local.get $number))
        (call $walk (local.get $height) (i64.add (local.get $number) (i64.const 1))))))

  ;; After the last leaf it sends -1, and stays suspended.
  (func $walker (type $walker_body) (param $consumer (ref null $consumer)) (result i64)
    (global.set $consumer (local.get $consumer))
    (call $walk (global.get $height) (i64.const 0))
    (drop (switch $consumer $swap (i64.const -1) (global.get $consumer)))
    (unreachable))

  (func $sum (type $consumer_body) (param $number i64) (param $walker (ref null $walker)) (result i64)
    (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (local.get $number)))
      (switch $walker $swap (local.get $walker))
      (local.set $walker)
      (local.set $number)
      (br_if $next (i64.ge_s (local.get $number) (i64.const 0))))
    (local.get $sum))
  (elem declare func $walker $sum)

  (func (export "run") (param $n i32) (result i64)
    (global.set $height (local.get $n))
    (resume $consumer (on $swap switch)
      (i64.const 0)
      (cont.new $walker (ref.func $walker))
      (cont.new $consumer (ref.func $sum)))))
