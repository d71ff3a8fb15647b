;; Very many stacks that take turns in random order. `fill` suspends n continuations, and makes a ring of them that
;; visits all: each knows its successor and nothing else does, so where the next stack lies is only known once the one
;; before has run. `walk` resumes as many of them as it is told, one after the other; each answers with its successor.
;;
;; Answer of both: the sum of what was suspended with. That is the sum of the numbers below n for `fill`, and for each
;; whole round of `walk`.
(module
  (type $body (func (param i32) (result i32)))
  (type $k0 (cont $body))
  (type $rest (func (result i32)))
  (type $k (cont $rest))
  (tag $next (param i32))
  (table $all 0 (ref null $k))
  (memory 0)
  (global $at (mut i32) (i32.const 0))

  (func $visit (param $successor i32) (result i32)
    (loop $again
      (suspend $next (local.get $successor))
      (br $again))
    (unreachable))
  (elem declare func $visit)

  (func (export "fill") (param $n i32) (result i64)
    (local $i i32) (local $j i32) (local $swap i32) (local $random i64) (local $sum i64) (local $k (ref null $k))
    (global.set $at (i32.const 0))
    (drop (table.grow $all (ref.null $k) (i32.sub (local.get $n) (table.size $all))))
    (drop (memory.grow (i32.add (i32.shr_u (local.get $n) (i32.const 14)) (i32.const 1))))
    (loop $number
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $i))
      (br_if $number
        (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    ;; Exchange each place with one before it, never with itself: that makes a single ring.
    (local.set $random (i64.const 88172645463325252))
    (block $mixed
      (loop $mix
        (br_if $mixed (i32.le_u (local.get $i) (i32.const 1)))
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (local.set $random (i64.xor (local.get $random) (i64.shl (local.get $random) (i64.const 13))))
        (local.set $random (i64.xor (local.get $random) (i64.shr_u (local.get $random) (i64.const 7))))
        (local.set $random (i64.xor (local.get $random) (i64.shl (local.get $random) (i64.const 17))))
        (local.set $j (i32.shl
          (i32.wrap_i64 (i64.rem_u (local.get $random) (i64.extend_i32_u (local.get $i)))) (i32.const 2)))
        (local.set $swap (i32.load (local.get $j)))
        (i32.store (local.get $j) (i32.load (i32.shl (local.get $i) (i32.const 2))))
        (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $swap))
        (br $mix)))
    (local.set $i (i32.const 0))
    (loop $start
      (block $suspended (result i32 (ref $k))
        (drop
          (resume $k0 (on $next $suspended)
            (i32.load (i32.shl (local.get $i) (i32.const 2)))
            (cont.new $k0 (ref.func $visit))))
        (unreachable))
      (local.set $k)
      (local.set $sum (i64.add (i64.extend_i32_u) (local.get $sum)))
      (table.set $all (local.get $i) (local.get $k))
      (br_if $start
        (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $sum))

  (func (export "walk") (param $pairs i32) (result i64)
    (local $at i32) (local $successor i32) (local $sum i64) (local $k (ref null $k))
    (local.set $at (global.get $at))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $pairs)))
        (block $suspended (result i32 (ref $k))
          (drop (resume $k (on $next $suspended) (table.get $all (local.get $at))))
          (unreachable))
        (local.set $k)
        (local.set $successor)
        (table.set $all (local.get $at) (local.get $k))
        (local.set $at (local.get $successor))
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $at))))
        (local.set $pairs (i32.sub (local.get $pairs) (i32.const 1)))
        (br $next)))
    (global.set $at (local.get $at))
    (local.get $sum)))
