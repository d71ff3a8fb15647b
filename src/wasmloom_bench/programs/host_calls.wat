;; Calls of the host.
(module
  (import "env" "host_call" (func $host_call (param i64) (result i64)))

  ;; Calls the host as often as asked for.
  (func (export "host_calls") (param $times i64) (result i64)
    (block $done
      (br_if $done (i64.eqz (local.get $times)))
      (loop $again
        (local.set $times (i64.sub (local.get $times) (i64.const 1)))
        (br_if $again (i64.ne (call $host_call (local.get $times)) (i64.const 0)))))
    (local.get $times)))
