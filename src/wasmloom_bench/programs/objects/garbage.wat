;; Allocates many bytes of which few live: short lists, arrays, and a table of what lasts for a while.
(module
  (type $cell (struct (field $n i64) (field $next (ref null $cell))))
  (type $bytes (array (mut i8)))
  (type $kept (struct (field $cells (ref null $cell)) (field $bytes (ref $bytes))))
  (type $keeps (array (mut (ref null $kept))))
  (global $keeps (mut (ref null $keeps)) (ref.null $keeps))

  ;; Makes so many of 40 cells of 24 bytes, an array of 1,024 bytes and its header, and 24 bytes that hold these; each
  ;; takes the place of one made `lasting` rounds before.
  (func (export "run") (param $rounds i32) (param $lasting i32) (result i32)
    (local $i i32) (local $k i32) (local $cells (ref null $cell)) (local $bytes (ref $bytes)) (local $sum i32)
    (local $old (ref null $kept))
    (global.set $keeps (array.new_default $keeps (local.get $lasting)))
    (loop $again
      (local.set $cells (ref.null $cell))
      (local.set $k (i32.const 40))
      (loop $cells
        (local.set $cells (struct.new $cell (i64.extend_i32_u (local.get $i)) (local.get $cells)))
        (br_if $cells (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $bytes (array.new_default $bytes (i32.const 1024)))
      (array.set $bytes (local.get $bytes) (i32.const 1023) (local.get $i))
      (local.set $k (i32.rem_u (local.get $i) (local.get $lasting)))
      (local.set $old (array.get $keeps (global.get $keeps) (local.get $k)))
      (if (i32.eqz (ref.is_null (local.get $old)))
        (then
          (local.set $sum
            (i32.add (local.get $sum)
              (i32.add
                (i32.wrap_i64 (struct.get $cell $n (struct.get $cell $next (struct.get $kept $cells (local.get $old)))))
                (array.get_u $bytes (struct.get $kept $bytes (local.get $old)) (i32.const 1023)))))))
      (array.set $keeps (global.get $keeps) (local.get $k)
        (struct.new $kept (local.get $cells) (local.get $bytes)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $rounds))))
    (local.get $sum)))
