;; The price of one switch: a continuation that suspends n times (n > 0), and a loop that resumes it every time.
;; Nothing else happens, no values are passed. Answer: n.
(module
  (type $body (func (result i64)))
  (type $k (cont $body))
  (tag $pause)
  (global $pairs (mut i32) (i32.const 0))

  (func $suspender (result i64)
    (local $left i32)
    (local.set $left (global.get $pairs))
    (loop $again
      (suspend $pause)
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i64.extend_i32_u (i32.sub (global.get $pairs) (local.get $left))))
  (elem declare func $suspender)

  (func (export "run") (param $n i32) (result i64)
    (global.set $pairs (local.get $n))
    (cont.new $k (ref.func $suspender))
    (loop $again (param (ref $k)) (result i64)
      (resume $k (on $pause $again)))))
