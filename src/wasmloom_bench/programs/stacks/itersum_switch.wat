;; itersum by direct switches: consumer and generator are peers below one handler. Answer: n(n-1)/2.
(module
  (rec
    (type $producer_body (func (param (ref null $consumer)) (result i64)))
    (type $producer (cont $producer_body))
    (type $consumer_body (func (param i64 (ref null $producer)) (result i64)))
    (type $consumer (cont $consumer_body)))
  (tag $swap (result i64))

  ;; Never ends; it is left suspended when the consumer has enough.
  (func $range (type $producer_body) (param $consumer (ref null $consumer)) (result i64)
    (local $i i64)
    (loop $next
      (local.set $consumer (switch $consumer $swap (local.get $i) (local.get $consumer)))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br $next))
    (unreachable))

  ;; Starts with how many values to take; each switch then brings one.
  (func $sum (type $consumer_body) (param $left i64) (param $producer (ref null $producer)) (result i64)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $left)))
        (switch $producer $swap (local.get $producer))
        (local.set $producer)
        (local.set $sum (i64.add (local.get $sum)))
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br $next)))
    (local.get $sum))
  (elem declare func $range $sum)

  (func (export "run") (param $n i32) (result i64)
    (resume $consumer (on $swap switch)
      (i64.extend_i32_u (local.get $n))
      (cont.new $producer (ref.func $range))
      (cont.new $consumer (ref.func $sum)))))
