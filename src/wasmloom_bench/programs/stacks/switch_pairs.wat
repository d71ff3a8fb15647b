;; Two continuations that switch to each other: n times there and n times back. Answer: n.
(module
  (rec
    (type $body (func (param (ref null $k)) (result i64)))
    (type $k (cont $body)))
  (tag $swap (result i64))
  (global $pairs (mut i32) (i32.const 0))

  (func $first (type $body) (param $partner (ref null $k)) (result i64)
    (local $done i32)
    (local.set $partner (cont.new $k (ref.func $second)))
    (loop $again
      (local.set $partner (switch $k $swap (local.get $partner)))
      (br_if $again
        (i32.lt_u (local.tee $done (i32.add (local.get $done) (i32.const 1))) (global.get $pairs))))
    (i64.extend_i32_u (local.get $done)))

  (func $second (type $body) (param $partner (ref null $k)) (result i64)
    (loop $again
      (local.set $partner (switch $k $swap (local.get $partner)))
      (br $again))
    (unreachable))
  (elem declare func $first $second)

  (func (export "run") (param $n i32) (result i64)
    (global.set $pairs (local.get $n))
    (resume $k (on $swap switch) (ref.null $k) (cont.new $k (ref.func $first)))))
