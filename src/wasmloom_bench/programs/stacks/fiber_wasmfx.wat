;; The functions that fiber_wasmfx.c imports. build.py puts each function with an export into the place of the import
;; of that name, and everything else at the end of the module. $fiber_main is the C function.
(module
  (type $fiber_body (func (param i64) (result i64)))
  (type $fiber_k (cont $fiber_body))
  (tag $fiber_yield (param i64) (result i64))
  (table $fibers 1 (ref null $fiber_k))
  (func $fiber_main (import "c" "fiber_main") (type $fiber_body))
  (elem declare func $fiber_main)

  (func (export "new") (param $number i32)
    (local $size i32)
    (local.set $size (table.size $fibers))
    (if (i32.ge_u (local.get $number) (local.get $size))
      (then (drop (table.grow $fibers (ref.null $fiber_k) (local.get $size)))))
    (table.set $fibers (local.get $number) (cont.new $fiber_k (ref.func $fiber_main))))

  (func (export "resume") (param $value i64) (param $number i32) (result i64)
    (local $k (ref null $fiber_k))
    (block $suspended (result i64 (ref $fiber_k))
      (return
        (resume $fiber_k (on $fiber_yield $suspended)
          (local.get $value)
          (table.get $fibers (local.get $number)))))
    (local.set $k)
    (table.set $fibers (local.get $number) (local.get $k)))

  (func (export "suspend") (param $value i64) (result i64)
    (suspend $fiber_yield (local.get $value))))
