"""The instruction table: opcode, mnemonic, immediates and typing of every instruction.

One row per instruction, in four columns::

    opcode  mnemonic  immediates  : typing

*opcode* is the byte in hexadecimal, or ``prefix/number`` (``FD/12`` has the prefix byte 0xFD and the LEB128 number 12).

*immediates* are separated by ``,``; ``-`` when there are none:

============== =========================================================================================
block          block type
label labels   a label; a vector of labels and a default (``br_table``)
func type table mem tag elem data local global  an index in that space
field          a field index of the preceding ``type``
mem:N          a ``memarg`` whose natural alignment is 2**N bytes
atomic:N       a ``memarg`` that must have that alignment
zero           a byte that is zero, and that the text format doesn't show
lane           a lane number; ``lane:N`` limits it to below N
lanes          sixteen lane numbers (``i8x16.shuffle``)
i32 i64 f32 f64 v128  a constant
u32            a plain number
heap           a heap type
types          a vector of value types (``select``)
catches        the catch clauses of ``try_table``
handlers       the handler clauses of ``resume``
cast           the flags, label and two heap types of ``br_on_cast``
============== =========================================================================================

*typing* is ``params -> results`` in value types, with ``addr`` for the address type of the memory (or table) that the
instruction names; or ``@rule`` for a typing rule that depends on more than the row, written out in
`wasmloom.validation`.

A section heading (``[name]``) names the feature that its rows belong to.

Source: Core 3.0, sections 5.4 and 7 (index of instructions); stack switching Explainer, "Binary format"; threads
proposal, "Spec Changes" to the binary format; wide arithmetic Overview, "Binary Encoding"; the exception handling
proposal's legacy document; custom descriptors Overview, "Binary Format".
"""

from __future__ import annotations

from typing import NamedTuple

_TABLE = """
[mvp]
00 unreachable - : @unreachable
01 nop - : ->
02 block block : @block
03 loop block : @loop
04 if block : @if
05 else - : @else
0B end - : @end
0C br label : @br
0D br_if label : @br_if
0E br_table labels : @br_table
0F return - : @return
10 call func : @call
11 call_indirect type,table : @call_indirect
1A drop - : @drop
1B select - : @select
20 local.get local : @local.get
21 local.set local : @local.set
22 local.tee local : @local.tee
23 global.get global : @global.get
24 global.set global : @global.set
28 i32.load mem:2 : addr -> i32
29 i64.load mem:3 : addr -> i64
2A f32.load mem:2 : addr -> f32
2B f64.load mem:3 : addr -> f64
2C i32.load8_s mem:0 : addr -> i32
2D i32.load8_u mem:0 : addr -> i32
2E i32.load16_s mem:1 : addr -> i32
2F i32.load16_u mem:1 : addr -> i32
30 i64.load8_s mem:0 : addr -> i64
31 i64.load8_u mem:0 : addr -> i64
32 i64.load16_s mem:1 : addr -> i64
33 i64.load16_u mem:1 : addr -> i64
34 i64.load32_s mem:2 : addr -> i64
35 i64.load32_u mem:2 : addr -> i64
36 i32.store mem:2 : addr i32 ->
37 i64.store mem:3 : addr i64 ->
38 f32.store mem:2 : addr f32 ->
39 f64.store mem:3 : addr f64 ->
3A i32.store8 mem:0 : addr i32 ->
3B i32.store16 mem:1 : addr i32 ->
3C i64.store8 mem:0 : addr i64 ->
3D i64.store16 mem:1 : addr i64 ->
3E i64.store32 mem:2 : addr i64 ->
3F memory.size mem : -> addr
40 memory.grow mem : addr -> addr
41 i32.const i32 : -> i32
42 i64.const i64 : -> i64
43 f32.const f32 : -> f32
44 f64.const f64 : -> f64
45 i32.eqz - : i32 -> i32
46 i32.eq - : i32 i32 -> i32
47 i32.ne - : i32 i32 -> i32
48 i32.lt_s - : i32 i32 -> i32
49 i32.lt_u - : i32 i32 -> i32
4A i32.gt_s - : i32 i32 -> i32
4B i32.gt_u - : i32 i32 -> i32
4C i32.le_s - : i32 i32 -> i32
4D i32.le_u - : i32 i32 -> i32
4E i32.ge_s - : i32 i32 -> i32
4F i32.ge_u - : i32 i32 -> i32
50 i64.eqz - : i64 -> i32
51 i64.eq - : i64 i64 -> i32
52 i64.ne - : i64 i64 -> i32
53 i64.lt_s - : i64 i64 -> i32
54 i64.lt_u - : i64 i64 -> i32
55 i64.gt_s - : i64 i64 -> i32
56 i64.gt_u - : i64 i64 -> i32
57 i64.le_s - : i64 i64 -> i32
58 i64.le_u - : i64 i64 -> i32
59 i64.ge_s - : i64 i64 -> i32
5A i64.ge_u - : i64 i64 -> i32
5B f32.eq - : f32 f32 -> i32
5C f32.ne - : f32 f32 -> i32
5D f32.lt - : f32 f32 -> i32
5E f32.gt - : f32 f32 -> i32
5F f32.le - : f32 f32 -> i32
60 f32.ge - : f32 f32 -> i32
61 f64.eq - : f64 f64 -> i32
62 f64.ne - : f64 f64 -> i32
63 f64.lt - : f64 f64 -> i32
64 f64.gt - : f64 f64 -> i32
65 f64.le - : f64 f64 -> i32
66 f64.ge - : f64 f64 -> i32
67 i32.clz - : i32 -> i32
68 i32.ctz - : i32 -> i32
69 i32.popcnt - : i32 -> i32
6A i32.add - : i32 i32 -> i32
6B i32.sub - : i32 i32 -> i32
6C i32.mul - : i32 i32 -> i32
6D i32.div_s - : i32 i32 -> i32
6E i32.div_u - : i32 i32 -> i32
6F i32.rem_s - : i32 i32 -> i32
70 i32.rem_u - : i32 i32 -> i32
71 i32.and - : i32 i32 -> i32
72 i32.or - : i32 i32 -> i32
73 i32.xor - : i32 i32 -> i32
74 i32.shl - : i32 i32 -> i32
75 i32.shr_s - : i32 i32 -> i32
76 i32.shr_u - : i32 i32 -> i32
77 i32.rotl - : i32 i32 -> i32
78 i32.rotr - : i32 i32 -> i32
79 i64.clz - : i64 -> i64
7A i64.ctz - : i64 -> i64
7B i64.popcnt - : i64 -> i64
7C i64.add - : i64 i64 -> i64
7D i64.sub - : i64 i64 -> i64
7E i64.mul - : i64 i64 -> i64
7F i64.div_s - : i64 i64 -> i64
80 i64.div_u - : i64 i64 -> i64
81 i64.rem_s - : i64 i64 -> i64
82 i64.rem_u - : i64 i64 -> i64
83 i64.and - : i64 i64 -> i64
84 i64.or - : i64 i64 -> i64
85 i64.xor - : i64 i64 -> i64
86 i64.shl - : i64 i64 -> i64
87 i64.shr_s - : i64 i64 -> i64
88 i64.shr_u - : i64 i64 -> i64
89 i64.rotl - : i64 i64 -> i64
8A i64.rotr - : i64 i64 -> i64
8B f32.abs - : f32 -> f32
8C f32.neg - : f32 -> f32
8D f32.ceil - : f32 -> f32
8E f32.floor - : f32 -> f32
8F f32.trunc - : f32 -> f32
90 f32.nearest - : f32 -> f32
91 f32.sqrt - : f32 -> f32
92 f32.add - : f32 f32 -> f32
93 f32.sub - : f32 f32 -> f32
94 f32.mul - : f32 f32 -> f32
95 f32.div - : f32 f32 -> f32
96 f32.min - : f32 f32 -> f32
97 f32.max - : f32 f32 -> f32
98 f32.copysign - : f32 f32 -> f32
99 f64.abs - : f64 -> f64
9A f64.neg - : f64 -> f64
9B f64.ceil - : f64 -> f64
9C f64.floor - : f64 -> f64
9D f64.trunc - : f64 -> f64
9E f64.nearest - : f64 -> f64
9F f64.sqrt - : f64 -> f64
A0 f64.add - : f64 f64 -> f64
A1 f64.sub - : f64 f64 -> f64
A2 f64.mul - : f64 f64 -> f64
A3 f64.div - : f64 f64 -> f64
A4 f64.min - : f64 f64 -> f64
A5 f64.max - : f64 f64 -> f64
A6 f64.copysign - : f64 f64 -> f64
A7 i32.wrap_i64 - : i64 -> i32
A8 i32.trunc_f32_s - : f32 -> i32
A9 i32.trunc_f32_u - : f32 -> i32
AA i32.trunc_f64_s - : f64 -> i32
AB i32.trunc_f64_u - : f64 -> i32
AC i64.extend_i32_s - : i32 -> i64
AD i64.extend_i32_u - : i32 -> i64
AE i64.trunc_f32_s - : f32 -> i64
AF i64.trunc_f32_u - : f32 -> i64
B0 i64.trunc_f64_s - : f64 -> i64
B1 i64.trunc_f64_u - : f64 -> i64
B2 f32.convert_i32_s - : i32 -> f32
B3 f32.convert_i32_u - : i32 -> f32
B4 f32.convert_i64_s - : i64 -> f32
B5 f32.convert_i64_u - : i64 -> f32
B6 f32.demote_f64 - : f64 -> f32
B7 f64.convert_i32_s - : i32 -> f64
B8 f64.convert_i32_u - : i32 -> f64
B9 f64.convert_i64_s - : i64 -> f64
BA f64.convert_i64_u - : i64 -> f64
BB f64.promote_f32 - : f32 -> f64
BC i32.reinterpret_f32 - : f32 -> i32
BD i64.reinterpret_f64 - : f64 -> i64
BE f32.reinterpret_i32 - : i32 -> f32
BF f64.reinterpret_i64 - : i64 -> f64
[sign-extension]
C0 i32.extend8_s - : i32 -> i32
C1 i32.extend16_s - : i32 -> i32
C2 i64.extend8_s - : i64 -> i64
C3 i64.extend16_s - : i64 -> i64
C4 i64.extend32_s - : i64 -> i64
[saturating-truncation]
FC/0 i32.trunc_sat_f32_s - : f32 -> i32
FC/1 i32.trunc_sat_f32_u - : f32 -> i32
FC/2 i32.trunc_sat_f64_s - : f64 -> i32
FC/3 i32.trunc_sat_f64_u - : f64 -> i32
FC/4 i64.trunc_sat_f32_s - : f32 -> i64
FC/5 i64.trunc_sat_f32_u - : f32 -> i64
FC/6 i64.trunc_sat_f64_s - : f64 -> i64
FC/7 i64.trunc_sat_f64_u - : f64 -> i64
[bulk-memory]
FC/8 memory.init data,mem : addr i32 i32 ->
FC/9 data.drop data : ->
FC/10 memory.copy mem,mem : @memory.copy
FC/11 memory.fill mem : addr i32 addr ->
FC/12 table.init elem,table : @table.init
FC/13 elem.drop elem : ->
FC/14 table.copy table,table : @table.copy
[wide-arithmetic]
FC/19 i64.add128 - : i64 i64 i64 i64 -> i64 i64
FC/20 i64.sub128 - : i64 i64 i64 i64 -> i64 i64
FC/21 i64.mul_wide_s - : i64 i64 -> i64 i64
FC/22 i64.mul_wide_u - : i64 i64 -> i64 i64
[reference-types]
FC/15 table.grow table : @table.grow
FC/16 table.size table : -> addr
FC/17 table.fill table : @table.fill
25 table.get table : @table.get
26 table.set table : @table.set
1C select types : @select_t
D0 ref.null heap : @ref.null
D1 ref.is_null - : @ref.is_null
D2 ref.func func : @ref.func
[tail-call]
12 return_call func : @return_call
13 return_call_indirect type,table : @return_call_indirect
[function-references]
14 call_ref type : @call_ref
15 return_call_ref type : @return_call_ref
D4 ref.as_non_null - : @ref.as_non_null
D5 br_on_null label : @br_on_null
D6 br_on_non_null label : @br_on_non_null
[exception-handling]
08 throw tag : @throw
0A throw_ref - : @throw_ref
1F try_table block,catches : @try_table
[legacy-exceptions]
06 try block : @try
07 catch tag : @catch
09 rethrow label : @rethrow
18 delegate label : @delegate
19 catch_all - : @catch_all
[stack-switching]
E0 cont.new type : @cont.new
E1 cont.bind type,type : @cont.bind
E2 suspend tag : @suspend
E3 resume type,handlers : @resume
E4 resume_throw type,tag,handlers : @resume_throw
E5 resume_throw_ref type,handlers : @resume_throw_ref
E6 switch type,tag : @switch
[gc]
D3 ref.eq - : @ref.eq
FB/0 struct.new type : @struct.new
FB/1 struct.new_default type : @struct.new_default
FB/2 struct.get type,field : @struct.get
FB/3 struct.get_s type,field : @struct.get_s
FB/4 struct.get_u type,field : @struct.get_u
FB/5 struct.set type,field : @struct.set
FB/6 array.new type : @array.new
FB/7 array.new_default type : @array.new_default
FB/8 array.new_fixed type,u32 : @array.new_fixed
FB/9 array.new_data type,data : @array.new_data
FB/10 array.new_elem type,elem : @array.new_elem
FB/11 array.get type : @array.get
FB/12 array.get_s type : @array.get_s
FB/13 array.get_u type : @array.get_u
FB/14 array.set type : @array.set
FB/15 array.len - : @array.len
FB/16 array.fill type : @array.fill
FB/17 array.copy type,type : @array.copy
FB/18 array.init_data type,data : @array.init_data
FB/19 array.init_elem type,elem : @array.init_elem
FB/20 ref.test heap : @ref.test
FB/21 ref.test_null heap : @ref.test_null
FB/22 ref.cast heap : @ref.cast
FB/23 ref.cast_null heap : @ref.cast_null
FB/24 br_on_cast cast : @br_on_cast
FB/25 br_on_cast_fail cast : @br_on_cast_fail
FB/26 any.convert_extern - : @any.convert_extern
FB/27 extern.convert_any - : @extern.convert_any
FB/28 ref.i31 - : @ref.i31
FB/29 i31.get_s - : @i31.get_s
FB/30 i31.get_u - : @i31.get_u
[custom-descriptors]
FB/32 struct.new_desc type : @struct.new_desc
FB/33 struct.new_default_desc type : @struct.new_default_desc
FB/34 ref.get_desc type : @ref.get_desc
FB/35 ref.cast_desc_eq heap : @ref.cast_desc_eq
FB/36 ref.cast_desc_eq_null heap : @ref.cast_desc_eq_null
FB/37 br_on_cast_desc_eq cast : @br_on_cast_desc_eq
FB/38 br_on_cast_desc_eq_fail cast : @br_on_cast_desc_eq_fail
[simd]
FD/0 v128.load mem:4 : addr -> v128
FD/1 v128.load8x8_s mem:3 : addr -> v128
FD/2 v128.load8x8_u mem:3 : addr -> v128
FD/3 v128.load16x4_s mem:3 : addr -> v128
FD/4 v128.load16x4_u mem:3 : addr -> v128
FD/5 v128.load32x2_s mem:3 : addr -> v128
FD/6 v128.load32x2_u mem:3 : addr -> v128
FD/7 v128.load8_splat mem:0 : addr -> v128
FD/8 v128.load16_splat mem:1 : addr -> v128
FD/9 v128.load32_splat mem:2 : addr -> v128
FD/10 v128.load64_splat mem:3 : addr -> v128
FD/11 v128.store mem:4 : addr v128 ->
FD/12 v128.const v128 : -> v128
FD/13 i8x16.shuffle lanes : v128 v128 -> v128
FD/14 i8x16.swizzle - : v128 v128 -> v128
FD/15 i8x16.splat - : i32 -> v128
FD/16 i16x8.splat - : i32 -> v128
FD/17 i32x4.splat - : i32 -> v128
FD/18 i64x2.splat - : i64 -> v128
FD/19 f32x4.splat - : f32 -> v128
FD/20 f64x2.splat - : f64 -> v128
FD/21 i8x16.extract_lane_s lane:16 : v128 -> i32
FD/22 i8x16.extract_lane_u lane:16 : v128 -> i32
FD/23 i8x16.replace_lane lane:16 : v128 i32 -> v128
FD/24 i16x8.extract_lane_s lane:8 : v128 -> i32
FD/25 i16x8.extract_lane_u lane:8 : v128 -> i32
FD/26 i16x8.replace_lane lane:8 : v128 i32 -> v128
FD/27 i32x4.extract_lane lane:4 : v128 -> i32
FD/28 i32x4.replace_lane lane:4 : v128 i32 -> v128
FD/29 i64x2.extract_lane lane:2 : v128 -> i64
FD/30 i64x2.replace_lane lane:2 : v128 i64 -> v128
FD/31 f32x4.extract_lane lane:4 : v128 -> f32
FD/32 f32x4.replace_lane lane:4 : v128 f32 -> v128
FD/33 f64x2.extract_lane lane:2 : v128 -> f64
FD/34 f64x2.replace_lane lane:2 : v128 f64 -> v128
FD/35 i8x16.eq - : v128 v128 -> v128
FD/36 i8x16.ne - : v128 v128 -> v128
FD/37 i8x16.lt_s - : v128 v128 -> v128
FD/38 i8x16.lt_u - : v128 v128 -> v128
FD/39 i8x16.gt_s - : v128 v128 -> v128
FD/40 i8x16.gt_u - : v128 v128 -> v128
FD/41 i8x16.le_s - : v128 v128 -> v128
FD/42 i8x16.le_u - : v128 v128 -> v128
FD/43 i8x16.ge_s - : v128 v128 -> v128
FD/44 i8x16.ge_u - : v128 v128 -> v128
FD/45 i16x8.eq - : v128 v128 -> v128
FD/46 i16x8.ne - : v128 v128 -> v128
FD/47 i16x8.lt_s - : v128 v128 -> v128
FD/48 i16x8.lt_u - : v128 v128 -> v128
FD/49 i16x8.gt_s - : v128 v128 -> v128
FD/50 i16x8.gt_u - : v128 v128 -> v128
FD/51 i16x8.le_s - : v128 v128 -> v128
FD/52 i16x8.le_u - : v128 v128 -> v128
FD/53 i16x8.ge_s - : v128 v128 -> v128
FD/54 i16x8.ge_u - : v128 v128 -> v128
FD/55 i32x4.eq - : v128 v128 -> v128
FD/56 i32x4.ne - : v128 v128 -> v128
FD/57 i32x4.lt_s - : v128 v128 -> v128
FD/58 i32x4.lt_u - : v128 v128 -> v128
FD/59 i32x4.gt_s - : v128 v128 -> v128
FD/60 i32x4.gt_u - : v128 v128 -> v128
FD/61 i32x4.le_s - : v128 v128 -> v128
FD/62 i32x4.le_u - : v128 v128 -> v128
FD/63 i32x4.ge_s - : v128 v128 -> v128
FD/64 i32x4.ge_u - : v128 v128 -> v128
FD/65 f32x4.eq - : v128 v128 -> v128
FD/66 f32x4.ne - : v128 v128 -> v128
FD/67 f32x4.lt - : v128 v128 -> v128
FD/68 f32x4.gt - : v128 v128 -> v128
FD/69 f32x4.le - : v128 v128 -> v128
FD/70 f32x4.ge - : v128 v128 -> v128
FD/71 f64x2.eq - : v128 v128 -> v128
FD/72 f64x2.ne - : v128 v128 -> v128
FD/73 f64x2.lt - : v128 v128 -> v128
FD/74 f64x2.gt - : v128 v128 -> v128
FD/75 f64x2.le - : v128 v128 -> v128
FD/76 f64x2.ge - : v128 v128 -> v128
FD/77 v128.not - : v128 -> v128
FD/78 v128.and - : v128 v128 -> v128
FD/79 v128.andnot - : v128 v128 -> v128
FD/80 v128.or - : v128 v128 -> v128
FD/81 v128.xor - : v128 v128 -> v128
FD/82 v128.bitselect - : v128 v128 v128 -> v128
FD/83 v128.any_true - : v128 -> i32
FD/84 v128.load8_lane mem:0,lane:16 : addr v128 -> v128
FD/85 v128.load16_lane mem:1,lane:8 : addr v128 -> v128
FD/86 v128.load32_lane mem:2,lane:4 : addr v128 -> v128
FD/87 v128.load64_lane mem:3,lane:2 : addr v128 -> v128
FD/88 v128.store8_lane mem:0,lane:16 : addr v128 ->
FD/89 v128.store16_lane mem:1,lane:8 : addr v128 ->
FD/90 v128.store32_lane mem:2,lane:4 : addr v128 ->
FD/91 v128.store64_lane mem:3,lane:2 : addr v128 ->
FD/92 v128.load32_zero mem:2 : addr -> v128
FD/93 v128.load64_zero mem:3 : addr -> v128
FD/94 f32x4.demote_f64x2_zero - : v128 -> v128
FD/95 f64x2.promote_low_f32x4 - : v128 -> v128
FD/96 i8x16.abs - : v128 -> v128
FD/97 i8x16.neg - : v128 -> v128
FD/98 i8x16.popcnt - : v128 -> v128
FD/99 i8x16.all_true - : v128 -> i32
FD/100 i8x16.bitmask - : v128 -> i32
FD/101 i8x16.narrow_i16x8_s - : v128 v128 -> v128
FD/102 i8x16.narrow_i16x8_u - : v128 v128 -> v128
FD/103 f32x4.ceil - : v128 -> v128
FD/104 f32x4.floor - : v128 -> v128
FD/105 f32x4.trunc - : v128 -> v128
FD/106 f32x4.nearest - : v128 -> v128
FD/107 i8x16.shl - : v128 i32 -> v128
FD/108 i8x16.shr_s - : v128 i32 -> v128
FD/109 i8x16.shr_u - : v128 i32 -> v128
FD/110 i8x16.add - : v128 v128 -> v128
FD/111 i8x16.add_sat_s - : v128 v128 -> v128
FD/112 i8x16.add_sat_u - : v128 v128 -> v128
FD/113 i8x16.sub - : v128 v128 -> v128
FD/114 i8x16.sub_sat_s - : v128 v128 -> v128
FD/115 i8x16.sub_sat_u - : v128 v128 -> v128
FD/116 f64x2.ceil - : v128 -> v128
FD/117 f64x2.floor - : v128 -> v128
FD/118 i8x16.min_s - : v128 v128 -> v128
FD/119 i8x16.min_u - : v128 v128 -> v128
FD/120 i8x16.max_s - : v128 v128 -> v128
FD/121 i8x16.max_u - : v128 v128 -> v128
FD/122 f64x2.trunc - : v128 -> v128
FD/123 i8x16.avgr_u - : v128 v128 -> v128
FD/124 i16x8.extadd_pairwise_i8x16_s - : v128 -> v128
FD/125 i16x8.extadd_pairwise_i8x16_u - : v128 -> v128
FD/126 i32x4.extadd_pairwise_i16x8_s - : v128 -> v128
FD/127 i32x4.extadd_pairwise_i16x8_u - : v128 -> v128
FD/128 i16x8.abs - : v128 -> v128
FD/129 i16x8.neg - : v128 -> v128
FD/130 i16x8.q15mulr_sat_s - : v128 v128 -> v128
FD/131 i16x8.all_true - : v128 -> i32
FD/132 i16x8.bitmask - : v128 -> i32
FD/133 i16x8.narrow_i32x4_s - : v128 v128 -> v128
FD/134 i16x8.narrow_i32x4_u - : v128 v128 -> v128
FD/135 i16x8.extend_low_i8x16_s - : v128 -> v128
FD/136 i16x8.extend_high_i8x16_s - : v128 -> v128
FD/137 i16x8.extend_low_i8x16_u - : v128 -> v128
FD/138 i16x8.extend_high_i8x16_u - : v128 -> v128
FD/139 i16x8.shl - : v128 i32 -> v128
FD/140 i16x8.shr_s - : v128 i32 -> v128
FD/141 i16x8.shr_u - : v128 i32 -> v128
FD/142 i16x8.add - : v128 v128 -> v128
FD/143 i16x8.add_sat_s - : v128 v128 -> v128
FD/144 i16x8.add_sat_u - : v128 v128 -> v128
FD/145 i16x8.sub - : v128 v128 -> v128
FD/146 i16x8.sub_sat_s - : v128 v128 -> v128
FD/147 i16x8.sub_sat_u - : v128 v128 -> v128
FD/148 f64x2.nearest - : v128 -> v128
FD/149 i16x8.mul - : v128 v128 -> v128
FD/150 i16x8.min_s - : v128 v128 -> v128
FD/151 i16x8.min_u - : v128 v128 -> v128
FD/152 i16x8.max_s - : v128 v128 -> v128
FD/153 i16x8.max_u - : v128 v128 -> v128
FD/155 i16x8.avgr_u - : v128 v128 -> v128
FD/156 i16x8.extmul_low_i8x16_s - : v128 v128 -> v128
FD/157 i16x8.extmul_high_i8x16_s - : v128 v128 -> v128
FD/158 i16x8.extmul_low_i8x16_u - : v128 v128 -> v128
FD/159 i16x8.extmul_high_i8x16_u - : v128 v128 -> v128
FD/160 i32x4.abs - : v128 -> v128
FD/161 i32x4.neg - : v128 -> v128
FD/163 i32x4.all_true - : v128 -> i32
FD/164 i32x4.bitmask - : v128 -> i32
FD/167 i32x4.extend_low_i16x8_s - : v128 -> v128
FD/168 i32x4.extend_high_i16x8_s - : v128 -> v128
FD/169 i32x4.extend_low_i16x8_u - : v128 -> v128
FD/170 i32x4.extend_high_i16x8_u - : v128 -> v128
FD/171 i32x4.shl - : v128 i32 -> v128
FD/172 i32x4.shr_s - : v128 i32 -> v128
FD/173 i32x4.shr_u - : v128 i32 -> v128
FD/174 i32x4.add - : v128 v128 -> v128
FD/177 i32x4.sub - : v128 v128 -> v128
FD/181 i32x4.mul - : v128 v128 -> v128
FD/182 i32x4.min_s - : v128 v128 -> v128
FD/183 i32x4.min_u - : v128 v128 -> v128
FD/184 i32x4.max_s - : v128 v128 -> v128
FD/185 i32x4.max_u - : v128 v128 -> v128
FD/186 i32x4.dot_i16x8_s - : v128 v128 -> v128
FD/188 i32x4.extmul_low_i16x8_s - : v128 v128 -> v128
FD/189 i32x4.extmul_high_i16x8_s - : v128 v128 -> v128
FD/190 i32x4.extmul_low_i16x8_u - : v128 v128 -> v128
FD/191 i32x4.extmul_high_i16x8_u - : v128 v128 -> v128
FD/192 i64x2.abs - : v128 -> v128
FD/193 i64x2.neg - : v128 -> v128
FD/195 i64x2.all_true - : v128 -> i32
FD/196 i64x2.bitmask - : v128 -> i32
FD/199 i64x2.extend_low_i32x4_s - : v128 -> v128
FD/200 i64x2.extend_high_i32x4_s - : v128 -> v128
FD/201 i64x2.extend_low_i32x4_u - : v128 -> v128
FD/202 i64x2.extend_high_i32x4_u - : v128 -> v128
FD/203 i64x2.shl - : v128 i32 -> v128
FD/204 i64x2.shr_s - : v128 i32 -> v128
FD/205 i64x2.shr_u - : v128 i32 -> v128
FD/206 i64x2.add - : v128 v128 -> v128
FD/209 i64x2.sub - : v128 v128 -> v128
FD/213 i64x2.mul - : v128 v128 -> v128
FD/214 i64x2.eq - : v128 v128 -> v128
FD/215 i64x2.ne - : v128 v128 -> v128
FD/216 i64x2.lt_s - : v128 v128 -> v128
FD/217 i64x2.gt_s - : v128 v128 -> v128
FD/218 i64x2.le_s - : v128 v128 -> v128
FD/219 i64x2.ge_s - : v128 v128 -> v128
FD/220 i64x2.extmul_low_i32x4_s - : v128 v128 -> v128
FD/221 i64x2.extmul_high_i32x4_s - : v128 v128 -> v128
FD/222 i64x2.extmul_low_i32x4_u - : v128 v128 -> v128
FD/223 i64x2.extmul_high_i32x4_u - : v128 v128 -> v128
FD/224 f32x4.abs - : v128 -> v128
FD/225 f32x4.neg - : v128 -> v128
FD/227 f32x4.sqrt - : v128 -> v128
FD/228 f32x4.add - : v128 v128 -> v128
FD/229 f32x4.sub - : v128 v128 -> v128
FD/230 f32x4.mul - : v128 v128 -> v128
FD/231 f32x4.div - : v128 v128 -> v128
FD/232 f32x4.min - : v128 v128 -> v128
FD/233 f32x4.max - : v128 v128 -> v128
FD/234 f32x4.pmin - : v128 v128 -> v128
FD/235 f32x4.pmax - : v128 v128 -> v128
FD/236 f64x2.abs - : v128 -> v128
FD/237 f64x2.neg - : v128 -> v128
FD/239 f64x2.sqrt - : v128 -> v128
FD/240 f64x2.add - : v128 v128 -> v128
FD/241 f64x2.sub - : v128 v128 -> v128
FD/242 f64x2.mul - : v128 v128 -> v128
FD/243 f64x2.div - : v128 v128 -> v128
FD/244 f64x2.min - : v128 v128 -> v128
FD/245 f64x2.max - : v128 v128 -> v128
FD/246 f64x2.pmin - : v128 v128 -> v128
FD/247 f64x2.pmax - : v128 v128 -> v128
FD/248 i32x4.trunc_sat_f32x4_s - : v128 -> v128
FD/249 i32x4.trunc_sat_f32x4_u - : v128 -> v128
FD/250 f32x4.convert_i32x4_s - : v128 -> v128
FD/251 f32x4.convert_i32x4_u - : v128 -> v128
FD/252 i32x4.trunc_sat_f64x2_s_zero - : v128 -> v128
FD/253 i32x4.trunc_sat_f64x2_u_zero - : v128 -> v128
FD/254 f64x2.convert_low_i32x4_s - : v128 -> v128
FD/255 f64x2.convert_low_i32x4_u - : v128 -> v128
[relaxed-simd]
FD/256 i8x16.relaxed_swizzle - : v128 v128 -> v128
FD/257 i32x4.relaxed_trunc_f32x4_s - : v128 -> v128
FD/258 i32x4.relaxed_trunc_f32x4_u - : v128 -> v128
FD/259 i32x4.relaxed_trunc_f64x2_s_zero - : v128 -> v128
FD/260 i32x4.relaxed_trunc_f64x2_u_zero - : v128 -> v128
FD/261 f32x4.relaxed_madd - : v128 v128 v128 -> v128
FD/262 f32x4.relaxed_nmadd - : v128 v128 v128 -> v128
FD/263 f64x2.relaxed_madd - : v128 v128 v128 -> v128
FD/264 f64x2.relaxed_nmadd - : v128 v128 v128 -> v128
FD/265 i8x16.relaxed_laneselect - : v128 v128 v128 -> v128
FD/266 i16x8.relaxed_laneselect - : v128 v128 v128 -> v128
FD/267 i32x4.relaxed_laneselect - : v128 v128 v128 -> v128
FD/268 i64x2.relaxed_laneselect - : v128 v128 v128 -> v128
FD/269 f32x4.relaxed_min - : v128 v128 -> v128
FD/270 f32x4.relaxed_max - : v128 v128 -> v128
FD/271 f64x2.relaxed_min - : v128 v128 -> v128
FD/272 f64x2.relaxed_max - : v128 v128 -> v128
FD/273 i16x8.relaxed_q15mulr_s - : v128 v128 -> v128
FD/274 i16x8.relaxed_dot_i8x16_i7x16_s - : v128 v128 -> v128
FD/275 i32x4.relaxed_dot_i8x16_i7x16_add_s - : v128 v128 v128 -> v128
[atomics]
FE/0 memory.atomic.notify atomic:2 : addr i32 -> i32
FE/1 memory.atomic.wait32 atomic:2 : addr i32 i64 -> i32
FE/2 memory.atomic.wait64 atomic:3 : addr i64 i64 -> i32
FE/3 atomic.fence zero : ->
FE/16 i32.atomic.load atomic:2 : addr -> i32
FE/17 i64.atomic.load atomic:3 : addr -> i64
FE/18 i32.atomic.load8_u atomic:0 : addr -> i32
FE/19 i32.atomic.load16_u atomic:1 : addr -> i32
FE/20 i64.atomic.load8_u atomic:0 : addr -> i64
FE/21 i64.atomic.load16_u atomic:1 : addr -> i64
FE/22 i64.atomic.load32_u atomic:2 : addr -> i64
FE/23 i32.atomic.store atomic:2 : addr i32 ->
FE/24 i64.atomic.store atomic:3 : addr i64 ->
FE/25 i32.atomic.store8 atomic:0 : addr i32 ->
FE/26 i32.atomic.store16 atomic:1 : addr i32 ->
FE/27 i64.atomic.store8 atomic:0 : addr i64 ->
FE/28 i64.atomic.store16 atomic:1 : addr i64 ->
FE/29 i64.atomic.store32 atomic:2 : addr i64 ->
FE/30 i32.atomic.rmw.add atomic:2 : addr i32 -> i32
FE/31 i64.atomic.rmw.add atomic:3 : addr i64 -> i64
FE/32 i32.atomic.rmw8.add_u atomic:0 : addr i32 -> i32
FE/33 i32.atomic.rmw16.add_u atomic:1 : addr i32 -> i32
FE/34 i64.atomic.rmw8.add_u atomic:0 : addr i64 -> i64
FE/35 i64.atomic.rmw16.add_u atomic:1 : addr i64 -> i64
FE/36 i64.atomic.rmw32.add_u atomic:2 : addr i64 -> i64
FE/37 i32.atomic.rmw.sub atomic:2 : addr i32 -> i32
FE/38 i64.atomic.rmw.sub atomic:3 : addr i64 -> i64
FE/39 i32.atomic.rmw8.sub_u atomic:0 : addr i32 -> i32
FE/40 i32.atomic.rmw16.sub_u atomic:1 : addr i32 -> i32
FE/41 i64.atomic.rmw8.sub_u atomic:0 : addr i64 -> i64
FE/42 i64.atomic.rmw16.sub_u atomic:1 : addr i64 -> i64
FE/43 i64.atomic.rmw32.sub_u atomic:2 : addr i64 -> i64
FE/44 i32.atomic.rmw.and atomic:2 : addr i32 -> i32
FE/45 i64.atomic.rmw.and atomic:3 : addr i64 -> i64
FE/46 i32.atomic.rmw8.and_u atomic:0 : addr i32 -> i32
FE/47 i32.atomic.rmw16.and_u atomic:1 : addr i32 -> i32
FE/48 i64.atomic.rmw8.and_u atomic:0 : addr i64 -> i64
FE/49 i64.atomic.rmw16.and_u atomic:1 : addr i64 -> i64
FE/50 i64.atomic.rmw32.and_u atomic:2 : addr i64 -> i64
FE/51 i32.atomic.rmw.or atomic:2 : addr i32 -> i32
FE/52 i64.atomic.rmw.or atomic:3 : addr i64 -> i64
FE/53 i32.atomic.rmw8.or_u atomic:0 : addr i32 -> i32
FE/54 i32.atomic.rmw16.or_u atomic:1 : addr i32 -> i32
FE/55 i64.atomic.rmw8.or_u atomic:0 : addr i64 -> i64
FE/56 i64.atomic.rmw16.or_u atomic:1 : addr i64 -> i64
FE/57 i64.atomic.rmw32.or_u atomic:2 : addr i64 -> i64
FE/58 i32.atomic.rmw.xor atomic:2 : addr i32 -> i32
FE/59 i64.atomic.rmw.xor atomic:3 : addr i64 -> i64
FE/60 i32.atomic.rmw8.xor_u atomic:0 : addr i32 -> i32
FE/61 i32.atomic.rmw16.xor_u atomic:1 : addr i32 -> i32
FE/62 i64.atomic.rmw8.xor_u atomic:0 : addr i64 -> i64
FE/63 i64.atomic.rmw16.xor_u atomic:1 : addr i64 -> i64
FE/64 i64.atomic.rmw32.xor_u atomic:2 : addr i64 -> i64
FE/65 i32.atomic.rmw.xchg atomic:2 : addr i32 -> i32
FE/66 i64.atomic.rmw.xchg atomic:3 : addr i64 -> i64
FE/67 i32.atomic.rmw8.xchg_u atomic:0 : addr i32 -> i32
FE/68 i32.atomic.rmw16.xchg_u atomic:1 : addr i32 -> i32
FE/69 i64.atomic.rmw8.xchg_u atomic:0 : addr i64 -> i64
FE/70 i64.atomic.rmw16.xchg_u atomic:1 : addr i64 -> i64
FE/71 i64.atomic.rmw32.xchg_u atomic:2 : addr i64 -> i64
FE/72 i32.atomic.rmw.cmpxchg atomic:2 : addr i32 i32 -> i32
FE/73 i64.atomic.rmw.cmpxchg atomic:3 : addr i64 i64 -> i64
FE/74 i32.atomic.rmw8.cmpxchg_u atomic:0 : addr i32 i32 -> i32
FE/75 i32.atomic.rmw16.cmpxchg_u atomic:1 : addr i32 i32 -> i32
FE/76 i64.atomic.rmw8.cmpxchg_u atomic:0 : addr i64 i64 -> i64
FE/77 i64.atomic.rmw16.cmpxchg_u atomic:1 : addr i64 i64 -> i64
FE/78 i64.atomic.rmw32.cmpxchg_u atomic:2 : addr i64 i64 -> i64
"""


class Instruction(NamedTuple):
    """One row of the table.

    `index` is the row's position, the dense number that compiled code uses for the instruction. `prefix` is 0 for
    one-byte opcodes. `params` and `results` are type names (or "addr"); they are empty when `rule` names a typing rule.
    """

    index: int  # type: ignore[assignment]  # hides the tuple's method, which nothing calls
    prefix: int
    opcode: int
    mnemonic: str
    immediates: tuple[str, ...]
    params: tuple[str, ...]
    results: tuple[str, ...]
    rule: str | None
    feature: str


def _parse(table: str) -> tuple[Instruction, ...]:
    rows: list[Instruction] = []
    feature = ""
    for line in table.split("\n"):
        if not line:
            continue
        if line[0] == "[":
            feature = line[1:-1]
            continue
        code, mnemonic, immediates, _, *typing = line.split(" ")
        if "/" in code:
            prefix, opcode = int(code[:2], 16), int(code[3:])
        else:
            prefix, opcode = 0, int(code, 16)
        params: tuple[str, ...] = ()
        results: tuple[str, ...] = ()
        rule = None
        if typing[0][0] == "@":
            rule = typing[0][1:]
        else:
            arrow = typing.index("->")
            params, results = tuple(typing[:arrow]), tuple(typing[arrow + 1 :])
        kinds = () if immediates == "-" else tuple(immediates.split(","))
        rows.append(Instruction(len(rows), prefix, opcode, mnemonic, kinds, params, results, rule, feature))
    return tuple(rows)


#: Every instruction; `INSTRUCTIONS[i].index == i`.
INSTRUCTIONS: tuple[Instruction, ...] = _parse(_TABLE)

#: (prefix, opcode) → instruction.
BY_OPCODE: dict[tuple[int, int], Instruction] = {(row.prefix, row.opcode): row for row in INSTRUCTIONS}

#: Mnemonic → instruction. `select` is the untyped one; the typed one (0x1C) has the same mnemonic.
BY_MNEMONIC: dict[str, Instruction] = {row.mnemonic: row for row in reversed(INSTRUCTIONS)}

#: Instructions that constant expressions consist of (Core 3.0, 3.4.16); `global.get` has conditions of its own.
CONSTANT: frozenset[str] = frozenset(
    (
        "i32.const", "i64.const", "f32.const", "f64.const", "v128.const", "i32.add", "i32.sub", "i32.mul", "i64.add",
        "i64.sub", "i64.mul", "global.get", "ref.null", "ref.func", "ref.i31", "struct.new", "struct.new_default",
        "array.new", "array.new_default", "array.new_fixed", "any.convert_extern", "extern.convert_any", "end",
        "struct.new_desc", "struct.new_default_desc",
    )
)
