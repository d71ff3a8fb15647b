;; A hash map of objects, which say themselves what their hash is and whether they are equal, by virtual calls; values
;; are boxes. So do the libraries of languages with classes.
(module
  (rec
    (type $hashes (func (param (ref $object)) (result i32)))
    (type $equals (func (param (ref $object) (ref $object)) (result i32)))
    (type $table (struct (field $hash (ref $hashes)) (field $equal (ref $equals))))
    (type $object (sub (struct (field $vtable (ref $table)))))
    (type $long (sub final $object (struct (field $vtable (ref $table)) (field $value i64))))
    (type $pair (sub final $object (struct (field $vtable (ref $table)) (field $x i32) (field $y i32)))))
  (type $box (struct (field $value i32)))
  (type $entry (struct
    (field $hash i32) (field $key (ref $object)) (field $value (mut (ref $box)))
    (field $next (mut (ref null $entry)))))
  (type $buckets (array (mut (ref null $entry))))
  (type $map (struct (field $buckets (mut (ref $buckets))) (field $size (mut i32))))

  (elem declare func $hash_long $equal_long $hash_pair $equal_pair)
  (global $longs (ref $table) (struct.new $table (ref.func $hash_long) (ref.func $equal_long)))
  (global $pairs (ref $table) (struct.new $table (ref.func $hash_pair) (ref.func $equal_pair)))

  (func $hash_long (type $hashes)
    (local $value i64)
    (local.set $value (struct.get $long $value (ref.cast (ref $long) (local.get 0))))
    (i32.wrap_i64 (i64.xor (local.get $value) (i64.shr_u (local.get $value) (i64.const 32)))))
  (func $equal_long (type $equals)
    (block $other (result (ref $object))
      (return
        (i64.eq
          (struct.get $long $value (br_on_cast_fail $other (ref $object) (ref $long) (local.get 1)))
          (struct.get $long $value (ref.cast (ref $long) (local.get 0))))))
    (drop)
    (i32.const 0))
  (func $hash_pair (type $hashes)
    (local $pair (ref $pair))
    (local.set $pair (ref.cast (ref $pair) (local.get 0)))
    (i32.add (i32.mul (struct.get $pair $x (local.get $pair)) (i32.const 31)) (struct.get $pair $y (local.get $pair))))
  (func $equal_pair (type $equals)
    (local $pair (ref $pair))
    (block $other (result (ref $object))
      (local.set $pair (br_on_cast_fail $other (ref $object) (ref $pair) (local.get 1)))
      (return
        (i32.and
          (i32.eq (struct.get $pair $x (local.get $pair))
            (struct.get $pair $x (ref.cast (ref $pair) (local.get 0))))
          (i32.eq (struct.get $pair $y (local.get $pair))
            (struct.get $pair $y (ref.cast (ref $pair) (local.get 0)))))))
    (drop)
    (i32.const 0))

  (func $hash (param $key (ref $object)) (result i32)
    (local $hash i32)
    (local.set $hash
      (call_ref $hashes (local.get $key)
        (struct.get $table $hash (struct.get $object $vtable (local.get $key)))))
    (i32.xor (local.get $hash) (i32.shr_u (local.get $hash) (i32.const 16))))

  (func $find (param $map (ref $map)) (param $key (ref $object)) (param $hash i32) (result (ref null $entry))
    (local $buckets (ref $buckets)) (local $entry (ref null $entry))
    (local.set $buckets (struct.get $map $buckets (local.get $map)))
    (local.set $entry
      (array.get $buckets (local.get $buckets)
        (i32.and (local.get $hash) (i32.sub (array.len (local.get $buckets)) (i32.const 1)))))
    (block $end
      (loop $next
        (br_if $end (ref.is_null (local.get $entry)))
        (if (i32.eq (struct.get $entry $hash (local.get $entry)) (local.get $hash))
          (then
            (br_if $end
              (call_ref $equals (local.get $key) (struct.get $entry $key (local.get $entry))
                (struct.get $table $equal (struct.get $object $vtable (local.get $key)))))))
        (local.set $entry (struct.get $entry $next (local.get $entry)))
        (br $next)))
    (local.get $entry))

  (func $grow (param $map (ref $map))
    (local $old (ref $buckets)) (local $new (ref $buckets)) (local $i i32) (local $at i32)
    (local $entry (ref null $entry)) (local $next (ref null $entry))
    (local.set $old (struct.get $map $buckets (local.get $map)))
    (local.set $new (array.new_default $buckets (i32.shl (array.len (local.get $old)) (i32.const 1))))
    (loop $buckets
      (local.set $entry (array.get $buckets (local.get $old) (local.get $i)))
      (block $end
        (loop $entries
          (br_if $end (ref.is_null (local.get $entry)))
          (local.set $next (struct.get $entry $next (local.get $entry)))
          (local.set $at
            (i32.and (struct.get $entry $hash (local.get $entry))
              (i32.sub (array.len (local.get $new)) (i32.const 1))))
          (struct.set $entry $next (local.get $entry) (array.get $buckets (local.get $new) (local.get $at)))
          (array.set $buckets (local.get $new) (local.get $at) (local.get $entry))
          (local.set $entry (local.get $next))
          (br $entries)))
      (br_if $buckets
        (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (array.len (local.get $old)))))
    (struct.set $map $buckets (local.get $map) (local.get $new)))

  ;; Add a number to a key's value.
  (func $count (param $map (ref $map)) (param $key (ref $object)) (param $more i32)
    (local $hash i32) (local $entry (ref null $entry)) (local $buckets (ref $buckets)) (local $at i32)
    (local.set $hash (call $hash (local.get $key)))
    (local.set $entry (call $find (local.get $map) (local.get $key) (local.get $hash)))
    (if (ref.is_null (local.get $entry))
      (then
        (if (i32.gt_u (i32.shl (struct.get $map $size (local.get $map)) (i32.const 2))
              (i32.mul (array.len (struct.get $map $buckets (local.get $map))) (i32.const 3)))
          (then (call $grow (local.get $map))))
        (local.set $buckets (struct.get $map $buckets (local.get $map)))
        (local.set $at (i32.and (local.get $hash) (i32.sub (array.len (local.get $buckets)) (i32.const 1))))
        (array.set $buckets (local.get $buckets) (local.get $at)
          (struct.new $entry (local.get $hash) (local.get $key) (struct.new $box (local.get $more))
            (array.get $buckets (local.get $buckets) (local.get $at))))
        (struct.set $map $size (local.get $map)
          (i32.add (struct.get $map $size (local.get $map)) (i32.const 1))))
      (else
        (struct.set $entry $value (local.get $entry)
          (struct.new $box
            (i32.add (local.get $more) (struct.get $box $value (struct.get $entry $value (local.get $entry)))))))))

  (func $get (param $map (ref $map)) (param $key (ref $object)) (result i32)
    (local $entry (ref null $entry))
    (local.set $entry (call $find (local.get $map) (local.get $key) (call $hash (local.get $key))))
    (if (result i32) (ref.is_null (local.get $entry))
      (then (i32.const 0))
      (else (struct.get $box $value (struct.get $entry $value (local.get $entry))))))

  ;; The key of a step: numbers and pairs by turns.
  (func $key (param $seed i32) (result (ref $object))
    (local.set $seed (i32.shr_u (local.get $seed) (i32.const 18)))
    (if (result (ref $object)) (i32.and (local.get $seed) (i32.const 1))
      (then (struct.new $long (global.get $longs) (i64.mul (i64.extend_i32_u (local.get $seed)) (i64.const 0x100000003))))
      (else
        (struct.new $pair (global.get $pairs)
          (i32.shr_u (local.get $seed) (i32.const 7)) (i32.and (local.get $seed) (i32.const 127))))))

  ;; Count so many keys, then ask for as many; what they say, and how many there are.
  (func (export "run") (param $steps i32) (result i32)
    (local $map (ref $map)) (local $i i32) (local $seed i32) (local $sum i32)
    (local.set $map (struct.new $map (array.new_default $buckets (i32.const 16)) (i32.const 0)))
    (loop $counting
      (local.set $seed (i32.add (i32.mul (local.get $seed) (i32.const 1103515245)) (i32.const 12345)))
      (call $count (local.get $map) (call $key (local.get $seed)) (local.get $i))
      (br_if $counting (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $steps))))
    (loop $asking
      (local.set $seed (i32.add (i32.mul (local.get $seed) (i32.const 1103515245)) (i32.const 12345)))
      (local.set $sum (i32.add (local.get $sum) (call $get (local.get $map) (call $key (local.get $seed)))))
      (br_if $asking (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (i32.add (i32.mul (local.get $sum) (i32.const 31)) (struct.get $map $size (local.get $map)))))
