;; State as an effect: a function that counts to n knows no variable, only `get` and `put`, and a handler that keeps
;; the state between its resumptions. Answer: n.
(module
  (type $reader (func (param i64) (result i64)))
  (type $writer (func (result i64)))
  (type $kget (cont $reader))
  (type $kput (cont $writer))
  (tag $get (result i64))
  (tag $put (param i64))

  (func $count (param $limit i64) (result i64)
    (block $reached
      (loop $next
        (br_if $reached (i64.ge_u (suspend $get) (local.get $limit)))
        (suspend $put (i64.add (suspend $get) (i64.const 1)))
        (br $next)))
    (suspend $get))
  (elem declare func $count)

  (func (export "run") (param $n i32) (result i64)
    (local $state i64)
    (local $answer i64)
    (local $get (ref null $kget))
    (local $put (ref null $kput))
    (local.set $get (cont.new $kget (ref.func $count)))
    (local.set $answer (i64.extend_i32_u (local.get $n)))
    (loop $after_get
      (block $on_put (result i64 (ref $kput))
        (block $on_get (result (ref $kget))
          (return
            (resume $kget (on $get $on_get) (on $put $on_put) (local.get $answer) (local.get $get))))
        (local.set $get)
        (local.set $answer (local.get $state))
        (br $after_get))
      (loop $after_put (param i64 (ref $kput))
        (local.set $put)
        (local.set $state)
        (block $on_get (result (ref $kget))
          (return (resume $kput (on $get $on_get) (on $put $after_put) (local.get $put))))
        (local.set $get)
        (local.set $answer (local.get $state))
        (br $after_get)))
    (unreachable)))
