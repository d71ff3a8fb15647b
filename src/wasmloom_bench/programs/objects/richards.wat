;; Richards: the core of an operating system that schedules tasks of four kinds, by virtual calls. Martin Richards's
;; benchmark, written for this.
(module
  (rec
    (type $packet (struct
      (field $link (mut (ref null $packet))) (field $id (mut i32)) (field $kind i32) (field $at (mut i32))
      (field $data (ref $data))))
    (type $data (array (mut i32)))
    ;; Runs a task with a packet, or none; the control block that goes on.
    (type $runs (func (param (ref $task) (ref null $packet)) (result (ref null $block))))
    (type $table (struct (field $run (ref $runs))))
    (type $task (sub (struct (field $vtable (ref $table)))))
    (type $idle (sub final $task (struct
      (field $vtable (ref $table)) (field $seed (mut i32)) (field $left (mut i32)))))
    (type $device (sub final $task (struct (field $vtable (ref $table)) (field $pending (mut (ref null $packet))))))
    (type $worker (sub final $task (struct
      (field $vtable (ref $table)) (field $to (mut i32)) (field $letter (mut i32)))))
    (type $handler (sub final $task (struct
      (field $vtable (ref $table)) (field $work (mut (ref null $packet))) (field $devices (mut (ref null $packet))))))
    (type $block (struct
      (field $link (ref null $block)) (field $id i32) (field $priority i32) (field $queue (mut (ref null $packet)))
      (field $state (mut i32)) (field $task (ref $task)))))
  (type $blocks (array (mut (ref null $block))))

  (elem declare func $run_idle $run_device $run_worker $run_handler)
  (global $idle_table (ref $table) (struct.new $table (ref.func $run_idle)))
  (global $device_table (ref $table) (struct.new $table (ref.func $run_device)))
  (global $worker_table (ref $table) (struct.new $table (ref.func $run_worker)))
  (global $handler_table (ref $table) (struct.new $table (ref.func $run_handler)))

  (global $blocks (mut (ref null $blocks)) (ref.null $blocks))
  (global $list (mut (ref null $block)) (ref.null $block))
  (global $current (mut (ref null $block)) (ref.null $block))
  (global $current_id (mut i32) (i32.const 0))
  (global $queued (mut i32) (i32.const 0))
  (global $held (mut i32) (i32.const 0))

  ;; --- packets; kinds: 0 of devices, 1 of work ---

  (func $packet (param $link (ref null $packet)) (param $id i32) (param $kind i32) (result (ref $packet))
    (struct.new $packet (local.get $link) (local.get $id) (local.get $kind) (i32.const 0)
      (array.new_default $data (i32.const 4))))

  ;; A queue with a packet at its end.
  (func $add (param $packet (ref $packet)) (param $queue (ref null $packet)) (result (ref $packet))
    (local $at (ref $packet)) (local $next (ref null $packet))
    (struct.set $packet $link (local.get $packet) (ref.null $packet))
    (if (ref.is_null (local.get $queue)) (then (return (local.get $packet))))
    (local.set $at (ref.as_non_null (local.get $queue)))
    (block $end
      (loop $more
        (local.set $next (struct.get $packet $link (local.get $at)))
        (br_if $end (ref.is_null (local.get $next)))
        (local.set $at (ref.as_non_null (local.get $next)))
        (br $more)))
    (struct.set $packet $link (local.get $at) (local.get $packet))
    (ref.as_non_null (local.get $queue)))

  ;; --- control blocks; bits of states: 1 has packets, 2 suspended, 4 held ---

  (func $block (param $id i32) (param $priority i32) (param $queue (ref null $packet)) (param $task (ref $task))
    (global.set $current (struct.new $block
      (global.get $list) (local.get $id) (local.get $priority) (local.get $queue)
      (select (i32.const 2) (i32.const 3) (ref.is_null (local.get $queue)))
      (local.get $task)))
    (global.set $list (global.get $current))
    (array.set $blocks (global.get $blocks) (local.get $id) (global.get $current)))

  (func $run_block (param $block (ref $block)) (result (ref null $block))
    (local $packet (ref null $packet)) (local $task (ref $task))
    (if (i32.eq (struct.get $block $state (local.get $block)) (i32.const 3))
      (then
        (local.set $packet (struct.get $block $queue (local.get $block)))
        (struct.set $block $queue (local.get $block) (struct.get $packet $link (local.get $packet)))
        (struct.set $block $state (local.get $block)
          (i32.eqz (ref.is_null (struct.get $block $queue (local.get $block)))))))
    (local.set $task (struct.get $block $task (local.get $block)))
    (call_ref $runs (local.get $task) (local.get $packet)
      (struct.get $table $run (struct.get $task $vtable (local.get $task)))))

  (func $enqueue (param $block (ref $block)) (param $packet (ref $packet)) (result (ref null $block))
    (if (ref.is_null (struct.get $block $queue (local.get $block)))
      (then
        (struct.set $block $queue (local.get $block) (local.get $packet))
        (struct.set $block $state (local.get $block)
          (i32.or (struct.get $block $state (local.get $block)) (i32.const 1)))
        (if (i32.gt_s (struct.get $block $priority (local.get $block))
              (struct.get $block $priority (global.get $current)))
          (then (return (local.get $block)))))
      (else
        (struct.set $block $queue (local.get $block)
          (call $add (local.get $packet) (struct.get $block $queue (local.get $block))))))
    (global.get $current))

  ;; --- what tasks ask for ---

  (func $release (param $id i32) (result (ref null $block))
    (local $block (ref null $block))
    (local.set $block (array.get $blocks (global.get $blocks) (local.get $id)))
    (if (ref.is_null (local.get $block)) (then (return (local.get $block))))
    (struct.set $block $state (local.get $block)
      (i32.and (struct.get $block $state (local.get $block)) (i32.const -5)))
    (select (result (ref null $block)) (local.get $block) (global.get $current)
      (i32.gt_s (struct.get $block $priority (local.get $block)) (struct.get $block $priority (global.get $current)))))

  (func $hold (result (ref null $block))
    (global.set $held (i32.add (global.get $held) (i32.const 1)))
    (struct.set $block $state (global.get $current)
      (i32.or (struct.get $block $state (global.get $current)) (i32.const 4)))
    (struct.get $block $link (global.get $current)))

  (func $suspend (result (ref null $block))
    (struct.set $block $state (global.get $current)
      (i32.or (struct.get $block $state (global.get $current)) (i32.const 2)))
    (global.get $current))

  (func $queue (param $packet (ref $packet)) (result (ref null $block))
    (local $block (ref null $block))
    (local.set $block (array.get $blocks (global.get $blocks) (struct.get $packet $id (local.get $packet))))
    (if (ref.is_null (local.get $block)) (then (return (local.get $block))))
    (global.set $queued (i32.add (global.get $queued) (i32.const 1)))
    (struct.set $packet $link (local.get $packet) (ref.null $packet))
    (struct.set $packet $id (local.get $packet) (global.get $current_id))
    (call $enqueue (ref.as_non_null (local.get $block)) (local.get $packet)))

  ;; --- tasks ---

  (func $run_idle (type $runs)
    (local $task (ref $idle))
    (local.set $task (ref.cast (ref $idle) (local.get 0)))
    (struct.set $idle $left (local.get $task) (i32.sub (struct.get $idle $left (local.get $task)) (i32.const 1)))
    (if (i32.eqz (struct.get $idle $left (local.get $task))) (then (return (call $hold))))
    (if (result (ref null $block)) (i32.and (struct.get $idle $seed (local.get $task)) (i32.const 1))
      (then
        (struct.set $idle $seed (local.get $task)
          (i32.xor (i32.shr_u (struct.get $idle $seed (local.get $task)) (i32.const 1)) (i32.const 0xD008)))
        (call $release (i32.const 5)))
      (else
        (struct.set $idle $seed (local.get $task)
          (i32.shr_u (struct.get $idle $seed (local.get $task)) (i32.const 1)))
        (call $release (i32.const 4)))))

  (func $run_device (type $runs)
    (local $task (ref $device)) (local $packet (ref null $packet))
    (local.set $task (ref.cast (ref $device) (local.get 0)))
    (if (ref.is_null (local.get 1))
      (then
        (local.set $packet (struct.get $device $pending (local.get $task)))
        (if (ref.is_null (local.get $packet)) (then (return (call $suspend))))
        (struct.set $device $pending (local.get $task) (ref.null $packet))
        (return (call $queue (ref.as_non_null (local.get $packet))))))
    (struct.set $device $pending (local.get $task) (local.get 1))
    (call $hold))

  (func $run_worker (type $runs)
    (local $task (ref $worker)) (local $packet (ref $packet)) (local $i i32) (local $letter i32)
    (local.set $task (ref.cast (ref $worker) (local.get 0)))
    (if (ref.is_null (local.get 1)) (then (return (call $suspend))))
    (local.set $packet (ref.as_non_null (local.get 1)))
    (struct.set $worker $to (local.get $task) (i32.sub (i32.const 5) (struct.get $worker $to (local.get $task))))
    (struct.set $packet $id (local.get $packet) (struct.get $worker $to (local.get $task)))
    (struct.set $packet $at (local.get $packet) (i32.const 0))
    (local.set $letter (struct.get $worker $letter (local.get $task)))
    (loop $letters
      (local.set $letter (i32.add (local.get $letter) (i32.const 1)))
      (if (i32.gt_s (local.get $letter) (i32.const 26)) (then (local.set $letter (i32.const 1))))
      (array.set $data (struct.get $packet $data (local.get $packet)) (local.get $i) (local.get $letter))
      (br_if $letters (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
    (struct.set $worker $letter (local.get $task) (local.get $letter))
    (call $queue (local.get $packet)))

  (func $run_handler (type $runs)
    (local $task (ref $handler)) (local $work (ref null $packet)) (local $packet (ref null $packet)) (local $at i32)
    (local.set $task (ref.cast (ref $handler) (local.get 0)))
    (if (i32.eqz (ref.is_null (local.get 1)))
      (then
        (if (struct.get $packet $kind (local.get 1))
          (then (struct.set $handler $work (local.get $task)
            (call $add (ref.as_non_null (local.get 1)) (struct.get $handler $work (local.get $task)))))
          (else (struct.set $handler $devices (local.get $task)
            (call $add (ref.as_non_null (local.get 1)) (struct.get $handler $devices (local.get $task))))))))
    (local.set $work (struct.get $handler $work (local.get $task)))
    (if (i32.eqz (ref.is_null (local.get $work)))
      (then
        (local.set $at (struct.get $packet $at (local.get $work)))
        (if (i32.lt_s (local.get $at) (i32.const 4))
          (then
            (local.set $packet (struct.get $handler $devices (local.get $task)))
            (if (i32.eqz (ref.is_null (local.get $packet)))
              (then
                (struct.set $handler $devices (local.get $task) (struct.get $packet $link (local.get $packet)))
                (struct.set $packet $at (local.get $packet)
                  (array.get $data (struct.get $packet $data (local.get $work)) (local.get $at)))
                (struct.set $packet $at (local.get $work) (i32.add (local.get $at) (i32.const 1)))
                (return (call $queue (ref.as_non_null (local.get $packet)))))))
          (else
            (struct.set $handler $work (local.get $task) (struct.get $packet $link (local.get $work)))
            (return (call $queue (ref.as_non_null (local.get $work))))))))
    (call $suspend))

  (func $schedule
    (local $block (ref null $block)) (local $state i32)
    (global.set $current (global.get $list))
    (block $end
      (loop $more
        (local.set $block (global.get $current))
        (br_if $end (ref.is_null (local.get $block)))
        (local.set $state (struct.get $block $state (local.get $block)))
        (if (i32.or (i32.and (local.get $state) (i32.const 4)) (i32.eq (local.get $state) (i32.const 2)))
          (then (global.set $current (struct.get $block $link (local.get $block))))
          (else
            (global.set $current_id (struct.get $block $id (local.get $block)))
            (global.set $current (call $run_block (ref.as_non_null (local.get $block))))))
        (br $more))))

  (func $once
    (global.set $blocks (array.new_default $blocks (i32.const 6)))
    (global.set $list (ref.null $block))
    (call $block (i32.const 0) (i32.const 0) (ref.null $packet)
      (struct.new $idle (global.get $idle_table) (i32.const 1) (i32.const 1000)))
    (struct.set $block $state (global.get $current) (i32.const 0))
    (call $block (i32.const 1) (i32.const 1000)
      (call $packet (call $packet (ref.null $packet) (i32.const 1) (i32.const 1)) (i32.const 1) (i32.const 1))
      (struct.new $worker (global.get $worker_table) (i32.const 2) (i32.const 0)))
    (call $block (i32.const 2) (i32.const 2000) (call $three (i32.const 4))
      (struct.new $handler (global.get $handler_table) (ref.null $packet) (ref.null $packet)))
    (call $block (i32.const 3) (i32.const 3000) (call $three (i32.const 5))
      (struct.new $handler (global.get $handler_table) (ref.null $packet) (ref.null $packet)))
    (call $block (i32.const 4) (i32.const 4000) (ref.null $packet)
      (struct.new $device (global.get $device_table) (ref.null $packet)))
    (call $block (i32.const 5) (i32.const 5000) (ref.null $packet)
      (struct.new $device (global.get $device_table) (ref.null $packet)))
    (call $schedule))

  (func $three (param $id i32) (result (ref $packet))
    (call $packet
      (call $packet (call $packet (ref.null $packet) (local.get $id) (i32.const 0)) (local.get $id) (i32.const 0))
      (local.get $id) (i32.const 0)))

  ;; A thousand times the packets queued, and the tasks held, in so many rounds.
  (func (export "run") (param $rounds i32) (result i32)
    (global.set $queued (i32.const 0))
    (global.set $held (i32.const 0))
    (loop $again
      (call $once)
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i32.add (i32.mul (global.get $queued) (i32.const 1000)) (global.get $held))))
