;; A pipeline of generators: the Fibonacci numbers modulo 2^32, the even ones among them, their squares modulo 2^32,
;; the first n of these. The consumer answers each value with whether to start over: it does so once, after half of
;; them. Answer: the sum of what came out.
(module
  (type $source (func))
  (type $k (cont $source))
  (type $asked (func (param i32)))
  (type $k1 (cont $asked))
  (type $stage (func (param (ref null $k))))
  (type $s (cont $stage))
  ;; Between the stages; and to the consumer, which answers.
  (tag $yield (param i32))
  (tag $out (param i32) (result i32))

  (func $fibonacci
    (local $a i32)
    (local $b i32)
    (local.set $b (i32.const 1))
    (loop $next
      (suspend $yield (local.get $a))
      (local.get $b)
      (local.set $b (i32.add (local.get $a) (local.get $b)))
      (local.set $a)
      (br $next)))

  (func $even (param $from (ref null $k))
    (local $value i32)
    (loop $next
      (block $drawn (result i32 (ref $k))
        (resume $k (on $yield $drawn) (local.get $from))
        (return))
      (local.set $from)
      (local.set $value)
      (br_if $next (i32.and (local.get $value) (i32.const 1)))
      (suspend $yield (local.get $value))
      (br $next)))

  (func $square (param $from (ref null $k))
    (local $value i32)
    (loop $next
      (block $drawn (result i32 (ref $k))
        (resume $k (on $yield $drawn) (local.get $from))
        (return))
      (local.set $from)
      (local.set $value)
      (suspend $yield (i32.mul (local.get $value) (local.get $value)))
      (br $next)))

  (func $start (result (ref $k))
    (cont.bind $s $k
      (cont.bind $s $k (cont.new $k (ref.func $fibonacci)) (cont.new $s (ref.func $even)))
      (cont.new $s (ref.func $square))))

  ;; Passes the pipeline's values on with `out`; what it is answered says whether to build the pipeline anew.
  (func $restartable
    (local $from (ref null $k))
    (loop $again
      (local.set $from (call $start))
      (loop $next
        (block $drawn (result i32 (ref $k))
          (resume $k (on $yield $drawn) (local.get $from))
          (return))
        (local.set $from)
        (br_if $again (suspend $out))
        (br $next))))
  (elem declare func $fibonacci $even $square $restartable)

  (func (export "run") (param $n i32) (result i64)
    (local $i i32)
    (local $k (ref null $k))
    (local $sum i64)
    (local.set $k (cont.new $k (ref.func $restartable)))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $n)))
        (block $got (result i32 (ref $k1))
          (resume $k (on $out $got) (local.get $k))
          (unreachable))
        ;; The answer is bound to the continuation here, for when it will be resumed.
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (local.set $k (call $answer (i32.eq (local.get $i) (i32.shr_u (local.get $n) (i32.const 1)))))
        (local.set $sum (i64.add (i64.extend_i32_u) (local.get $sum)))
        (br $next)))
    (local.get $sum))

  (func $answer (param $k (ref $k1)) (param $again i32) (result (ref $k))
    (cont.bind $k1 $k (local.get $again) (local.get $k))))
