;; A tree of actors, ten children each, n levels of them: the leaves send their number, the others the sum of what
;; their children sent. With n = 6 there are a million leaves. Answer: 10^n (10^n - 1) / 2.
(module
  (type $start (func (param i32 i64)))
  (type $rest (func))
  (type $k0 (cont $start))
  (type $k (cont $rest))
  (tag $send (param i64))

  (func $actor (param $level i32) (param $number i64)
    (suspend $send (call $sum (local.get $level) (local.get $number))))
  (elem declare func $actor)

  (func $sum (param $level i32) (param $number i64) (result i64)
    (local $child i64)
    (local $end i64)
    (local $sum i64)
    (local $k (ref null $k))
    (if (i32.eqz (local.get $level)) (then (return (local.get $number))))
    (local.set $level (i32.sub (local.get $level) (i32.const 1)))
    (local.set $child (i64.mul (local.get $number) (i64.const 10)))
    (local.set $end (i64.add (local.get $child) (i64.const 10)))
    (loop $children
      (block $sent (result i64 (ref $k))
        (resume $k0 (on $send $sent)
          (local.get $level) (local.get $child) (cont.new $k0 (ref.func $actor)))
        (unreachable))
      (local.set $k)
      (local.set $sum (i64.add (local.get $sum)))
      (resume $k (local.get $k))
      (br_if $children
        (i64.ne (local.tee $child (i64.add (local.get $child) (i64.const 1))) (local.get $end))))
    (local.get $sum))

  (func (export "run") (param $n i32) (result i64)
    (call $sum (local.get $n) (i64.const 0))))
