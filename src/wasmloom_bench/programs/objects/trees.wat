;; Binary trees: many small ones that are soon dropped, beside a large one that lives on.
(module
  (type $tree (struct (field $left (ref null $tree)) (field $right (ref null $tree))))

  (func $make (param $depth i32) (result (ref $tree))
    (if (result (ref $tree)) (local.get $depth)
      (then
        (struct.new $tree
          (call $make (i32.sub (local.get $depth) (i32.const 1)))
          (call $make (i32.sub (local.get $depth) (i32.const 1)))))
      (else (struct.new_default $tree))))

  (func $count (param $tree (ref $tree)) (result i32)
    (local $left (ref null $tree))
    (local.set $left (struct.get $tree $left (local.get $tree)))
    (if (result i32) (ref.is_null (local.get $left))
      (then (i32.const 1))
      (else
        (i32.add
          (i32.add (i32.const 1) (call $count (ref.as_non_null (local.get $left))))
          (call $count (ref.as_non_null (struct.get $tree $right (local.get $tree))))))))

  ;; All nodes that have been counted.
  (func (export "run") (param $most i32) (result i32)
    (local $depth i32) (local $left i32) (local $sum i32) (local $lasting (ref $tree))
    (local.set $sum (call $count (call $make (i32.add (local.get $most) (i32.const 1)))))
    (local.set $lasting (call $make (local.get $most)))
    (local.set $depth (i32.const 4))
    (loop $depths
      (if (i32.le_u (local.get $depth) (local.get $most))
        (then
          (local.set $left (i32.shl (i32.const 16) (i32.sub (local.get $most) (local.get $depth))))
          (loop $again
            (local.set $sum (i32.add (local.get $sum) (call $count (call $make (local.get $depth)))))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
          (local.set $depth (i32.add (local.get $depth) (i32.const 2)))
          (br $depths))))
    (i32.add (local.get $sum) (call $count (local.get $lasting)))))
