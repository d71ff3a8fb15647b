;; Many continuations that are alive at once. `fill` makes n of them and runs each up to a suspension that is `depth`
;; calls deep, `drain` resumes all to their end in another order, `cycle` creates continuations, runs each to its first
;; suspension and abandons it.
;;
;; Continuation i suspends with i, is resumed with a value v, and ends with 3 i + v. `drain` visits the places
;; 0, s, 2 s, ... modulo n, where the step s has no divisor in common with n, and resumes the k-th with k: each answer
;; counts. Answer of fill and cycle: the sum of what was suspended with; of drain: the sum of the results.
(module
  (type $body (func (param i64 i32) (result i64)))
  (type $k0 (cont $body))
  (type $rest (func (param i64) (result i64)))
  (type $k (cont $rest))
  (tag $pause (param i64) (result i64))
  (table $all 0 (ref null $k))

  (func $deep (param $i i64) (param $depth i32) (result i64)
    (if (local.get $depth)
      (then
        (return
          (i64.add
            (call $deep (local.get $i) (i32.sub (local.get $depth) (i32.const 1)))
            (i64.const 0)))))
    (i64.add (suspend $pause (local.get $i)) (i64.mul (local.get $i) (i64.const 3))))
  (elem declare func $deep)

  (func (export "fill") (param $n i32) (param $depth i32) (result i64)
    (local $i i32)
    (local $sum i64)
    (local $k (ref null $k))
    (if (i32.lt_u (table.size $all) (local.get $n))
      (then
        (if (i32.eq
              (table.grow $all (ref.null $k) (i32.sub (local.get $n) (table.size $all)))
              (i32.const -1))
          (then (unreachable)))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $n)))
        (block $paused (result i64 (ref $k))
          (resume $k0 (on $pause $paused)
            (i64.extend_i32_u (local.get $i)) (local.get $depth) (cont.new $k0 (ref.func $deep)))
          (unreachable))
        (local.set $k)
        (local.set $sum (i64.add (local.get $sum)))
        (table.set $all (local.get $i) (local.get $k))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $sum))

  (func (export "drain") (param $n i32) (param $step i32) (result i64)
    (local $i i32)
    (local $place i64)
    (local $sum i64)
    (local $k (ref null $k))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $n)))
        (local.set $k (table.get $all (i32.wrap_i64 (local.get $place))))
        (table.set $all (i32.wrap_i64 (local.get $place)) (ref.null $k))
        (local.set $sum
          (i64.add
            (local.get $sum)
            (resume $k (i64.extend_i32_u (local.get $i)) (local.get $k))))
        (local.set $place
          (i64.rem_u
            (i64.add (local.get $place) (i64.extend_i32_u (local.get $step)))
            (i64.extend_i32_u (local.get $n))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $sum))

  (func (export "cycle") (param $n i32) (param $depth i32) (result i64)
    (local $i i32)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $n)))
        (block $paused (result i64 (ref $k))
          (resume $k0 (on $pause $paused)
            (i64.extend_i32_u (local.get $i)) (local.get $depth) (cont.new $k0 (ref.func $deep)))
          (unreachable))
        (drop)
        (local.set $sum (i64.add (local.get $sum)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $sum)))
