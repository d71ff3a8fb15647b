;; Many connections, few at a time: n workers come and go through 10 000 places. Each is started with its number,
;; yields it, is resumed with the number's complement, uses some stack, and ends with that value.
;; Answer: the sum over all workers of number + (complement & 255), complement = 2^32 - 1 - number.
(module
  (type $body (func (param i32) (result i32)))
  (type $k (cont $body))
  (tag $yield (param i32) (result i32))
  (table $live 10000 (ref null $k))

  ;; Twenty locals and eight calls deep: a few hundred bytes to a few kilobytes of stack, depending on the engine.
  (func $use_stack (param $value i32) (param $depth i32) (result i32)
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
    (local.set 19 (local.get $value))
    (if (local.get $depth)
      (then (local.set 19 (call $use_stack (local.get 19) (i32.sub (local.get $depth) (i32.const 1))))))
    (local.get 19))

  (func $worker (param $number i32) (result i32)
    (i32.and
      (call $use_stack (suspend $yield (local.get $number)) (i32.const 8))
      (i32.const 255)))
  (elem declare func $worker)

  (func (export "run") (param $n i32) (result i64)
    (local $i i32)
    (local $places i32)
    (local $place i32)
    (local $started i32)
    (local $sum i64)
    (local $k (ref null $k))
    (local.set $places (select (local.get $n) (i32.const 10000) (i32.lt_u (local.get $n) (i32.const 10000))))
    (block $all_started
      (loop $start
        (br_if $all_started (i32.eq (local.get $started) (local.get $places)))
        (table.set $live (local.get $started) (cont.new $k (ref.func $worker)))
        (local.set $started (i32.add (local.get $started) (i32.const 1)))
        (br $start)))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $n)))
        (block $yielded (result i32 (ref $k))
          (resume $k (on $yield $yielded) (local.get $i) (table.get $live (local.get $place)))
          (unreachable))
        (local.set $k)
        (local.set $sum (i64.add (i64.extend_i32_u) (local.get $sum)))
        (local.set $sum
          (i64.add
            (local.get $sum)
            (i64.extend_i32_u (resume $k (i32.xor (local.get $i) (i32.const -1)) (local.get $k)))))
        (if (i32.lt_u (local.get $started) (local.get $n))
          (then
            (table.set $live (local.get $place) (cont.new $k (ref.func $worker)))
            (local.set $started (i32.add (local.get $started) (i32.const 1))))
          (else (table.set $live (local.get $place) (ref.null $k))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (local.set $place (i32.add (local.get $place) (i32.const 1)))
        (if (i32.eq (local.get $place) (local.get $places)) (then (local.set $place (i32.const 0))))
        (br $next)))
    (local.get $sum)))
