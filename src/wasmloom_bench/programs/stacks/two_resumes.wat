;; As suspend_resume, but the function that resumes has two resume instructions, which take turns: an engine that
;; keeps something per function rather than per resume shows it here. Answer: n.
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
    (loop $even (param (ref $k)) (result i64)
      (block $odd (param (ref $k)) (result (ref $k))
        (return (resume $k (on $pause $odd))))
      (resume $k (on $pause $even)))))
