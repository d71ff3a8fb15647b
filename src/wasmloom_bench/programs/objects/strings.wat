;; Strings: a builder that grows, and text that is cut into pieces, read and compared.
(module
  (type $string (array (mut i8)))
  (type $builder (struct (field $text (mut (ref $string))) (field $length (mut i32))))
  (type $list (array (mut (ref null $string))))

  (func $make_room (param $builder (ref $builder)) (param $more i32)
    (local $wanted i32) (local $room i32) (local $larger (ref $string))
    (local.set $wanted (i32.add (struct.get $builder $length (local.get $builder)) (local.get $more)))
    (local.set $room (array.len (struct.get $builder $text (local.get $builder))))
    (if (i32.gt_u (local.get $wanted) (local.get $room))
      (then
        (local.set $room (i32.shl (local.get $room) (i32.const 1)))
        (local.set $larger (array.new_default $string
          (select (local.get $wanted) (local.get $room) (i32.gt_u (local.get $wanted) (local.get $room)))))
        (array.copy $string $string (local.get $larger) (i32.const 0)
          (struct.get $builder $text (local.get $builder)) (i32.const 0)
          (struct.get $builder $length (local.get $builder)))
        (struct.set $builder $text (local.get $builder) (local.get $larger)))))

  (func $add_byte (param $builder (ref $builder)) (param $byte i32)
    (call $make_room (local.get $builder) (i32.const 1))
    (array.set $string (struct.get $builder $text (local.get $builder))
      (struct.get $builder $length (local.get $builder)) (local.get $byte))
    (struct.set $builder $length (local.get $builder)
      (i32.add (struct.get $builder $length (local.get $builder)) (i32.const 1))))

  (func $add (param $builder (ref $builder)) (param $text (ref $string))
    (call $make_room (local.get $builder) (array.len (local.get $text)))
    (array.copy $string $string (struct.get $builder $text (local.get $builder))
      (struct.get $builder $length (local.get $builder)) (local.get $text) (i32.const 0)
      (array.len (local.get $text)))
    (struct.set $builder $length (local.get $builder)
      (i32.add (struct.get $builder $length (local.get $builder)) (array.len (local.get $text)))))

  (func $part (param $text (ref $string)) (param $start i32) (param $end i32) (result (ref $string))
    (local $made (ref $string))
    (local.set $made (array.new_default $string (i32.sub (local.get $end) (local.get $start))))
    (array.copy $string $string (local.get $made) (i32.const 0) (local.get $text) (local.get $start)
      (i32.sub (local.get $end) (local.get $start)))
    (local.get $made))

  ;; A number in digits.
  (func $digits (param $number i32) (result (ref $string))
    (local $length i32) (local $rest i32) (local $made (ref $string))
    (local.set $rest (local.get $number))
    (loop $count
      (local.set $length (i32.add (local.get $length) (i32.const 1)))
      (br_if $count (local.tee $rest (i32.div_u (local.get $rest) (i32.const 10)))))
    (local.set $made (array.new_default $string (local.get $length)))
    (loop $write
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (array.set $string (local.get $made) (local.get $length)
        (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $write (local.get $length)))
    (local.get $made))

  (func $read (param $text (ref $string)) (result i32)
    (local $i i32) (local $number i32)
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $i) (array.len (local.get $text))))
        (local.set $number
          (i32.add (i32.mul (local.get $number) (i32.const 10))
            (i32.sub (array.get_u $string (local.get $text) (local.get $i)) (i32.const 48))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $more)))
    (local.get $number))

  ;; Whether the first string comes before the second one.
  (func $before (param $a (ref $string)) (param $b (ref $string)) (result i32)
    (local $i i32) (local $x i32) (local $y i32)
    (loop $more (result i32)
      (if (i32.ge_u (local.get $i) (array.len (local.get $b))) (then (return (i32.const 0))))
      (if (i32.ge_u (local.get $i) (array.len (local.get $a))) (then (return (i32.const 1))))
      (local.set $x (array.get_u $string (local.get $a) (local.get $i)))
      (local.set $y (array.get_u $string (local.get $b) (local.get $i)))
      (if (i32.ne (local.get $x) (local.get $y)) (then (return (i32.lt_u (local.get $x) (local.get $y)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $more)))

  (func $hash (param $text (ref $string)) (result i32)
    (local $i i32) (local $hash i32)
    (local.set $hash (i32.const 0x811C9DC5))
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $i) (array.len (local.get $text))))
        (local.set $hash
          (i32.mul (i32.xor (local.get $hash) (array.get_u $string (local.get $text) (local.get $i)))
            (i32.const 0x01000193)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $more)))
    (local.get $hash))

  ;; Write so many numbers into one text, cut that at the commas, read what is in between.
  (func (export "run") (param $count i32) (result i32)
    (local $builder (ref $builder)) (local $text (ref $string)) (local $list (ref $list)) (local $i i32)
    (local $start i32) (local $found i32) (local $sum i32)
    (local.set $builder (struct.new $builder (array.new_default $string (i32.const 16)) (i32.const 0)))
    (loop $write
      (call $add (local.get $builder)
        (call $digits (i32.rem_u (i32.mul (local.get $i) (i32.const 7919)) (i32.const 100003))))
      (call $add_byte (local.get $builder) (i32.const 44))
      (br_if $write (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.set $text (call $part (struct.get $builder $text (local.get $builder)) (i32.const 0)
      (struct.get $builder $length (local.get $builder))))
    (local.set $list (array.new_default $list (local.get $count)))
    (local.set $i (i32.const 0))
    (loop $cut
      (if (i32.eq (array.get_u $string (local.get $text) (local.get $i)) (i32.const 44))
        (then
          (array.set $list (local.get $list) (local.get $found)
            (call $part (local.get $text) (local.get $start) (local.get $i)))
          (local.set $found (i32.add (local.get $found) (i32.const 1)))
          (local.set $start (i32.add (local.get $i) (i32.const 1)))))
      (br_if $cut (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (array.len (local.get $text)))))
    (local.set $i (i32.const 1))
    (loop $look
      (local.set $sum
        (i32.add (local.get $sum)
          (select
            (call $read (ref.as_non_null (array.get $list (local.get $list) (local.get $i))))
            (i32.const 1)
            (call $before (ref.as_non_null (array.get $list (local.get $list) (local.get $i)))
              (ref.as_non_null (array.get $list (local.get $list) (i32.sub (local.get $i) (i32.const 1))))))))
      (br_if $look (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $found))))
    (i32.xor (local.get $sum) (call $hash (local.get $text)))))
