;; A splay tree: nodes with something to carry come and go, so that objects of all ages die.
(module
  (type $numbers (array (mut i32)))
  (type $load (struct (field $numbers (ref $numbers)) (field $left (ref null $load)) (field $right (ref null $load))))
  (type $node (struct
    (field $key i32) (field $load (ref null $load))
    (field $left (mut (ref null $node))) (field $right (mut (ref null $node)))))

  (global $root (mut (ref null $node)) (ref.null $node))
  (global $seed (mut i32) (i32.const 0))

  (func $random (result i32)
    (global.set $seed (i32.add (i32.mul (global.get $seed) (i32.const 1664525)) (i32.const 1013904223)))
    (i32.xor (global.get $seed) (i32.shr_u (global.get $seed) (i32.const 16))))

  (func $load (param $depth i32) (param $key i32) (result (ref $load))
    (local $numbers (ref $numbers)) (local $i i32)
    (local.set $numbers (array.new_default $numbers (i32.const 10)))
    (loop $fill
      (array.set $numbers (local.get $numbers) (local.get $i) (i32.add (local.get $key) (local.get $i)))
      (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10))))
    (if (result (ref $load)) (local.get $depth)
      (then
        (struct.new $load (local.get $numbers)
          (call $load (i32.sub (local.get $depth) (i32.const 1)) (local.get $key))
          (call $load (i32.sub (local.get $depth) (i32.const 1)) (local.get $key))))
      (else (struct.new $load (local.get $numbers) (ref.null $load) (ref.null $load)))))

  ;; Let the node with a key, or one next to it, be the root; from above. The tree isn't empty.
  (func $splay (param $key i32)
    (local $top (ref $node)) (local $left (ref $node)) (local $right (ref $node)) (local $at (ref $node))
    (local $next (ref null $node)) (local $below (ref $node))
    (local.set $top (struct.new_default $node))
    (local.set $left (local.get $top))
    (local.set $right (local.get $top))
    (local.set $at (ref.as_non_null (global.get $root)))
    (block $end
      (loop $down
        (if (i32.lt_u (local.get $key) (struct.get $node $key (local.get $at)))
          (then
            (local.set $next (struct.get $node $left (local.get $at)))
            (br_if $end (ref.is_null (local.get $next)))
            (local.set $below (ref.as_non_null (local.get $next)))
            (if (i32.lt_u (local.get $key) (struct.get $node $key (local.get $below)))
              (then
                (struct.set $node $left (local.get $at) (struct.get $node $right (local.get $below)))
                (struct.set $node $right (local.get $below) (local.get $at))
                (local.set $at (local.get $below))
                (br_if $end (ref.is_null (struct.get $node $left (local.get $at))))))
            (struct.set $node $left (local.get $right) (local.get $at))
            (local.set $right (local.get $at))
            (local.set $at (ref.as_non_null (struct.get $node $left (local.get $at))))
            (br $down)))
        (br_if $end (i32.eq (local.get $key) (struct.get $node $key (local.get $at))))
        (local.set $next (struct.get $node $right (local.get $at)))
        (br_if $end (ref.is_null (local.get $next)))
        (local.set $below (ref.as_non_null (local.get $next)))
        (if (i32.gt_u (local.get $key) (struct.get $node $key (local.get $below)))
          (then
            (struct.set $node $right (local.get $at) (struct.get $node $left (local.get $below)))
            (struct.set $node $left (local.get $below) (local.get $at))
            (local.set $at (local.get $below))
            (br_if $end (ref.is_null (struct.get $node $right (local.get $at))))))
        (struct.set $node $right (local.get $left) (local.get $at))
        (local.set $left (local.get $at))
        (local.set $at (ref.as_non_null (struct.get $node $right (local.get $at))))
        (br $down)))
    (struct.set $node $right (local.get $left) (struct.get $node $left (local.get $at)))
    (struct.set $node $left (local.get $right) (struct.get $node $right (local.get $at)))
    (struct.set $node $left (local.get $at) (struct.get $node $right (local.get $top)))
    (struct.set $node $right (local.get $at) (struct.get $node $left (local.get $top)))
    (global.set $root (local.get $at)))

  ;; Insert a key; whether it wasn't there.
  (func $insert (param $key i32) (result i32)
    (local $node (ref null $node)) (local $root (ref $node))
    (if (ref.is_null (global.get $root))
      (then
        (global.set $root
          (struct.new $node (local.get $key) (call $load (i32.const 2) (local.get $key))
            (ref.null $node) (ref.null $node)))
        (return (i32.const 1))))
    (call $splay (local.get $key))
    (local.set $root (ref.as_non_null (global.get $root)))
    (if (i32.eq (local.get $key) (struct.get $node $key (local.get $root))) (then (return (i32.const 0))))
    (if (i32.gt_u (local.get $key) (struct.get $node $key (local.get $root)))
      (then
        (local.set $node (struct.new $node (local.get $key) (call $load (i32.const 2) (local.get $key))
          (local.get $root) (struct.get $node $right (local.get $root))))
        (struct.set $node $right (local.get $root) (ref.null $node)))
      (else
        (local.set $node (struct.new $node (local.get $key) (call $load (i32.const 2) (local.get $key))
          (struct.get $node $left (local.get $root)) (local.get $root)))
        (struct.set $node $left (local.get $root) (ref.null $node))))
    (global.set $root (local.get $node))
    (i32.const 1))

  ;; Remove a key that is there.
  (func $remove (param $key i32)
    (local $right (ref null $node))
    (call $splay (local.get $key))
    (local.set $right (struct.get $node $right (global.get $root)))
    (if (ref.is_null (struct.get $node $left (global.get $root)))
      (then (global.set $root (local.get $right)))
      (else
        (global.set $root (struct.get $node $left (global.get $root)))
        (call $splay (local.get $key))
        (struct.set $node $right (global.get $root) (local.get $right)))))

  ;; Insert a key that wasn't there.
  (func $insert_random (result i32)
    (local $key i32)
    (loop $again
      (br_if $again (i32.eqz (call $insert (local.tee $key (call $random))))))
    (local.get $key))

  ;; Put another key in the place of the greatest one below it, or itself.
  (func $replace
    (local $key i32) (local $below (ref null $node))
    (local.set $key (call $insert_random))
    (local.set $below (struct.get $node $left (global.get $root)))
    (block $found
      (br_if $found (ref.is_null (local.get $below)))
      (loop $down
        (local.set $key (struct.get $node $key (local.get $below)))
        (local.set $below (struct.get $node $right (local.get $below)))
        (br_if $found (ref.is_null (local.get $below)))
        (br $down)))
    (call $remove (local.get $key)))

  ;; Takes the tree apart; what keys and loads are, in order.
  (func (export "run") (param $size i32) (param $steps i32) (result i32)
    (local $i i32) (local $hash i32) (local $load (ref null $load))
    (global.set $seed (i32.const 42))
    (global.set $root (ref.null $node))
    (loop $grow
      (drop (call $insert_random))
      (br_if $grow (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $size))))
    (loop $change
      (call $replace)
      (br_if $change (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))
    (block $end
      (loop $more
        (br_if $end (ref.is_null (global.get $root)))
        (call $splay (i32.const 0))
        (local.set $load (struct.get $load $right (struct.get $node $load (global.get $root))))
        (local.set $hash
          (i32.add
            (i32.mul (local.get $hash) (i32.const 31))
            (i32.xor (struct.get $node $key (global.get $root))
              (array.get $numbers (struct.get $load $numbers (local.get $load)) (i32.const 9)))))
        (global.set $root (struct.get $node $right (global.get $root)))
        (br $more)))
    (local.get $hash)))
