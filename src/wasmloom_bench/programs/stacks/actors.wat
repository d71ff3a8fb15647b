;; Actors: a ring of 500 of them passes a token n times. A first message tells each its successor; then it forwards
;; what it receives, less one, and whoever gets 0 reports its number. A handler for `spawn`, `send` and `receive` keeps
;; the mailboxes, and who waits for a message. Answer: the number, from 1, of the one that gets 0: n mod 500 + 1.
(module
  (type $actor (func))
  (type $k (cont $actor))
  (type $with_value (func (param i32)))
  (type $kv (cont $with_value))
  (tag $spawn (param (ref $k)) (result i32))
  (tag $send (param i32 i32))
  (tag $receive (result i32))
  (global $winner (mut i32) (i32.const 0))

  ;; A mailbox is 16 bytes: how many messages wait, and two messages; this ring never needs more.
  ;; At 16384: for each place in the queue, which actor stands there.
  (memory 1)
  (table $waiting 501 (ref null $kv))
  (global $actors (mut i32) (i32.const 0))

  (table $queue 512 (ref null $k))
  (global $front (mut i32) (i32.const 0))
  (global $back (mut i32) (i32.const 0))

  (func $enqueue (param $actor i32) (param $k (ref null $k))
    (local $place i32)
    (local.set $place (i32.and (global.get $back) (i32.const 511)))
    (table.set $queue (local.get $place) (local.get $k))
    (i32.store offset=16384 (i32.shl (local.get $place) (i32.const 2)) (local.get $actor))
    (global.set $back (i32.add (global.get $back) (i32.const 1))))

  (func $dequeue (result i32 (ref null $k))
    (local $place i32)
    (local.set $place (i32.and (global.get $front) (i32.const 511)))
    (global.set $front (i32.add (global.get $front) (i32.const 1)))
    (i32.load offset=16384 (i32.shl (local.get $place) (i32.const 2)))
    (table.get $queue (local.get $place)))

  (func $deliver (param $to i32) (param $message i32)
    (local $k (ref null $kv))
    (local $box i32)
    (local.set $k (table.get $waiting (local.get $to)))
    (if (ref.is_null (local.get $k))
      (then
        (local.set $box (i32.shl (local.get $to) (i32.const 4)))
        (i32.store offset=4
          (i32.add (local.get $box) (i32.shl (i32.load (local.get $box)) (i32.const 2)))
          (local.get $message))
        (i32.store (local.get $box) (i32.add (i32.load (local.get $box)) (i32.const 1))))
      (else
        (table.set $waiting (local.get $to) (ref.null $kv))
        (call $enqueue (local.get $to) (cont.bind $kv $k (local.get $message) (local.get $k))))))

  ;; The oldest message of a mailbox that has one.
  (func $take (param $actor i32) (result i32)
    (local $box i32)
    (local.set $box (i32.shl (local.get $actor) (i32.const 4)))
    (i32.load offset=4 (local.get $box))
    (i32.store offset=4 (local.get $box) (i32.load offset=8 (local.get $box)))
    (i32.store (local.get $box) (i32.sub (i32.load (local.get $box)) (i32.const 1))))

  (func $member (param $number i32)
    (local $successor i32)
    (local $token i32)
    (local.set $successor (suspend $receive))
    (loop $next
      (local.set $token (suspend $receive))
      (if (local.get $token)
        (then
          (suspend $send (local.get $successor) (i32.sub (local.get $token) (i32.const 1)))
          (br $next))))
    (global.set $winner (local.get $number)))

  (func $root (param $n i32)
    (local $i i32)
    (local $first i32)
    (local $previous i32)
    (local $actor i32)
    (local.set $i (i32.const 1))
    (loop $next
      (local.set $actor
        (suspend $spawn (cont.bind $kv $k (local.get $i) (cont.new $kv (ref.func $member)))))
      (if (i32.eq (local.get $i) (i32.const 1))
        (then (local.set $first (local.get $actor)))
        (else (suspend $send (local.get $previous) (local.get $actor))))
      (local.set $previous (local.get $actor))
      (br_if $next (i32.le_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 500))))
    (suspend $send (local.get $previous) (local.get $first))
    (suspend $send (local.get $first) (local.get $n)))
  (elem declare func $member $root)

  (func (export "run") (param $n i32) (result i64)
    (local $actor i32)
    (local $next (ref null $k))
    (local $receiver (ref null $kv))
    (table.fill $waiting (i32.const 0) (ref.null $kv) (i32.const 501))
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 16384))
    (global.set $actors (i32.const 1))
    (call $enqueue (i32.const 0) (cont.bind $kv $k (local.get $n) (cont.new $kv (ref.func $root))))
    (block $quiet
      (loop $schedule
        (br_if $quiet (i32.eq (global.get $front) (global.get $back)))
        (call $dequeue)
        (local.set $next)
        (local.set $actor)
        (loop $same
          (block $on_spawn (result (ref $k) (ref $kv))
            (block $on_send (result i32 i32 (ref $k))
              (block $on_receive (result (ref $kv))
                (resume $k (on $spawn $on_spawn) (on $send $on_send) (on $receive $on_receive) (local.get $next))
                (br $schedule))
              (local.set $receiver)
              (if (i32.load (i32.shl (local.get $actor) (i32.const 4)))
                (then
                  (local.set $next (cont.bind $kv $k (call $take (local.get $actor)) (local.get $receiver)))
                  (br $same)))
              (table.set $waiting (local.get $actor) (local.get $receiver))
              (br $schedule))
            (local.set $next)
            (call $deliver)
            (br $same))
          (local.set $receiver)
          (local.set $next)
          (call $enqueue (global.get $actors) (local.get $next))
          (local.set $next (cont.bind $kv $k (global.get $actors) (local.get $receiver)))
          (global.set $actors (i32.add (global.get $actors) (i32.const 1)))
          (br $same))))
    (i64.extend_i32_u (global.get $winner))))
