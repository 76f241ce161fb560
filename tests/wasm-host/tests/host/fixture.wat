;; A filter that does what the first letter of the header `x-do` says, to test the host itself.
(module
  (import "env" "proxy_get_header_map_value"
    (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value"
    (func $remove_header (param i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $act_for (param i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_every (param i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function"
    (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "x-do")
  (data (i32.const 8) "x-seen")
  (data (i32.const 16) "x-secret")
  (data (i32.const 24) ":status")
  (data (i32.const 32) "queue")
  (data (i32.const 40) "no coffee here")
  (data (i32.const 56) "result")
  (data (i32.const 64) "control")
  ;; :method GET, :path /, :authority c
  (data (i32.const 128)
    "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00"
    ":method\00GET\00:path\00/\00:authority\00c\00")
  (data (i32.const 256) "set_envoy_filter_state")
  (data (i32.const 288) "\0a\1benvoy.upstream.dynamic_host\12\0a127.64.0.2")
  (data (i32.const 336) "\0a\1benvoy.upstream.dynamic_port\12\048080")
  ;; 512: pointer and size of what the host gives; 520: token or queue; 528: a digit
  (global $heap (mut i32) (i32.const 1024))
  (global $waiting (mut i32) (i32.const 0))
  (global $queue (mut i32) (i32.const 0))

  (func (export "malloc") (param $size i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  ;; A configuration of three bytes is refused.
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $register (i32.const 32) (i32.const 5) (i32.const 520)))
    (global.set $queue (i32.load (i32.const 520)))
    (i32.ne (local.get 1) (i32.const 3)))

  (func $coffee
    (drop (call $reply (i32.const 418) (i32.const 0) (i32.const 0)
      (i32.const 40) (i32.const 14) (i32.const 0) (i32.const 0) (i32.const -1))))
  ;; Leaves a status, as a digit, in the property `result`.
  (func $note (param $status i32)
    (i32.store8 (i32.const 528) (i32.add (local.get $status) (i32.const 48)))
    (drop (call $set_property (i32.const 56) (i32.const 6) (i32.const 528) (i32.const 1))))
  (func $read_do (result i32)
    (call $get_header (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 512) (i32.const 516)))

  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (local $do i32)
    (drop (call $read_do))
    (local.set $do (i32.load8_u (i32.load (i32.const 512))))
    (global.set $waiting (local.get $id))
    (if (i32.eq (local.get $do) (i32.const 97)) ;; a: reply
      (then (call $coffee)))
    (if (i32.eq (local.get $do) (i32.const 50)) ;; 2: reply twice
      (then (call $coffee) (call $coffee)))
    (if (i32.eq (local.get $do) (i32.const 116)) ;; t: trap
      (then (unreachable)))
    (if (i32.eq (local.get $do) (i32.const 114)) ;; r: resume, though nothing is paused
      (then (drop (call $resume (i32.const 0)))))
    (if (i32.eq (local.get $do) (i32.const 117)) ;; u: choose an upstream
      (then
        (call $note (call $foreign (i32.const 256) (i32.const 22) (i32.const 288) (i32.const 41)
          (i32.const 512) (i32.const 516)))
        (drop (call $foreign (i32.const 256) (i32.const 22) (i32.const 336) (i32.const 35)
          (i32.const 512) (i32.const 516)))))
    (if (i32.eq (local.get $do) (i32.const 99)) ;; c: call, and wait
      (then
        (call $note (call $call (i32.const 64) (i32.const 7) (i32.const 128) (i32.const 65)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000)
          (i32.const 520)))
        (return (i32.const 1))))
    (if (i32.eq (local.get $do) (i32.const 113)) ;; q: wait for the queue
      (then
        (drop (call $enqueue (global.get $queue) (i32.const 32) (i32.const 5)))
        (return (i32.const 1))))
    (if (i32.eq (local.get $do) (i32.const 119)) ;; w: wait for a tick
      (then
        (drop (call $tick_every (i32.const 100)))
        (return (i32.const 1))))
    (i32.const 0))

  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (drop (call $get_header (i32.const 6) (i32.const 24) (i32.const 7)
      (i32.const 512) (i32.const 516)))
    (if (i32.eqz (call $act_for (global.get $waiting)))
      (then
        (drop (call $set_header (i32.const 0) (i32.const 8) (i32.const 6)
          (i32.load (i32.const 512)) (i32.load (i32.const 516))))
        (drop (call $resume (i32.const 0))))))

  (func (export "proxy_on_queue_ready") (param i32 i32)
    (drop (call $act_for (global.get $waiting)))
    (drop (call $resume (i32.const 0)))
    ;; The headers are gone now: 2 is BadArgument.
    (call $note (call $read_do)))

  (func (export "proxy_on_tick") (param i32)
    (drop (call $act_for (global.get $waiting)))
    (drop (call $close (i32.const 0))))

  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $remove_header (i32.const 2) (i32.const 16) (i32.const 8)))
    (i32.const 0))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
)
